"""What a machine of AWS's asks for the credentials of its role, as far as AWS's documentation has it: the container endpoint of ECS
and EKS, and the instance metadata service, version 2 alone. The credentials are moto's, which checks whatever they sign. And a front
for moto that takes no signature of more than five minutes ago or ahead, as AWS does and moto does not.
`HOST PORT MOTO ID SECRET`. The operator's side, `/operator`, is for the test alone."""

import datetime
import sys
import urllib.error
import urllib.request

import boto3
from flask import Flask, jsonify, request

host, port, moto, key, secret = sys.argv[1:]
app = Flask(__name__)
sts = boto3.client("sts", endpoint_url=moto, region_name="eu-west-1", aws_access_key_id=key, aws_secret_access_key=secret)
told = {"token": "", "seconds": "3600", "role": "ci"}
given, tokens, fronted = [], set(), []


def credentials():
    made = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/ci", RoleSessionName=f"machine-{len(given)}")["Credentials"]
    given.append(made["AccessKeyId"])
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=int(told["seconds"]))
    return {"AccessKeyId": made["AccessKeyId"], "SecretAccessKey": made["SecretAccessKey"], "Token": made["SessionToken"],
            "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


@app.put("/operator/<name>")
def tell(name):
    told[name] = request.get_data(as_text=True)
    return ""


@app.get("/operator/given")
def handed_out():
    return " ".join(given)


@app.get("/v2/credentials/task")
@app.get("/v1/credentials")
def container():
    if request.headers.get("Authorization", "") != told["token"]:
        return jsonify(code="UnauthorizedToken", message="words-of-the-machine"), 401
    return jsonify(RoleArn="arn:aws:iam::123456789012:role/ci", **credentials())


@app.put("/latest/api/token")
def token():
    seconds = int(request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "0"))
    if not 1 <= seconds <= 21600:
        return "", 400
    if "X-Forwarded-For" in request.headers:
        return "", 403
    tokens.add(f"metadata-token-{len(tokens)}")
    return f"metadata-token-{len(tokens) - 1}"


@app.before_request
def version_two():
    if request.path.startswith("/latest/meta-data") and request.headers.get("X-aws-ec2-metadata-token") not in tokens:
        return "", 401


@app.get("/latest/meta-data/iam/security-credentials/")
def roles():
    return told["role"] if told["role"] else ("", 404)


@app.get("/latest/meta-data/iam/security-credentials/<name>")
def role(name):
    if name != told["role"]:
        return "", 404
    return jsonify(Code="Success", Type="AWS-HMAC", LastUpdated="2026-01-01T00:00:00Z", **credentials())


@app.post("/")
def front():
    stamp = datetime.datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    off = abs((datetime.datetime.now(datetime.timezone.utc) - stamp).total_seconds())
    fronted.append(round(off))
    if off > 300 or told.get("refuse"):
        return jsonify(__type="InvalidSignatureException", message="Signature not yet current"), 400
    asked = urllib.request.Request(moto, request.get_data(), dict(request.headers))
    try:
        return urllib.request.urlopen(asked).read()
    except urllib.error.HTTPError as error:
        return error.read(), error.code


@app.get("/operator/fronted")
def seen():
    return " ".join(map(str, fronted))


app.run(host, int(port))
