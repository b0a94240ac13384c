"""What GitHub, Google, Microsoft and an API with signed tokens do of OAuth, as far as the public can read it: each checks
signature, claims, expiry and replay with joserfc. The grant of RFC 7523 is Authlib's own."""

import base64
import hashlib
import json
import ssl
import sys
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc7523 import JWTBearerGrant
from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

port, rsa, ec, ed, certificate = sys.argv[1:]
keys = {"RS256": RSAKey.import_key(open(rsa).read()), "ES256": ECKey.import_key(open(ec).read()),
        "EdDSA": OKPKey.import_key(open(ed).read())}
app = Flask(__name__)
seen, issued = set(), {}


def claims_of(token, longest, **wanted):
    """The claims of a token, once all of it was checked."""
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    decoded = jwt.decode(token, keys[header["alg"]], algorithms=list(keys))
    claims = decoded.claims
    now = time.time()
    assert claims["iat"] <= now < claims["exp"] <= claims["iat"] + longest, claims
    for name, value in wanted.items():
        assert claims.get(name) == value, (name, claims)
    if "jti" in claims:
        assert claims["jti"] not in seen, "replayed"
        seen.add(claims["jti"])
    return header, claims


def issue(kind, **what):
    token = f"{kind}-{len(issued)}-{hashlib.sha256(str(time.time()).encode()).hexdigest()}"
    issued[token] = what
    return token


def bearer():
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


@app.errorhandler(Exception)
def refused(error):
    print(type(error).__name__, error, file=sys.stderr, flush=True)
    return jsonify(error="invalid_grant"), 400


@app.post("/google/token")
def google():
    _, claims = claims_of(request.form["assertion"], 3600, iss="agent@project.iam.gserviceaccount.com",
                          aud="https://google.test/google/token")
    if "target_audience" in claims:
        return jsonify(id_token=issue("id", audience=claims["target_audience"]))
    return jsonify(access_token=issue("access", scope=claims["scope"]), expires_in=3599, token_type="Bearer")


@app.post("/app/installations/<int:number>/access_tokens")
def github(number):
    try:
        claims_of(bearer(), 630, iss="1234")
    except Exception as error:
        return jsonify(message=str(error)), 401
    token = issue("ghs", installation=number, **request.json)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    return jsonify(token=token, expires_at=until), 201


@app.post("/tenant.example/oauth2/v2.0/token")
def microsoft():
    form = request.form
    assert (form["client_id"], form["grant_type"]) == ("app-1", "client_credentials")
    if "client_assertion" in form:
        header, _ = claims_of(form["client_assertion"], 630, iss="app-1", sub="app-1",
                              aud="https://microsoft.test/tenant.example/oauth2/v2.0/token")
        der = ssl.PEM_cert_to_DER_cert(open(certificate).read())
        assert header["x5t#S256"] == base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("="), header
    else:
        assert form["client_secret"] == "azure-s3cr&t"
    return jsonify(access_token=issue("azure", scope=form["scope"]), expires_in="3599", token_type="Bearer")


@app.get("/signed")
def signed():
    try:
        header, claims = claims_of(bearer(), 630, iss="me", aud="https://api.test", team="blue")
    except Exception as error:
        return jsonify(message=str(error)), 401
    return jsonify(header=header, claims=claims)


@app.get("/<owner>/<repository>/info/refs")
@app.get("/api")
def api(**_):
    basic = request.authorization
    token = basic.password if basic and basic.type == "basic" else bearer()
    return (jsonify(issued[token]), 200) if token in issued else (jsonify(error="no"), 401)


class Client:
    client_id = "robot"

    def check_grant_type(self, grant):
        return True

    def get_allowed_scope(self, scope):
        return scope

    def check_endpoint_auth_method(self, *_):
        return True


class Bearer(JWTBearerGrant):
    def resolve_issuer_client(self, issuer):
        assert issuer == "robot"
        return Client()

    def resolve_client_key(self, client, headers, payload):
        return keys[headers["alg"]]

    def get_audiences(self):
        return ["https://auth.test/oauth/token"]

    def authenticate_user(self, subject):
        return subject

    def has_granted_permission(self, client, user):
        return user == "someone"


server = AuthorizationServer(app, query_client=lambda _: Client(),
                             save_token=lambda token, _: issued.update({token["access_token"]: {"scope": token["scope"]}}))
server.register_grant(Bearer)


@app.post("/oauth/token")
def oauth():
    return server.create_token_response()


app.config["OAUTH2_SCOPES_SUPPORTED"] = ["read"]
app.run("127.0.0.1", int(port))
