"""Sums up the signature of each request in a file anew, with botocore, and tells of those that differ."""

import json
import sys
from urllib.parse import parse_qsl, quote, unquote

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

access, secret, path = sys.argv[1:]
wrong = 0
for text in open(path):
    seen = json.loads(text)
    headers = [(name.lower(), value) for name, value in seen["headers"]]
    target, _, query = seen["target"].partition("?")
    found = dict(headers)
    if "authorization" in found:
        parts = dict(part.split("=", 1) for part in found["authorization"].split(" ", 1)[1].split(", "))
        credential, signed, signature = parts["Credential"], parts["SignedHeaders"], parts["Signature"]
        stamp = found["x-amz-date"]
    else:
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        credential, signed = pairs["X-Amz-Credential"], pairs["X-Amz-SignedHeaders"]
        signature, stamp = pairs["X-Amz-Signature"], pairs["X-Amz-Date"]
        query = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
    key, day, region, service, _ = credential.split("/")
    assert key == access, key
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(access, secret), service, region)
    # botocore takes a query, and the path of a key, for encoded as AWS has it; a server decodes and encodes them.
    encode = lambda text: quote(unquote(text), safe="~")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    query = "&".join(f"{encode(name)}={encode(value)}" for name, _, value in pairs)
    if service == "s3":
        target = "/".join(encode(segment) for segment in target.split("/"))
    request = AWSRequest(method=seen["method"], url=f"https://{seen['host']}{target}?{query}", data=seen["body"].encode())
    names = signed.split(";")
    for name, value in headers + [("host", seen["host"])]:
        if name in names and (name != "host" or "host" not in request.headers):
            request.headers.add_header(name, value)
    request.context["timestamp"] = stamp
    if service == "s3" and "x-amz-content-sha256" not in found:
        request.context["payload_signing_enabled"] = False
        auth.payload = lambda request: "UNSIGNED-PAYLOAD"
    elif "x-amz-content-sha256" in found:
        auth.payload = lambda request: found["x-amz-content-sha256"]
    canonical = auth.canonical_request(request)
    ours = auth.signature(auth.string_to_sign(request, canonical), request)
    if ours != signature:
        wrong += 1
        print(f"{seen['method']} {seen['target']}\n{canonical}\n", file=sys.stderr)
sys.exit(wrong)
