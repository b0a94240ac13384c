"""Temporary credentials: their token must go along."""

import boto3

assert ":assumed-role/ci/" in boto3.client("sts").get_caller_identity()["Arn"]
s3 = boto3.client("s3")
s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
s3.put_object(Bucket="bucket", Key="key", Body=b"x")
assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == b"x"
print("done")
