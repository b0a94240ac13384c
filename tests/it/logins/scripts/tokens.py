"""The token service of a registry (distribution's token authentication): gives a signed token to who shows the password.

Arguments: the port, a folder, in which it leaves the certificate that the registry is to trust.
"""

import base64
import datetime
import http.server
import json
import secrets
import sys
import time
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

port, folder = int(sys.argv[1]), sys.argv[2]
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "token service")])
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    x509.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name)
    .public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(now - datetime.timedelta(hours=1))
    .not_valid_after(now + datetime.timedelta(days=1))
    .sign(key, hashes.SHA256())
)
with open(f"{folder}/tokens.pem", "wb") as file:
    file.write(certificate.public_bytes(serialization.Encoding.PEM))
signing = ECKey.import_key(key)
refresh = f"refresh-{secrets.token_hex(24)}"
with open(f"{folder}/refresh", "w") as file:
    file.write(refresh)
chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]


def token(query):
    access = []
    for scope in query.get("scope", []):
        kind, rest = scope.split(":", 1)
        what, actions = rest.rsplit(":", 1)
        access.append({"type": kind, "name": what, "actions": actions.split(",")})
    moment = int(time.time())
    claims = {
        "iss": "tokens", "sub": "ci", "aud": query["service"][0], "exp": moment + 300, "nbf": moment - 10,
        "iat": moment, "jti": secrets.token_hex(8), "access": access,
    }
    return jwt.encode({"typ": "JWT", "alg": "ES256", "x5c": chain}, claims, signing)


class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        shown = base64.b64encode(b"ci:the-registry-password").decode()
        if self.headers.get("authorization") != f"Basic {shown}":
            return self.answer(401, {"details": "no password"})
        made = token(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query))
        given = {"token": made, "access_token": made, "expires_in": 300}
        if "offline_token=true" in self.path:
            given["refresh_token"] = refresh
        self.answer(200, given)

    def do_POST(self):
        """As clients ask that were given a password, or hold a refresh token (distribution's OAuth2)."""
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        shown = {name: values[0] for name, values in form.items()}
        match shown["grant_type"]:
            case "password":
                known = (shown["username"], shown["password"]) == ("ci", "the-registry-password")
            case "refresh_token":
                known = shown["refresh_token"] == refresh
            case _:
                known = False
        print("POST", shown["grant_type"], known, file=sys.stderr, flush=True)
        if not known:
            return self.answer(401, {"details": "no password"})
        # In one field, as that protocol has them.
        form["scope"] = form.get("scope", [""])[0].split()
        self.answer(200, {"access_token": token(form), "expires_in": 300, "scope": " ".join(form["scope"])})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", port), Service).serve_forever()
