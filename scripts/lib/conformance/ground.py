"""What the suites stand on: a root, origins behind it, Keyferry, and a way in for tools that know no proxy."""

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

KEY = "sk-conf-0a1b2c3d4e5f6a7b8c9d"
STAND_IN = "sk-conf-standin00000000000000"

CONFIG = """\
listen: ["127.0.0.1:{port}"{listen}]
ca: {{ dir: {dir}/ca }}
upstream:
  roots: [{root}]
  resolve: {{ localhost: "127.0.0.1:{origin}" }}
  allow_networks: [127.0.0.0/8]
secrets: {{ key: {{ env: KEYFERRY_CONFORMANCE_KEY, placeholder: {stand_in} }} }}
limits: {{ {limits} }}
rules:
  - {{ host: "localhost:{way}", {rule} }}
  - {{ host: localhost, {rule} }}
audit: {{ file: {dir}/audit.jsonl }}
"""


class Ground:
    """A folder, and every process that is started in it. All end with it."""

    def __init__(self, keyferry, folder):
        self.binary, self.dir = keyferry, Path(folder)
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.children, self.stops = [], []
        self._certificates()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stop in reversed(self.stops):
            stop()
        for child in reversed(self.children):
            self.end(child)

    def _certificates(self):
        """A root, and a certificate below it for `localhost`."""
        def openssl(*args):
            subprocess.run(["openssl", *args], cwd=self.dir, check=True, capture_output=True)

        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *new, "-keyout", "root.key", "-out", "root.pem", "-days", "2", "-subj",
                "/CN=conformance root", "-addext", "keyUsage=critical,keyCertSign")
        openssl("req", *new, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=origin")
        (self.dir / "leaf.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
                                           "authorityKeyIdentifier=keyid\n")
        openssl("x509", "-req", "-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days",
                "2", "-extfile", "leaf.ext", "-out", "leaf.pem")
        self.root, self.cert, self.cert_key = (str(self.dir / name) for name in ("root.pem", "leaf.pem", "leaf.key"))

    def start(self, name, argv, port=None, **options):
        """Starts a program whose output goes to a file of its name, and waits until it listens."""
        log = open(self.dir / f"{name}.log", "ab")
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir,
                                 start_new_session=True, **options)
        self.children.append(child)
        if port:
            self.wait(name, child, port)
        return child

    def wait(self, name, child, port):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if child.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"{name} did not start:\n{(self.dir / f'{name}.log').read_text(errors='replace')[-2000:]}")

    @staticmethod
    def end(child):
        """Ends a process that was started here, and what it started."""
        if child.poll() is not None:
            return
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def keyferry(self, origin, rule, name="keyferry", listen="", limits="head_time: 30s"):
        """Keyferry between a way in and the origin on port `origin`. Both call the host `localhost`."""
        return Keyferry(self, origin, rule, name, listen, limits)


class Keyferry:
    def __init__(self, ground, origin, rule, name, listen, limits):
        self.ground, self.port, self.way = ground, free_port(), free_port()
        home = ground.dir / name
        home.mkdir()
        self.audit = home / "audit.jsonl"
        config = CONFIG.format(port=self.port, dir=home, root=ground.root, origin=origin, way=self.way, rule=rule,
                               listen=listen, limits=limits, stand_in=STAND_IN)
        (home / "keyferry.yaml").write_text(config)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KEYFERRY_CONFORMANCE_KEY": KEY}
        self.child = ground.start(name, [ground.binary, "serve", "--config", str(home / "keyferry.yaml")], self.port,
                                  env=environment)
        told = subprocess.run([ground.binary, "ca", "path", "--config", str(home / "keyferry.yaml")], check=True,
                              capture_output=True, text=True, env=environment)
        self.ca = told.stdout.strip()

    def open_way(self, tls, target=None):
        """A port that leads through CONNECT; with `tls`, through the TLS inside as well. Tools are pointed at it.

        The host is asked for by the same port, or by `target` for tools that leave the port out.
        """
        way = Way(self, tls, target or self.way)
        self.ground.stops.append(way.stop)
        return self.way

    def well(self):
        """Whether it still runs and wrote no panic."""
        log = (self.ground.dir / f"{self.ground_name()}.log").read_text(errors="replace")
        return self.child.poll() is None and "panicked" not in log

    def ground_name(self):
        return self.audit.parent.name

    def descriptors(self):
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def rss(self):
        """Resident memory in KiB."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0


class Relay:
    """A listener in a thread of its own that passes each connection on to another."""

    def __init__(self, port, tls=None):
        self.port, self.tls = port, tls
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.ready.wait(10)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        listening = asyncio.start_server(self._pass, "127.0.0.1", self.port, ssl=self.tls)
        server = self.loop.run_until_complete(listening)
        # Tools break off as they like; that is no news.
        self.loop.set_exception_handler(lambda *_: None)
        self.ready.set()
        self.loop.run_forever()
        server.close()
        passing = asyncio.all_tasks(self.loop)
        for task in passing:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*passing, return_exceptions=True))

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    async def _pass(self, reader, writer):
        try:
            far = await self.connect(reader)
        except (OSError, EOFError, ValueError):
            writer.close()
            return
        try:
            await asyncio.gather(pump(reader, far[1]), pump(far[0], writer), return_exceptions=True)
        finally:
            for one in (writer, far[1]):
                one.close()


class Front(Relay):
    """TLS in front of a server that has none, and that wants to be called by its own port."""

    def __init__(self, ground, behind):
        self.behind = behind
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(ground.cert, ground.cert_key)
        super().__init__(free_port(), tls)
        ground.stops.append(self.stop)

    async def connect(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        far = await asyncio.open_connection("127.0.0.1", self.behind)
        named = re.compile(rb"(?im)^host:.*\r$")
        far[1].write(named.sub(b"Host: localhost:%d\r" % self.behind, head, count=1))
        return far


class Way(Relay):
    """A way through Keyferry for what knows no proxy."""

    def __init__(self, keyferry, tls, target):
        self.proxy, self.target, self.inner = keyferry.port, f"localhost:{target}", None
        if tls:
            self.inner = ssl.create_default_context(cafile=keyferry.ca)
            self.inner.set_alpn_protocols(["http/1.1"])
        super().__init__(keyferry.way)

    async def connect(self, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy)
        writer.write(f"CONNECT {self.target} HTTP/1.1\r\nHost: {self.target}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0] + b" ":
            raise ValueError(head)
        if self.inner:
            await writer.start_tls(self.inner, server_hostname="localhost")
        return reader, writer


async def pump(reader, writer):
    """Passes bytes on until there are no more; then says so, where the other side can be told."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except OSError:
        writer.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
