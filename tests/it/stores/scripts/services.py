"""What Kubernetes, Google Secret Manager and Azure Key Vault do for who reads a secret, as far as their documentation has it:
each bearer is checked with joserfc, or against those that were handed out. No registry has these servers. The operator's side,
`/operator`, is for the test alone."""

import base64
import json
import sys
import time

from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey, RSAKey

port, rsa = sys.argv[1:]
account = RSAKey.import_key(open(rsa).read())
cluster = OKPKey.generate_key("Ed25519")
app = Flask(__name__)
kept, issued = {}, {}


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def bearer():
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def issue(**what):
    token = f"issued-{len(issued)}-0123456789abcdef"
    issued[token] = what
    return token


@app.put("/operator/<path:name>")
def keep(name):
    kept[name] = request.get_data(as_text=True)
    return ""


@app.post("/operator/account")
def account_token():
    """A token of the pod's account, as the kubelet has it made."""
    claims = {"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:prod:keyferry",
              "aud": ["https://kubernetes.default.svc"], "exp": int(time.time() + float(request.args["seconds"]))}
    return jwt.encode({"alg": "EdDSA"}, claims, cluster, algorithms=["EdDSA"])


@app.get("/api/v1/namespaces/<namespace>/secrets/<name>")
def kubernetes(namespace, name):
    def status(code):
        return jsonify(kind="Status", status="Failure", code=code), code

    try:
        claims = jwt.decode(bearer(), cluster, algorithms=["EdDSA"]).claims
    except (JoseError, ValueError):
        return status(401)
    if claims["exp"] <= time.time():
        return status(401)
    if namespace != "prod":
        return status(403)
    if f"kubernetes/{name}" not in kept:
        return status(404)
    values = json.loads(kept[f"kubernetes/{name}"])
    return jsonify(kind="Secret", metadata={"name": name}, data={key: encoded(value) for key, value in values.items()})


app.run("127.0.0.1", int(port))
