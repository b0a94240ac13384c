"""The small network of a measurement: certificates, origins, names. None of it is seen outside of its namespaces."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

API, MORE = "api.side.test", "more.side.test"
ADDRESS = {API: "127.0.0.1", MORE: "127.0.0.2"}
PORT = 443
# Where the proxy listens, and an address whose connections the firewall leads there.
LISTEN, REDIRECTED = 3128, "127.1.0.1"
TOKEN = "side-4b1f0c7e9d2a4c6f8e3b5a7d9c0f1e2d"
AUTHORIZATION = f"Bearer {TOKEN}"
BIG = 100 << 20

ORIGIN = """
daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log crit;
events {{ worker_connections 18000; multi_accept on; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/json;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  keepalive_timeout 900; keepalive_requests 1000000000; open_file_cache max=10; open_file_cache_valid 600;
  ssl_certificate {certs}/origin.pem; ssl_certificate_key {certs}/origin.key;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:o:20m;
  map_hash_bucket_size 256;
  map $http_authorization $known {{ default 0; "{authorization}" 1; }}
  server {{
    listen {address}:{port} ssl http2 backlog=4096; root {dir}/www;
    if ($known = 0) {{ return 401; }}
    location = /small {{ return 200 "{small}"; }}
    location / {{ }}
  }}
}}
"""


class Net:
    """Everything a proxy stands between, and the processes that are measured."""

    def __init__(self, work: Path, side: str, load_cpu: int, proxy_cpu: int):
        self.work, self.side, self.load_cpu, self.proxy_cpu = work, side, load_cpu, proxy_cpu
        self.certs = work / "certs"
        self.running = []
        make_certificates(self.certs)
        self.bind_names()
        self.redirect()
        self.start_origins()

    def bind_names(self):
        """Names of this mount namespace; the machine's own files stay as they are."""
        ours = {
            "/etc/hosts": "127.0.0.1 localhost\n" + "".join(f"{a} {h}\n" for h, a in ADDRESS.items()),
            "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        }
        for path, text in ours.items():
            mine = self.work / Path(path).name
            mine.write_text(text)
            mine.chmod(0o644)
            subprocess.run(["mount", "--bind", mine, os.path.realpath(path)], check=True)

    def redirect(self):
        """As an agent's connections are, that knows of no proxy."""
        rule = f"ip daddr {REDIRECTED} tcp dport {PORT} redirect to :{LISTEN}"
        table = f"table ip side {{\n chain out {{\n type nat hook output priority -100\n {rule}\n }}\n}}\n"
        subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)

    def start_origins(self):
        files = self.work / "origin"
        (files / "www").mkdir(parents=True)
        (files / "www/json").write_text(json_of(10 * 1024))
        (files / "www/big").write_bytes(os.urandom(1 << 20) * (BIG >> 20))
        for folder in (self.work, files, files / "www"):
            folder.chmod(0o755)
        small = "s" * 100
        (files / "nginx.conf").write_text(
            ORIGIN.format(dir=files, certs=self.certs, authorization=AUTHORIZATION, address=ADDRESS[API], port=PORT, small=small)
        )
        certificate = ["--certificate", self.certs / "origin.pem", "--key", self.certs / "origin.key"]
        more = [self.side, "origin", "--listen", f"{ADDRESS[MORE]}:{PORT}", *certificate]
        more += ["--authorization", AUTHORIZATION, "--dns", "127.0.0.1:53"]
        for host, command in ((API, ["nginx", "-p", files, "-c", files / "nginx.conf"]), (MORE, more)):
            process = spawn(command, self.load_cpu, self.work / "origin.log")
            self.running.append(process)
            wait_for((ADDRESS[host], PORT), process, 10)

    def load(self, words, watch=None, limit=240):
        """Runs one load to its end and gives what it printed."""
        command = [self.side, *words]
        if watch:
            command += ["--watch", str(watch)]
        for process in self.running:
            command += ["--origins", str(process.pid)]
        try:
            done = subprocess.run(command, text=True, capture_output=True, timeout=limit, preexec_fn=pinned(self.load_cpu))
            return json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return {"failed": "the load did not come to its end"}
        except ValueError:
            return {"failed": (done.stderr or done.stdout).strip()[-300:]}

    def stop(self):
        for process in self.running:
            end(process)


@contextlib.contextmanager
def laid_out(options):
    """The network of one session, which is gone after it."""
    # However it ends, nothing that it started is left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="keyferry-bench-"))
    network = None
    try:
        network = Net(work, os.environ["SIDE"], options.load_cpu, options.proxy_cpu)
        yield network
    finally:
        if network:
            network.stop()
        shutil.rmtree(work, ignore_errors=True)


def folder_for(options):
    """Where the figures of a session go."""
    out = Path(options.out or Path(os.environ["SIDE_PEERS"]).parent / "bench")
    out.mkdir(parents=True, exist_ok=True)
    return out


def make_certificates(folder: Path):
    """Two authorities, the origins' and the proxies', each with one leaf for every name here."""
    folder.mkdir()
    key = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    for authority, leaf in (("origin-ca", "origin"), ("proxy-ca", "leaf")):
        root = folder / authority
        openssl("genpkey", *key, "-out", f"{root}.key")
        openssl("req", "-x509", "-new", "-key", f"{root}.key", "-days", "30", "-subj", f"/CN={authority}", "-out", f"{root}.pem",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-addext", "subjectKeyIdentifier=hash")  # fmt: skip
        at = folder / leaf
        openssl("genpkey", *key, "-out", f"{at}.key")
        openssl("req", "-new", "-key", f"{at}.key", "-subj", "/CN=side.test", "-out", f"{at}.csr")
        Path(f"{at}.ext").write_text(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
            "subjectAltName=DNS:side.test,DNS:*.side.test\n"
        )
        openssl("x509", "-req", "-in", f"{at}.csr", "-CA", f"{root}.pem", "-CAkey", f"{root}.key", "-CAcreateserial",
                "-days", "20", "-extfile", f"{at}.ext", "-out", f"{at}.pem")  # fmt: skip
    for file in folder.iterdir():
        file.chmod(0o644)


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def json_of(length):
    """A JSON text of so many bytes, as an API would answer."""
    item = '{{"id":{n},"name":"repository-{n}","private":false,"description":"What it is for, in a few words",' \
           '"url":"https://api.side.test/repos/acme/{n}","stars":{n}}}'  # fmt: skip
    items = []
    while sum(map(len, items)) + len(items) < length - 200:
        items.append(item.format(n=len(items) + 1000))
    text = '{"items":[' + ",".join(items) + '],"rest":"'
    return text + "r" * (length - len(text) - 2) + '"}'


def pinned(cpus):
    """For a child: one processor or several, and above whatever else the machine does."""

    def child():
        os.sched_setaffinity(0, {cpus} if isinstance(cpus, int) else cpus)
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -15)

    return child


def spawn(command, cpu, log: Path, env=None, cwd=None):
    with open(log, "ab") as file:
        return subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True, preexec_fn=pinned(cpu), env={**os.environ, **(env or {})}, cwd=cwd,
        )  # fmt: skip


def wait_for(address, process, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} before it listened")
        with contextlib.suppress(OSError):
            socket.create_connection(address, 1).close()
            return
        time.sleep(0.05)
    raise RuntimeError("it does not listen")


def end(process):
    """Ends a process of our own, with the session that it leads."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
