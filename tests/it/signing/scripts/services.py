"""Four services of AWS, by the names and in the ways that AWS's own library has for them."""

import boto3

sts = boto3.client("sts")
assert sts.get_caller_identity()["Arn"].endswith(":user/ci")

s3 = boto3.client("s3")
s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
for key in ("plain", "a b+c/ü"):
    s3.put_object(Bucket="bucket", Key=key, Body=b"x" * 1000)
    assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == b"x" * 1000
assert s3.list_objects_v2(Bucket="bucket", Prefix="a b+")["KeyCount"] == 1

sqs = boto3.client("sqs")
queue = sqs.create_queue(QueueName="queue")["QueueUrl"].replace("http://", "https://")
sqs.send_message(QueueUrl=queue, MessageBody="a message & more")
assert sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "a message & more"

table = boto3.resource("dynamodb").create_table(
    TableName="table",
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
)
table.put_item(Item={"id": "ünï", "blob": "y" * 200_000})
assert len(table.get_item(Key={"id": "ünï"})["Item"]["blob"]) == 200_000
print("done")
