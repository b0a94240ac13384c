"""Makes a user and a role that may do everything, and prints their keys. As many calls as `SETUP` says."""

import json
import sys

import boto3

all_of_it = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


def client(name):
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    return boto3.client(name, endpoint_url=sys.argv[1], region_name="eu-west-1", **keys)


iam = client("iam")
iam.create_user(UserName="ci")
key = iam.create_access_key(UserName="ci")["AccessKey"]
iam.put_user_policy(UserName="ci", PolicyName="all", PolicyDocument=all_of_it)
iam.create_role(RoleName="ci", AssumeRolePolicyDocument=all_of_it)
iam.put_role_policy(RoleName="ci", PolicyName="all", PolicyDocument=all_of_it)
role = client("sts").assume_role(RoleArn="arn:aws:iam::123456789012:role/ci", RoleSessionName="ci")["Credentials"]
print(json.dumps({
    "user": {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]},
    "role": {"id": role["AccessKeyId"], "secret": role["SecretAccessKey"], "token": role["SessionToken"]},
}))
