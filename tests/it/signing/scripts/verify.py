"""Sums up the signature of each request in a file anew, with botocore, and tells of those that differ. With the folder of awscrt, which
signs for sets of regions: those of version 4A are checked with cryptography, and so is one that awscrt made."""

import datetime
import hashlib
import hmac

import json
import sys
from urllib.parse import parse_qsl, quote, unquote

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

access, secret, path, *crt = sys.argv[1:]
ASYMMETRIC = "AWS4-ECDSA-P256-SHA256"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def by_awscrt():
    """A request as AWS's own library signs it for every region."""
    sys.path.append(crt[0])
    from awscrt import auth, http

    request = http.HttpRequest("GET", "/crt?b=2&a=1", http.HttpHeaders([("host", "api.test")]))
    config = auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4_ASYMMETRIC,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=auth.AwsCredentialsProvider.new_static(access, secret),
        region="*",
        service="execute-api",
        date=datetime.datetime.now(datetime.timezone.utc),
    )
    auth.aws_sign_request(request, config).result(20)
    headers = [[name, value] for name, value in request.headers if name.lower() != "host"]
    return {"method": "GET", "target": "/crt?b=2&a=1", "host": "api.test", "headers": headers, "body": ""}


def is_signed(canonical, stamp, credential, signature):
    """Whether the public half of the key that the secret gives confirms a signature of version 4A."""
    text = "\n".join([ASYMMETRIC, stamp, credential, hashlib.sha256(canonical.encode()).hexdigest()])
    for count in range(1, 255):
        block = b"\0\0\0\1" + ASYMMETRIC.encode() + b"\0" + access.encode() + bytes([count]) + b"\0\0\1\0"
        number = int.from_bytes(hmac.digest(b"AWS4A" + secret.encode(), block, "sha256"), "big")
        if number <= ORDER - 2:
            break
    public = ec.derive_private_key(number + 1, ec.SECP256R1()).public_key()
    try:
        public.verify(bytes.fromhex(signature), text.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


wrong = 0
requests = [json.loads(text) for text in open(path)] + ([by_awscrt()] if crt else [])
for seen in requests:
    headers = [(name.lower(), value) for name, value in seen["headers"]]
    target, _, query = seen["target"].partition("?")
    found = dict(headers)
    if "authorization" in found:
        parts = dict(part.split("=", 1) for part in found["authorization"].split(" ", 1)[1].split(", "))
        credential, signed, signature = parts["Credential"], parts["SignedHeaders"], parts["Signature"]
        stamp, algorithm = found["x-amz-date"], found["authorization"].split(" ")[0]
        regions = found.get("x-amz-region-set")
    else:
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        credential, signed = pairs["X-Amz-Credential"], pairs["X-Amz-SignedHeaders"]
        signature, stamp, algorithm = pairs["X-Amz-Signature"], pairs["X-Amz-Date"], pairs["X-Amz-Algorithm"]
        regions = pairs.get("X-Amz-Region-Set")
        query = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
    key, day, *region, service, _ = credential.split("/")
    assert key == access, key
    assert (algorithm, regions, len(region)) == ((ASYMMETRIC, "*", 0) if crt else ("AWS4-HMAC-SHA256", None, 1)), seen
    region = "".join(region)
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
    if crt:
        right = is_signed(canonical, stamp, credential.partition("/")[2], signature)
    else:
        right = auth.signature(auth.string_to_sign(request, canonical), request) == signature
    if not right:
        wrong += 1
        print(f"{seen['method']} {seen['target']}\n{canonical}\n", file=sys.stderr)
sys.exit(wrong)
