"""The proxies that are measured, each started with a configuration of its own for every run."""

import os
import shutil
import subprocess
from pathlib import Path

import net
from net import ADDRESS, API, AUTHORIZATION, LISTEN, MORE, PORT, REDIRECTED, TOKEN


class Peer:
    """A proxy. `can` lists what it does; a workload that needs more is left out for it."""

    name = ""
    about = ""
    can = {"h1", "h2", "websocket", "grpc"}
    # Speaks TLS at once: a reverse proxy with one certificate, which knows no CONNECT.
    reverse = False
    injects = True
    patience = 20

    def __init__(self, network, built: Path):
        self.net, self.built, self.process, self.dir = network, built, None, None
        self.redirected = False

    def found(self):
        return True

    def version(self):
        return ""

    def roots(self):
        return [self.net.certs / "proxy-ca.pem"]

    def command(self, load):
        """Writes its configuration into `self.dir`, and says how to start it."""
        raise NotImplementedError

    def env(self):
        return {}

    def start(self, load, folder: Path):
        self.dir, self.redirected = folder, load.needs == "transparent"
        folder.mkdir(mode=0o755)
        command = self.command(load)
        self.process = net.spawn(command, self.net.proxy_cpu, folder / "log", self.env(), folder)
        net.wait_for(("127.0.0.1", LISTEN), self.process, self.patience)

    def stop(self):
        if self.process:
            net.end(self.process)
        self.process = None

    def way(self, host):
        """Words that tell the load how to reach `host` through it."""
        at = f"{REDIRECTED}:{PORT}" if self.redirected else f"127.0.0.1:{LISTEN}"
        words = ["--addr", at, "--host", host, "--port", str(PORT)]
        words += ["--no-connect"] if self.reverse or self.redirected else []
        words += [] if self.injects else ["--authorization", AUTHORIZATION]
        for root in self.roots():
            words += ["--root", str(root)]
        return words


def first_line(*command):
    done = subprocess.run(command, text=True, capture_output=True)
    return ((done.stdout or "") + (done.stderr or "")).strip().split("\n")[0]


def hosts(load):
    """Hosts with a rule; the one that is asked for comes last."""
    return [f"r{n}.rules.test" for n in range(1, load.rules)] + [API]


class Keyferry(Peer):
    name = "keyferry"
    about = "interception, rules, injection, scrubbing and audit"
    can = Peer.can | {"mint", "rules", "secrets", "transparent"}

    def binary(self):
        return os.environ["KEYFERRY"]

    def found(self):
        return os.access(self.binary(), os.X_OK)

    def version(self):
        return first_line(self.binary(), "--version")

    def roots(self):
        return [self.dir / "ca.pem"]

    def written(self, load):
        """Its configuration."""
        secrets = "".join(f"  t{n}: {{ file: '{self.dir}/token' }}\n" for n in range(load.secrets))
        rules = "".join(rule(host, n % load.secrets) for n, host in enumerate([*hosts(load), MORE, "*.side.test"]))
        return self.settings() + f"audit: {{ file: '{self.dir}/audit.jsonl' }}\nsecrets:\n{secrets}rules:\n{rules}"

    def settings(self):
        speak = "transparent" if self.redirected else "proxy"
        return (
            f"listen: [{{ bind: '127.0.0.1:{LISTEN}', speak: {speak} }}]\nca: {{ dir: '{self.dir}/ca' }}\n"
            f"upstream: {{ roots: ['{self.net.certs}/origin-ca.pem'], allow_networks: [127.0.0.0/8] }}\n"
            # All the load is one agent's, which would have a tenth of these.
            "limits: { connections: 12000, agent_connections: 12000, agent_requests: 12000 }\n"
        )

    def command(self, load):
        (self.dir / "token").write_text(TOKEN)
        config = self.dir / "keyferry.yaml"
        config.write_text(self.written(load))
        root = subprocess.run([self.binary(), "ca", "export", "--config", config], check=True, capture_output=True).stdout
        (self.dir / "ca.pem").write_bytes(root)
        return [self.binary(), "serve", "--config", config]


class Before(Keyferry):
    """Another build, so that a change is measured against what was before it."""

    name = "before"
    about = "the build that BEFORE names"

    def binary(self):
        return os.environ.get("BEFORE", "")


def rule(host, secret):
    return f"  - {{ host: '{host}:{PORT}', allow: ['GET /**', 'POST /**'], inject: [{{ bearer: t{secret} }}] }}\n"


class Nginx(Peer):
    name = "nginx"
    about = "TLS in, TLS out, one fixed header"
    can = Peer.can | {"rules", "transparent"}
    reverse = True

    def found(self):
        return shutil.which("nginx") is not None

    def version(self):
        return first_line("nginx", "-v").replace("nginx version: ", "")

    def command(self, load):
        values = "".join(f'    {host} "{AUTHORIZATION}";\n' for host in hosts(load))
        (self.dir / "nginx.conf").write_text(
            NGINX.format(dir=self.dir, certs=self.net.certs, port=PORT, listen=LISTEN, values=values, more=MORE,
                         api_address=ADDRESS[API], more_address=ADDRESS[MORE], authorization=AUTHORIZATION)
        )  # fmt: skip
        return ["nginx", "-p", self.dir, "-c", self.dir / "nginx.conf"]


NGINX = """
daemon off; master_process off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log crit;
events {{ worker_connections 18000; }}
http {{
  access_log off;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/t; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  keepalive_timeout 600; keepalive_requests 1000000000; client_max_body_size 0;
  ssl_certificate {certs}/leaf.pem; ssl_certificate_key {certs}/leaf.key;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:20m;
  map_hash_max_size 262144; map_hash_bucket_size 256;
  map $host $authorization {{
    default "{authorization}";
{values}  }}
  map $ssl_server_name $origin {{ default api; {more} more; }}
  map $http_upgrade $onward {{ default upgrade; "" ""; }}
  proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 600;
  proxy_buffers 16 32k; proxy_buffer_size 16k; proxy_busy_buffers_size 256k;
  proxy_set_header Connection $onward; proxy_set_header Upgrade $http_upgrade; proxy_set_header Host $host;
  proxy_set_header Authorization $authorization;
  proxy_ssl_server_name on; proxy_ssl_name $host; proxy_ssl_verify on;
  proxy_ssl_trusted_certificate {certs}/origin-ca.pem;
  grpc_ssl_server_name on; grpc_ssl_name $host; grpc_ssl_verify on;
  grpc_ssl_trusted_certificate {certs}/origin-ca.pem; grpc_set_header Authorization $authorization;
  upstream api {{ server {api_address}:{port}; keepalive 10000; keepalive_requests 1000000000; keepalive_timeout 600; }}
  upstream more {{ server {more_address}:{port}; keepalive 10000; keepalive_requests 1000000000; keepalive_timeout 600; }}
  # Of its own, for nginx would send gRPC over a connection that is kept for HTTP/1.1.
  upstream unary {{ server {more_address}:{port}; keepalive 100; keepalive_requests 1000000000; keepalive_timeout 600; }}
  server {{
    listen 127.0.0.1:{listen} ssl http2 backlog=4096;
    location / {{ proxy_pass https://$origin; }}
    location = /unary {{ grpc_pass grpcs://unary; }}
  }}
}}
"""


class HaProxy(Peer):
    name = "haproxy"
    about = "TLS in, TLS out, one fixed header"
    can = Peer.can | {"transparent"}
    reverse = True

    def found(self):
        return shutil.which("haproxy") is not None

    def version(self):
        return " ".join(first_line("haproxy", "-v").split()[:3])

    def command(self, load):
        certs = self.net.certs
        (self.dir / "leaf.pem").write_bytes((certs / "leaf.pem").read_bytes() + (certs / "leaf.key").read_bytes())
        server = "server s {}:{} ssl verify required verifyhost {} ca-file {}/origin-ca.pem sni str({}) alpn {} pool-max-conn 9000"
        backends = [("api", API, "http/1.1"), ("more", MORE, "http/1.1"), ("unary", MORE, "h2")]
        backends = "".join(f"backend {name}\n  {server.format(ADDRESS[host], PORT, host, certs, host, alpn)}\n"
                           for name, host, alpn in backends)  # fmt: skip
        (self.dir / "haproxy.cfg").write_text(
            "global\n  nbthread 1\n  maxconn 9000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n"
            "  timeout server 600s\n  timeout http-keep-alive 600s\n  timeout tunnel 600s\n  http-reuse always\n"
            f"frontend f\n  bind 127.0.0.1:{LISTEN} ssl crt {self.dir}/leaf.pem alpn h2,http/1.1\n"
            f'  http-request set-header Authorization "{AUTHORIZATION}"\n'
            f"  use_backend unary if {{ path /unary }}\n  use_backend more if {{ ssl_fc_sni -i {MORE} }}\n"
            f"  default_backend api\n{backends}"
        )
        return ["haproxy", "-db", "-f", self.dir / "haproxy.cfg"]


class Relay(Peer):
    name = "relay"
    about = "the limit: re-encrypts bytes, reads no HTTP, injects nothing"
    injects = False

    def command(self, load):
        certs = self.net.certs
        words = [self.net.side, "relay", "--listen", f"127.0.0.1:{LISTEN}", "--root", certs / "origin-ca.pem"]
        return [*words, "--certificate", certs / "leaf.pem", "--key", certs / "leaf.key"]


class Hudsucker(Peer):
    name = "hudsucker"
    about = "minting, one fixed header"
    can = {"h1", "h2", "mint", "websocket", "grpc"}

    def found(self):
        return (self.built / "side-hudsucker").exists()

    def version(self):
        return (self.built / "side-hudsucker.version").read_text().strip()

    def command(self, load):
        certs = self.net.certs
        files = [certs / "proxy-ca.pem", certs / "proxy-ca.key", certs / "origin-ca.pem"]
        return [self.built / "side-hudsucker", f"127.0.0.1:{LISTEN}", *files, AUTHORIZATION]


class Nono(Peer):
    name = "nono"
    about = "minting, a credential for each host"
    can = {"h1", "h2", "mint", "rules"}

    def found(self):
        return (self.built / "side-nono").exists()

    def version(self):
        return (self.built / "side-nono.version").read_text().strip()

    def roots(self):
        return sorted((self.dir / "ca").glob("*.pem"))

    def env(self):
        return {"SIDE_TOKEN": TOKEN}

    def command(self, load):
        (self.dir / "ca").mkdir(mode=0o700)
        # A wildcard is no route of its: every name needs one.
        names = [f"h{n}.side.test" for n in range(1, 1001)] if load.needs == "mint" else []
        origin = self.net.certs / "origin-ca.pem"
        return [self.built / "side-nono", LISTEN, self.dir / "ca", origin, "SIDE_TOKEN", MORE, *names, *hosts(load)]


class Squid(Peer):
    name = "squid"
    about = "ssl-bump, minting, one fixed header"
    can = {"h1", "mint", "rules"}
    mint = "/usr/lib/squid/security_file_certgen"

    def found(self):
        return shutil.which("squid") is not None and os.access(self.mint, os.X_OK)

    def version(self):
        return first_line("squid", "-v").replace("Squid Cache: Version ", "squid ")

    def command(self, load):
        certs = self.net.certs
        database = self.dir / "certificates"
        subprocess.run([self.mint, "-c", "-s", database, "-M", "64MB"], check=True, capture_output=True)
        rules = "".join(
            f'acl r{n} dstdomain {host}\nrequest_header_add Authorization "{AUTHORIZATION}" r{n}\n'
            for n, host in enumerate([*hosts(load), MORE])
        )
        if load.needs == "mint":
            rules = f'request_header_add Authorization "{AUTHORIZATION}" all\n'
        (self.dir / "squid.conf").write_text(
            f"http_port 127.0.0.1:{LISTEN} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=64MB"
            f" tls-cert={certs}/proxy-ca.pem tls-key={certs}/proxy-ca.key\n"
            f"sslcrtd_program {self.mint} -s {database} -M 64MB\nsslcrtd_children 4 startup=1 idle=1\nssl_bump bump all\n"
            f"tls_outgoing_options cafile={certs}/origin-ca.pem\nhttp_access allow all\nrequest_header_access Authorization deny all\n"
            f"pid_filename none\ncache deny all\ncache_mem 0 MB\naccess_log none\ncache_log {self.dir}/cache.log\n"
            "max_filedescriptors 19000\nshutdown_lifetime 0 seconds\ndns_nameservers 127.0.0.1\nvia off\nforwarded_for delete\n"
            f"client_idle_pconn_timeout 600 seconds\nserver_idle_pconn_timeout 600 seconds\n{rules}"
        )
        subprocess.run(["chown", "-R", "proxy", self.dir], check=False)
        return ["squid", "-N", "-f", self.dir / "squid.conf"]


class Mitmproxy(Peer):
    name = "mitmproxy"
    about = "minting, one fixed header by an addon, bodies streamed"
    can = {"h1", "h2", "mint", "websocket", "grpc"}
    patience = 40

    def program(self):
        return self.built / "mitmproxy/bin/mitmdump"

    def found(self):
        return self.program().exists()

    def version(self):
        return first_line(self.program(), "--version").replace("Mitmproxy: ", "mitmproxy ")

    def env(self):
        return {"SIDE_AUTHORIZATION": AUTHORIZATION}

    def command(self, load):
        certs = self.net.certs
        (self.dir / "mitmproxy-ca.pem").write_bytes((certs / "proxy-ca.key").read_bytes() + (certs / "proxy-ca.pem").read_bytes())
        options = ["--set", f"confdir={self.dir}", "--set", f"ssl_verify_upstream_trusted_ca={certs}/origin-ca.pem"]
        addon = Path(__file__).parent / "peers/mitmproxy.py"
        return [self.program(), "-q", "--listen-host", "127.0.0.1", "-p", LISTEN, *options, "-s", addon]


ALL = (Nginx, HaProxy, Relay, Keyferry, Before, Hudsucker, Nono, Squid, Mitmproxy)
