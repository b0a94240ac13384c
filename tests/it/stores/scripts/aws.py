"""What the operator keeps in AWS: `URL ID SECRET secret NAME TEXT`, `… pending NAME TEXT`, `… binary NAME TEXT`, `… parameter NAME TEXT`."""

import sys

import boto3

url, key, secret, what, name, text = sys.argv[1:]


def client(service):
    return boto3.client(
        service, endpoint_url=url, region_name="eu-west-1", aws_access_key_id=key, aws_secret_access_key=secret
    )


if what == "parameter":
    client("ssm").put_parameter(Name=name, Value=text, Type="SecureString", Overwrite=True)
else:
    manager = client("secretsmanager")
    value = {"SecretBinary": text.encode()} if what == "binary" else {"SecretString": text}
    if what == "pending":
        manager.put_secret_value(SecretId=name, VersionStages=["AWSPENDING"], **value)
    else:
        try:
            manager.create_secret(Name=name, **value)
        except manager.exceptions.ResourceExistsException:
            manager.put_secret_value(SecretId=name, **value)
