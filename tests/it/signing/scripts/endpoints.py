"""Prints each endpoint that botocore knows, with the name its requests are signed for."""

import botocore.session

session = botocore.session.get_session()
seen = set()
for name in session.get_available_services():
    for region in ("eu-west-1", "cn-north-1"):
        try:
            client = session.create_client(name, region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
        except Exception:  # Not every service is in every region.
            continue
        metadata = client.meta.service_model.metadata
        # CodeCatalyst and the like take bearer tokens, and sign nothing.
        if metadata.get("signatureVersion") in ("v4", "s3v4", "s3"):
            host = client.meta.endpoint_url.split("://")[1]
            seen.add((host, metadata.get("signingName", metadata["endpointPrefix"])))
for host, service in sorted(seen):
    print(host, service)
