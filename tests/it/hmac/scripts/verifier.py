"""Services that check a keyed hash of each request with Python's own `hmac`: as GitHub signs what it sends, as exchanges
have it (time, method, path and body; no older than half a minute, and no nonce twice), and by a list of lines."""

import base64
import datetime
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, key, key64 = sys.argv[1:]
nonces = set()


def same(made, shown):
    return hmac.compare_digest(made.encode(), (shown or "").encode())


def hooked(request, body):
    made = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return same(made, request.headers["x-hub-signature-256"])


def traded(request, body):
    stamp, nonce = request.headers["access-timestamp"], request.headers["access-nonce"]
    if nonce in nonces or abs(time.time() - int(stamp)) > 30:
        return f"the time is {stamp}, and here it is {int(time.time())}"
    nonces.add(nonce)
    told = f"{stamp}{nonce}{request.command}{request.path}".encode() + body
    made = hmac.new(base64.b64decode(key64), told, hashlib.sha512).digest()
    shown = request.headers["access-sign"]
    return request.headers["access-key"] == "key-id-0001" and same(base64.b64encode(made).decode(), shown)


def listed(request, body):
    path, _, query = request.path.partition("?")
    lines = [request.command, path, query, request.headers["host"], request.headers["content-type"] or "",
             request.headers["x-date"], base64.b64encode(hashlib.sha256(body).digest()).decode()]
    made = hmac.new(key.encode(), "\n".join(lines).encode(), hashlib.sha1).hexdigest()
    return same("HMAC " + made, request.headers["authorization"])


def okx(request, body):
    stamp = request.headers["ok-access-timestamp"]
    moment = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    told = f"{stamp}{request.command}{request.path}".encode() + body
    made = base64.b64encode(hmac.new(key.encode(), told, hashlib.sha256).digest()).decode()
    return (abs(time.time() - moment.timestamp()) < 30 and request.headers["ok-access-key"] == "key-id-0001"
            and request.headers["ok-access-passphrase"] == "pass-0001" and same(made, request.headers["ok-access-sign"]))


def bybit(request, body):
    stamp, window = request.headers["x-bapi-timestamp"], request.headers["x-bapi-recv-window"]
    query = request.path.partition("?")[2]
    told = f"{stamp}key-id-0001{window}{query}".encode() + body
    made = hmac.new(key.encode(), told, hashlib.sha256).hexdigest()
    return (abs(time.time() * 1000 - int(stamp)) < int(window) and request.headers["x-bapi-api-key"] == "key-id-0001"
            and same(made, request.headers["x-bapi-sign"]))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        names = [name.lower() for name in self.headers.keys()]
        if len(names) != len(set(names)):
            checked = "a header twice"
        else:
            checked = {"/hook": hooked, "/trade": traded, "/list": listed, "/api": okx, "/v5": bybit}["/" + self.path.split("/")[1]](self, body)
        told = json.dumps({"ok": checked, "length": len(body), "headers": dict(self.headers)}).encode()
        self.send_response(200 if checked is True else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
