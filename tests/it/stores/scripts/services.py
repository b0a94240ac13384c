"""What Kubernetes, STS, Google Secret Manager, Azure Key Vault and 1Password Connect do for who reads a secret, as far as their documentation has it:
each bearer is checked with joserfc, or against those that were handed out. No registry has these servers. The operator's side,
`/operator`, is for the test alone."""

import base64
import json
import sys
import time
import urllib.request

from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

port, rsa = sys.argv[1:]
account = RSAKey.import_key(open(rsa).read())
cluster = RSAKey.generate_key(2048)
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
    account = {"namespace": request.args.get("namespace", "prod"), "serviceaccount": {"name": "keyferry", "uid": "uid-of-keyferry"}}
    now = int(time.time())
    claims = {"iss": "https://kubernetes.default.svc", "sub": f"system:serviceaccount:{account['namespace']}:keyferry",
              "aud": ["https://kubernetes.default.svc"], "kubernetes.io": account,
              "iat": now, "nbf": now, "exp": now + int(request.args["seconds"])}
    return jwt.encode({"alg": "RS256"}, claims, cluster)


def account_of(token):
    """What a token of the cluster's says, while it is good; nothing otherwise."""
    try:
        claims = jwt.decode(token, cluster, algorithms=["RS256"]).claims
    except (JoseError, ValueError):
        return None
    return claims if claims["exp"] > time.time() else None


@app.post("/apis/authentication.k8s.io/v1/tokenreviews")
def review():
    """Whose token this is. One that is asked for audiences names those that the token is for: who asks must find its own there, or
    take the token for one of somebody who knows of no audiences."""
    if account_of(bearer()) is None:
        return jsonify(kind="Status", status="Failure", code=401), 401
    spec = request.get_json()["spec"]
    claims = account_of(spec["token"])
    shared = [one for one in spec.get("audiences", claims["aud"]) if one in claims["aud"]] if claims else []
    status = {"authenticated": False, "error": "invalid bearer token"}
    if shared:
        user = {"username": claims["sub"], "uid": claims["kubernetes.io"]["serviceaccount"]["uid"], "groups": []}
        status = {"authenticated": True, "user": user, "audiences": shared}
    return jsonify(kind="TokenReview", apiVersion="authentication.k8s.io/v1", status=status), 201


@app.get("/api/v1/namespaces/<namespace>/secrets/<name>")
def kubernetes(namespace, name):
    def status(code):
        return jsonify(kind="Status", status="Failure", code=code), code

    if account_of(bearer()) is None:
        return status(401)
    if namespace != "prod":
        return status(403)
    if f"kubernetes/{name}" not in kept:
        return status(404)
    values = json.loads(kept[f"kubernetes/{name}"])
    return jsonify(kind="Secret", metadata={"name": name}, data={key: encoded(value) for key, value in values.items()})


@app.post("/")
def sts():
    """STS, before a moto that knows nothing of whom a token of the cluster's names."""
    asked = request.get_data()
    form = request.form
    claims = account_of(form["WebIdentityToken"])
    if claims is None or form["RoleArn"] != "arn:aws:iam::123456789012:role/ci":
        code = "InvalidIdentityToken" if claims is None else "AccessDenied"
        return f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code></Error></ErrorResponse>", 400
    asked = urllib.request.Request(kept["sts"], asked, {"content-type": "application/x-www-form-urlencoded"})
    return urllib.request.urlopen(asked).read()


@app.post("/google/token")
def google_token():
    claims = jwt.decode(request.form["assertion"], account, algorithms=["RS256"]).claims
    assert claims["iss"] == "keyferry@acme.iam.gserviceaccount.com" and claims["iat"] <= time.time() < claims["exp"], claims
    return jsonify(access_token=issue(scope=claims["scope"]), expires_in=3599, token_type="Bearer")


@app.get("/v1/projects/<project>/secrets/<name>/versions/<version>:access")
@app.get("/v1/projects/<project>/locations/<location>/secrets/<name>/versions/<version>:access")
def google(project, name, version, location=""):
    def status(code):
        return jsonify(error={"code": code}), code

    if bearer() not in issued:
        return status(401)
    if issued[bearer()].get("scope") != "https://www.googleapis.com/auth/cloud-platform" or project != "acme":
        return status(403)
    text = kept.get(f"google/{location}{name}/{version}")
    return jsonify(name=request.path, payload={"data": encoded(text)}) if text is not None else status(404)


@app.post("/contoso.example/oauth2/v2.0/token")
def azure_token():
    form = request.form
    assert (form["client_id"], form["client_secret"], form["grant_type"]) == ("app", "app-s3cr&t", "client_credentials")
    return jsonify(access_token=issue(scope=form["scope"]), expires_in=3599, token_type="Bearer")


@app.get("/secrets/<name>")
@app.get("/secrets/<name>/<version>")
def azure(name, version="newest"):
    if bearer() not in issued:
        return jsonify(error={"code": "Unauthorized"}), 401
    if issued[bearer()].get("scope") != "https://vault.azure.net/.default":
        return jsonify(error={"code": "Forbidden"}), 403
    assert request.args["api-version"] == "7.4"
    text = kept.get(f"azure/{name}/{version}")
    return jsonify(value=text) if text is not None else (jsonify(error={"code": "SecretNotFound"}), 404)


@app.before_request
def connect_token():
    if request.path.startswith("/v1/vaults") and bearer() != "connect-token-0123456789":
        return jsonify(status=401, message="Invalid token signature"), 401


def listed(things, name):
    """Those that the filter leaves, which must be there: all would be others' too."""
    start, end = f'{name} eq "', '"'
    wanted = request.args["filter"]
    assert wanted.startswith(start) and wanted.endswith(end), wanted
    wanted = wanted.removeprefix(start).removesuffix(end)
    return jsonify([{"id": thing["id"], name: thing[name]} for thing in things if thing[name] == wanted])


@app.get("/v1/vaults")
def vaults():
    return listed(json.loads(kept["onepassword/vaults"]), "name")


@app.get("/v1/vaults/<vault>/items")
def items(vault):
    return listed([item for item in json.loads(kept["onepassword/items"]) if item["vault"] == vault], "title")


@app.get("/v1/vaults/<vault>/items/<name>")
def item(vault, name):
    found = [item for item in json.loads(kept["onepassword/items"]) if (item["vault"], item["id"]) == (vault, name)]
    return jsonify(found[0]) if found else (jsonify(status=404, message="not found"), 404)


@app.delete("/operator/tokens")
def revoke():
    """Every token that was handed out is worth nothing any more."""
    issued.clear()
    return ""


app.run("127.0.0.1", int(port))
