"""Objects in a bucket: whole, in parts, as streams, by signed URLs, under names that are easily misread."""

import sys

import boto3
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

endpoint = sys.argv[1]
for config in (
    Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    Config(signature_version="s3v4", s3={"addressing_style": "path", "payload_signing_enabled": True}),
):
    s3 = boto3.client("s3", endpoint_url=endpoint, config=config)
    for key in ("plain", "a b+c/d~e", "ünï/(x)=&'*!$@,;:", "tilde~dot.dash-_"):
        s3.put_object(Bucket="bucket", Key=key, Body=key.encode(), Metadata={"two": "a  b", "one": "x"})
        assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == key.encode(), key
    listed = s3.list_objects_v2(Bucket="bucket", Prefix="ünï/(x)=&'*!$@,")
    assert [item["Key"] for item in listed["Contents"]] == ["ünï/(x)=&'*!$@,;:"], listed

    big = bytes(range(256)) * 4096 * 12
    open("big", "wb").write(big)
    s3.upload_file("big", "bucket", "big", Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
    assert s3.get_object(Bucket="bucket", Key="big")["Body"].read() == big

    url = s3.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "by url"}, ExpiresIn=60)
    answer = requests.put(url, data=b"by url")
    assert answer.status_code == 200, answer.text
    url = s3.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "by url"}, ExpiresIn=604800)
    answer = requests.get(url)
    assert (answer.status_code, answer.content) == (200, b"by url"), answer.text
    assert requests.get(url.split("?")[0]).content == b"by url"
print("done")
