"""Messages that other people's parsers are tested with, sent as raw bytes through Keyferry.

gunicorn's requests (valid and invalid ones) and the requests and replies of Node's http-parser, as httptools carries
them. At the other end h11 reads what arrives: a parser that shares nothing with Keyferry's. A request counts as passed
when it is refused, or cut, or arrives as one request that h11 reads without complaint.
"""

import re
import socket
import ssl
import threading
import time

import h11

from ground import KEY, free_port
from outcome import Outcome

QUIET = 0.4

KNOWN = {
    "gunicorn's valid requests/099": "its Content-Length is for a body with line ends of its own; the file has none of them",
}


def run(ground, tools, quick):
    outcome = Outcome("vectors", "gunicorn %s, httptools %s" % tuple(
        next(tools.glob(f"corpora/{name}-*")).name.split("-")[-1] for name in ("gunicorn", "httptools")))
    origin = Origin(ground)
    keyferry = ground.keyferry(origin.port, "inject: [{ bearer: key }]")
    agent = Agent(keyferry)
    requests = next(tools.glob("corpora/gunicorn-*")) / "tests/requests"
    for kind in ("invalid", "valid"):
        row = outcome.row(f"gunicorn's {kind} requests")
        files = sorted((requests / kind).glob("*.http"))
        for file in files[:: 4 if quick else 1]:
            play(row, file.stem, written(file.read_bytes()), agent, origin, kind == "valid" and told(file))
    source = next(tools.glob("corpora/httptools-*")) / "vendor/http-parser/test.c"
    requests, replies = split(source.read_text())
    row = outcome.row("http-parser's requests")
    for name, raw in requests[:: 4 if quick else 1]:
        play(row, name, raw, agent, origin, Expected(plain=True))
    row = outcome.row("http-parser's replies")
    for name, raw in replies[:: 4 if quick else 1]:
        answer(row, name, raw, agent, origin)
    origin.forget()
    row = outcome.row("afterwards")
    row.judge("still serving", keyferry.well() and agent.say(agent.plain())[1].startswith(b"HTTP/1.1 200"),
              "Keyferry is gone or answers no more")
    row.judge("one record each", one_each(keyferry.audit), "a request is twice in the audit log")
    return outcome


class Expected:
    """What is known of a valid request: how many there are, and why it may be refused all the same."""

    def __init__(self, plain=False, count=1, excuse=None):
        self.plain, self.count, self.excuse = plain, count, excuse


def written(text):
    """gunicorn's spelling of bytes in its test files."""
    text = text.replace(b"\n", b"").replace(b"\\r\\n", b"\r\n")
    text = text.replace(b"\\0", b"\0").replace(b"\\n", b"\n").replace(b"\\t", b"\t")
    return re.sub(rb"\\x([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), text)


def told(file):
    source = file.with_suffix(".py").read_text()
    if "cfg.set(" in source:
        return Expected(excuse="valid only with one of gunicorn's switches for old clients")
    return Expected(count=max(1, len(re.findall(r'"method"', source))))


# Why a request that a parser accepts is refused all the same, by what it looks like.
EXCUSES = [
    (rb"^(PROXY |\r\n\r\n\0)", "begins with a PROXY protocol header, which this listener does not take"),
    (rb"^(?i:CONNECT) ", "CONNECT inside a tunnel is refused"),
    (rb'^\S+ [^ ]*[<>"]', "has characters in its target that no URI has (RFC 3986 appendix A)"),
    (rb"^\S+ \w+://[^/ ]*@", "has user and password in its target"),
    (rb"^\S+ https://", "is in absolute-form with another scheme and host"),
    (rb"(?im)^transfer-encoding: *(?!chunked\r)", "has a transfer coding besides `chunked`, or it twice"),
    (rb"\n[ \t]+\S", "has a folded line (RFC 9112 section 5.2 lets a server refuse it)"),
    (rb"^(?!OPTIONS)\S+ \* ", "has `*` for a target, which only OPTIONS takes"),
    (rb"(?is)\nupgrade: websocket\r\n(?!.*sec-websocket-key:)", "asks for a WebSocket without the key of RFC 6455"),
    (rb"^\S+ \S+( ICE/1\.0)?\r\n", "is in another version of HTTP than 1.0 and 1.1"),
]


def excuse(raw):
    return next((why for pattern, why in EXCUSES if re.search(pattern, raw.lstrip(b"\r\n"))), None)


def split(source):
    """The raw messages of http-parser's own test program."""
    parts = [part for part in re.split(r"\n[{,] *\{ ?\.name ?=", source) if ".raw" in part]
    found = {"HTTP_REQUEST": [], "HTTP_RESPONSE": []}
    for part in parts:
        name = re.match(r'\s*"((?:[^"\\]|\\.)*)"', part)[1].replace("\\", "")
        kind = re.search(r"\.type *= *(\w+)", part)
        kind = kind[1] if kind else "HTTP_REQUEST"
        literals = re.search(r'\.raw *=((?:\s|/\*.*?\*/|"(?:[^"\\]|\\.)*")+)', part, re.S)
        raw = literals[1]
        pieces = re.findall(r'"((?:[^"\\]|\\.)*)"', re.sub(r"/\*.*?\*/", "", raw))
        bytes_ = "".join(pieces).encode().decode("unicode_escape").encode("latin-1")
        same = sum(known.split(" #")[0] == name for known, _ in found[kind])
        found[kind].append((f"{name} #{same + 1}" if same else name, bytes_))
    return found["HTTP_REQUEST"], found["HTTP_RESPONSE"]


class Origin:
    """An HTTPS server that keeps what h11 makes of the bytes it gets."""

    def __init__(self, ground):
        self.port, self.seen, self.errors, self.reply = free_port(), [], [], None
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(ground.cert, ground.cert_key)
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        ground.stops.append(self.listener.close)

    def forget(self, reply=None):
        self.seen, self.errors, self.reply = [], [], reply

    def _accept(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        try:
            with self.tls.wrap_socket(plain, server_side=True) as line:
                self._converse(line)
        except (OSError, ValueError):
            plain.close()

    def _converse(self, line):
        reader = h11.Connection(h11.SERVER)
        while True:
            event = self._next(reader, line)
            if not isinstance(event, h11.Request):
                return
            one = {"method": event.method, "target": event.target, "headers": dict(event.headers), "body": b"",
                   "whole": False}
            self.seen.append(one)
            while isinstance(event := self._next(reader, line), h11.Data):
                one["body"] += event.data
            if not isinstance(event, h11.EndOfMessage):
                return
            one["whole"] = True
            if self.reply is not None:
                line.sendall(self.reply)
                # A reply without a length ends here, and says so.
                line.unwrap()
                return
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            reader.send(h11.Response(status_code=200, headers=[("Content-Length", "2")]))
            reader.send(h11.Data(data=b"ok"))
            reader.send(h11.EndOfMessage())
            if reader.our_state is not h11.DONE:
                return
            reader.start_next_cycle()

    def _next(self, reader, line):
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError as error:
                if "closed connection" not in str(error) and "incomplete message body" not in str(error):
                    self.errors.append(str(error))
                return None
            if event is not h11.NEED_DATA:
                return event
            try:
                reader.receive_data(line.recv(65536))
            except (OSError, h11.RemoteProtocolError):
                return None


class Agent:
    def __init__(self, keyferry):
        self.proxy, self.target = keyferry.port, f"localhost:{keyferry.way}"
        self.tls = ssl.create_default_context(cafile=keyferry.ca)

    def plain(self):
        return f"GET /plain HTTP/1.1\r\nHost: {self.target}\r\n\r\n".encode()

    def named(self, raw):
        """Each request with the one host that this connection leads to, where it names one or none."""
        line = re.compile(rb"(?:(?<=\n)|^)([!-~]+ (?:/|\*|http://)\S* HTTP/1\.[01]\r\n)")
        starts = [found.start() for found in line.finditer(raw)] + [len(raw)]
        return raw[: starts[0]] + b"".join(self._named(raw[at:end], line) for at, end in zip(starts, starts[1:]))

    def _named(self, raw, line):
        head, blank, body = raw.partition(b"\r\n\r\n")
        host = re.compile(rb"(?im)^host:[^\r\n]*(?:\r\n|$)")
        if len(host.findall(head)) > 1:
            return raw
        authority = self.target.encode()
        head = line.sub(rb"\1Host: %s\r\n" % authority, host.sub(b"", head + b"\r\n"), count=1)
        head = re.sub(rb"^(\S+) http://[^/?\s]+", rb"\1 http://%s" % authority, head)
        return head.rstrip(b"\r\n") + blank + body

    def say(self, raw):
        """Sends these bytes; gives back whether the line was closed, and all that came before."""
        with socket.create_connection(("127.0.0.1", self.proxy), 10) as plain:
            plain.sendall(f"CONNECT {self.target} HTTP/1.1\r\nHost: {self.target}\r\n\r\n".encode())
            head = plain.recv(4096)
            assert head.startswith(b"HTTP/1.1 200"), head
            with self.tls.wrap_socket(plain, server_hostname="localhost") as line:
                try:
                    line.sendall(raw)
                except OSError:
                    pass
                return hear(line)


def hear(line):
    heard, until = b"", time.monotonic() + 10
    while time.monotonic() < until:
        # The first byte of an answer may take longer than what follows it.
        line.settimeout(QUIET if heard else 3 * QUIET)
        try:
            data = line.recv(65536)
        except (TimeoutError, ssl.SSLError):
            return False, heard
        except OSError:
            return True, heard
        if not data:
            return True, heard
        heard += data
    return False, heard


def play(row, name, raw, agent, origin, expected):
    origin.forget()
    sent = agent.named(raw)
    _, heard = agent.say(sent)
    time.sleep(0.05)
    whole = [one for one in origin.seen if one["whole"]]
    status = heard[9:12].decode("latin-1") if heard.startswith(b"HTTP/1.") else "nothing"
    arrived = ", ".join("%s %s" % (one["method"].decode(), one["target"].decode()) for one in origin.seen)
    told = f"agent heard {status}; arrived: {arrived or 'nothing'}"
    if origin.errors:
        return row.miss(name, f"h11 cannot read what arrived: {origin.errors}; {told}")
    if any(one["headers"].get(b"authorization") != b"Bearer " + KEY.encode() for one in origin.seen):
        return row.miss(name, f"without its credential: {told}")
    if KEY.encode() in heard:
        return row.miss(name, f"the credential came back: {told}")
    if not expected:
        return row.judge(name, len(whole) <= 1 and len(origin.seen) <= 1, f"more than one request: {told}")
    if len(whole) == expected.count or len(origin.seen) >= 1 and expected.plain:
        return row.ok(name)
    reason = expected.excuse or excuse(sent)
    if reason and status in ("400", "405", "421"):
        return row.skip(name, f"{reason}: {status}")
    row.miss(name, f"a valid request did not arrive: {told}")


def answer(row, name, raw, agent, origin):
    """A reply as it comes from the upstream: passed on as one that h11 reads, or a 502."""
    origin.forget(raw.replace(b"\r\n\r\n", b"\r\nX-Told: " + KEY.encode() + b"\r\n\r\n", 1))
    _, heard = agent.say(agent.plain().replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "x"), ("Connection", "close")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(heard)
    try:
        event = reader.next_event()
        status = event.status_code
        while not isinstance(event, (h11.EndOfMessage, type(h11.NEED_DATA), h11.ConnectionClosed)):
            event = reader.next_event()
    except (h11.RemoteProtocolError, AttributeError) as error:
        return row.miss(name, f"h11 cannot read what the agent got: {error}: {heard[:200]!r}")
    row.judge(name, KEY.encode() not in heard, f"the credential came back with {status}")


def one_each(audit):
    ids = re.findall(r'"request_id":"([^"]+)"', audit.read_text())
    return len(ids) == len(set(ids)) and len(ids) > 0
