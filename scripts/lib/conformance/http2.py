"""nghttp2's own client and load generator through Keyferry: HTTP/2 and HTTP/1.1 under load, and frames seldom seen."""

import hashlib
import re
import subprocess
from collections import Counter

from ground import free_port
from outcome import Outcome

NGINX = """\
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx-error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_body_temp_path {dir}/nginx-body; proxy_temp_path {dir}/nginx-proxy; client_max_body_size 0;
  fastcgi_temp_path {dir}/nginx-f; uwsgi_temp_path {dir}/nginx-u; scgi_temp_path {dir}/nginx-s;
  server {{
    listen 127.0.0.1:{port} ssl {http2}; server_name localhost; keepalive_requests 1000000; http2_max_requests 1000000;
    ssl_certificate {cert}; ssl_certificate_key {key};
    root {dir}/www;
    location /sink {{ client_body_in_single_buffer off; proxy_pass http://127.0.0.1:{sink}/; }}
  }}
  server {{ listen 127.0.0.1:{sink}; location / {{ return 200 "taken\\n"; }} }}
}}
"""

KNOWN = {
    "nghttp*/upload with Expect": "nghttpd agrees to a handshake for HTTP/1.1 and closes then; RFC 7301 section 3.2 asks for an "
                                  "alert, after which Keyferry goes over HTTP/2",
}

SIZES = {"small": 512, "middle": 100_000, "large": 20_000_000}


def run(ground, tools, quick):
    told = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True).stdout
    outcome = Outcome("nghttp2", told.split("/")[-1].strip())
    (ground.dir / "www").mkdir()
    for name, size in SIZES.items():
        (ground.dir / "www" / name).write_bytes(hashlib.shake_128(name.encode()).digest(size))
    for upstream in ("http2", ""):
        port = nginx(ground, upstream)
        keyferry = ground.keyferry(port, "inject: [{ bearer: key }]", f"keyferry-{upstream or 'http1'}",
                                   limits="streams: 256")
        way = f"https://localhost:{keyferry.open_way(tls=False)}"
        spoken = "HTTP/2" if upstream else "HTTP/1.1"
        load(outcome.row(f"h2load, upstream {spoken}"), ground, way, quick)
        row = outcome.row(f"afterwards, upstream {spoken}")
        row.judge("still running", keyferry.well(), "Keyferry is gone or has panicked")
    port = free_port()
    argv = ["nghttpd", "-a", "127.0.0.1", "-d", str(ground.dir / "www"), "--echo-upload", str(port)]
    ground.start("nghttpd", [*argv, ground.cert_key, ground.cert], port)
    keyferry = ground.keyferry(port, "inject: [{ bearer: key }]", "keyferry-nghttpd")
    frames(outcome.row("nghttp, upstream nghttpd"), ground, f"https://localhost:{keyferry.open_way(tls=False)}")
    return outcome


def nginx(ground, http2):
    port, sink = free_port(), free_port()
    folder = ground.dir / f"nginx-{http2 or 'http1'}"
    folder.mkdir()
    (folder / "www").symlink_to(ground.dir / "www")
    config = NGINX.format(dir=folder, port=port, sink=sink, http2=http2, cert=ground.cert, key=ground.cert_key)
    (folder / "nginx.conf").write_text(config)
    ground.start(f"nginx-{http2 or 'http1'}", ["/usr/sbin/nginx", "-e", str(folder / "start.log"), "-c", str(folder / "nginx.conf")], port)
    return port


def load(row, ground, way, quick):
    """Each kind of load: every request is answered with 2xx, and not a byte of a body is missing."""
    body = ground.dir / "www/middle"
    kinds = {
        "10 connections, 32 streams each, small replies": (10_000, ["-c10", "-m32"], "small"),
        "100 connections, one stream each": (2_000, ["-c100", "-m1"], "small"),
        "1 connection, 200 streams": (5_000, ["-c1", "-m200"], "small"),
        "4 connections, 100 kB replies": (1_000, ["-c4", "-m10"], "middle"),
        "20 MB replies": (8, ["-c2", "-m2"], "large"),
        "small windows, 100 kB replies": (100, ["-c2", "-m4", "-w10", "-W10"], "middle"),
        "100 kB uploads": (300, ["-c4", "-m4", "-d", str(body)], "sink"),
        "no header table": (1_000, ["-c4", "-m8", "--header-table-size=0", "--encoder-header-table-size=0"], "small"),
        "HTTP/1.1, 20 connections": (3_000, ["-c20", "--h1"], "small"),
        "HTTP/1.1, 100 kB uploads": (200, ["-c4", "--h1", "-d", str(body)], "sink"),
    }
    for name, (count, options, path) in kinds.items():
        count = max(count // (10 if quick else 1), 8 if path == "large" else 100)
        argv = ["h2load", f"-n{count}", "-t1", "-T60s", "-N60s", *options, f"{way}/{path}"]
        told = subprocess.run(argv, capture_output=True, text=True, timeout=600).stdout
        (ground.dir / "h2load.log").open("a").write(" ".join(argv) + "\n" + told)
        succeeded = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", told)
        good = re.search(r"status codes: (\d+) 2xx", told)
        sent = re.search(r"traffic: .*\((\d+)\) data", told)
        expected = count * SIZES.get(path, 6)
        numbers = (succeeded and succeeded.groups(), good and good[1], sent and sent[1])
        fine = numbers == ((str(count), "0", "0", "0"), str(count), str(expected))
        row.judge(name, fine, f"of {count} requests with {expected} bytes: {numbers}")


def frames(row, ground, way):
    """Frames that few clients send: the reply is the file, or what was sent, byte for byte."""
    large = ground.dir / "www/middle"
    body = large.read_bytes()
    kinds = {
        "CONTINUATION": ["--continuation", "-H", f"x-long: {'a' * 20_000}"],
        "padding": ["-b", "255"],
        "smallest windows": ["-w", "4", "-W", "4"],
        "several at a time": ["-m", "20"],
        "upload with a trailer": ["-d", str(large), "--trailer", "x-end: yes"],
        "upload with Expect": ["-d", str(large), "--expect-continue"],
        "upload with padding": ["-d", str(large), "-b", "100"],
        "no dependencies": ["--no-dep"],
        "a small header table": ["-c", "0"],
    }
    for name, options in kinds.items():
        told = subprocess.run(["nghttp", *options, f"{way}/middle"], capture_output=True, timeout=120)
        times = 20 if "-m" in options else 1
        # Replies that come at a time are written as they come, so of those the bytes alone are compared.
        same = told.stdout == body if times == 1 else Counter(told.stdout) == Counter(body * times)
        row.judge(name, told.returncode == 0 and same, f"{len(told.stdout)} bytes: {told.stderr[-300:]!r}")
