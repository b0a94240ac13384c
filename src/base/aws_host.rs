//! What the name of a host says of the service behind it, where requests are signed as AWS has it. The names are those
//! of AWS's own SDKs (`every_endpoint_of_botocore_is_known_by_its_name`).

/// The service behind a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service<'h> {
    /// Its signing name.
    pub name: &'h str,
    /// The region, unless the host serves all of them.
    pub region: Option<&'h str>,
}

/// The domains whose names are read here: a pattern below one of them needs no region and service in the config.
pub const DOMAINS: &[&str] = &[
    "amazonaws.com",
    "amazonaws.com.cn",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "on.aws",
    "r2.cloudflarestorage.com",
    "backblazeb2.com",
    "wasabisys.com",
    "digitaloceanspaces.com",
];

/// Whether a host, or a pattern of hosts, is in one of the [`DOMAINS`].
pub fn is_known(host: &str) -> bool {
    DOMAINS.iter().any(|domain| below(host, domain).is_some())
}

/// What the name says; `None` where it says nothing.
pub fn service(host: &str) -> Option<Service<'_>> {
    let s3 = |region| {
        Some(Service {
            name: "s3",
            region: Some(region),
        })
    };
    let last = |labels: &'_ str| labels.rsplit('.').next().map_or(0, str::len);
    if let Some(labels) = AWS.iter().find_map(|domain| below(host, domain)) {
        return amazon(labels);
    }
    if below(host, "r2.cloudflarestorage.com").is_some() {
        return s3("auto");
    }
    for domain in ["backblazeb2.com", "wasabisys.com", "digitaloceanspaces.com"] {
        if let Some(labels) = below(host, domain) {
            // `s3.REGION` or `BUCKET.s3.REGION`; DigitalOcean has `REGION` and `BUCKET.REGION`.
            return s3(labels.get(labels.len() - last(labels)..)?);
        }
    }
    None
}

/// The labels of `host` below `domain`.
fn below<'h>(host: &'h str, domain: &str) -> Option<&'h str> {
    host.strip_suffix(domain)?
        .strip_suffix('.')
        .filter(|rest| !rest.is_empty())
}

const AWS: &[&str] = &[
    "amazonaws.com",
    "amazonaws.com.cn",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "on.aws",
];

fn amazon(labels: &str) -> Option<Service<'_>> {
    let labels: Vec<&str> = labels.split('.').collect();
    // `bucket.vpce-1a2b.s3.us-east-1.vpce`: a private endpoint is named before what it leads to.
    let labels = labels.strip_suffix(&["vpce"]).unwrap_or(&labels);
    match labels {
        // An access point of S3 that is in several regions: whichever answers must take the signature.
        [.., "accesspoint", "s3-global"] => found("s3", Some("*")),
        // OpenSearch has the region first.
        [.., region, domain @ ("es" | "aoss")] if is_region(region) => found(domain, Some(region)),
        [region, "queue"] if is_region(region) => found("sqs", Some(region)),
        [.., service, "dualstack", region] | [.., service, region] if is_region(region) => {
            let before = labels.iter().rev().skip_while(|label| *label != service).nth(1);
            named(service, before.copied()).and_then(|name| found(name, Some(region)))
        }
        [.., last] => match last.strip_prefix("s3-").filter(|region| is_region(region)) {
            Some(region) => found("s3", Some(region)),
            None => named(last.strip_suffix("-external-1").unwrap_or(last), None).and_then(|name| found(name, None)),
        },
        [] => None,
    }
}

fn found<'h>(name: &'h str, region: Option<&'h str>) -> Option<Service<'h>> {
    Some(Service { name, region })
}

/// `eu-west-1`, `us-gov-east-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let word = |part: &str| part.len() > 1 && part.bytes().all(|b| b.is_ascii_lowercase());
    match parts.as_slice() {
        [area, words @ .., last] => {
            word(area) && area.len() == 2 && !words.is_empty() && words.iter().all(|w| word(w)) && number(last)
        }
        _ => false,
    }
}

/// The signing name of the service with this label in its host, and `before` it the label before.
fn named<'h>(label: &'h str, before: Option<&str>) -> Option<&'h str> {
    let label = label.strip_suffix("-fips").unwrap_or(label);
    Some(match label {
        "iot" => match before {
            Some("jobs") => "iot-jobs-data",
            Some("tunneling") => "IoTSecuredTunneling",
            Some(account) if account == "ats" || account.ends_with("-ats") => "iotdata",
            _ => "iot",
        },
        "connect" if before == Some("participant") => "execute-api",
        "pinpoint" if before == Some("sms-voice") => "sms-voice",
        "sso" if before == Some("portal") => "awsssoportal",
        "lambda-url" => "lambda",
        "queue" => "sqs",
        "s3-accesspoint" | "s3-control" | "s3-accelerate" | "s3-website" => "s3",
        "s3express-control" => "s3express",
        label if label.starts_with("s3express-") => "s3express",
        label if label.ends_with("chime") => "chime",
        label if label.ends_with("-lex") => "lex",
        label if label.ends_with("marketplace") => "aws-marketplace",
        label => OTHERWISE
            .iter()
            .find(|(known, _)| *known == label)
            .map_or(label, |(_, name)| name),
    })
}

/// Labels of services that sign by another name.
const OTHERWISE: &[(&str, &str)] = &[
    ("agent-registry-control", "agent-registry"),
    ("appconfigdata", "appconfig"),
    ("appstream2", "appstream"),
    ("bedrock-agent", "bedrock"),
    ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-agentcore-control", "bedrock-agentcore"),
    ("bedrock-data-automation", "bedrock"),
    ("bedrock-data-automation-runtime", "bedrock"),
    ("bedrock-runtime", "bedrock"),
    ("cassandra-streams", "cassandra"),
    ("cloudhsmv2", "cloudhsm"),
    ("cloudsearchdomain", "cloudsearch"),
    ("cloudwatch-omni", "cloudwatch"),
    ("contact-lens", "connect"),
    ("data-signer", "signer"),
    ("email", "ses"),
    ("eventsv2", "events"),
    ("forecastquery", "forecast"),
    ("iam-toolbox", "iam"),
    ("ivsrealtime", "ivs"),
    ("mail-manager", "ses"),
    ("memory-db", "memorydb"),
    ("migrationhub-config", "mgh"),
    ("oidc", "sso-oauth"),
    ("partnercentral-prm", "partnercentral"),
    ("personalize-events", "personalize"),
    ("personalize-runtime", "personalize"),
    ("pinpoint", "mobiletargeting"),
    ("servicecatalog-appregistry", "servicecatalog"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_host_says_service_and_region() {
        for (host, expected) in [
            ("s3.amazonaws.com", "s3 -"),
            ("bucket.s3.amazonaws.com", "s3 -"),
            ("my.bucket.s3.eu-west-1.amazonaws.com", "s3 eu-west-1"),
            ("bucket.s3.dualstack.eu-west-1.amazonaws.com", "s3 eu-west-1"),
            ("bucket.s3-eu-west-1.amazonaws.com", "s3 eu-west-1"),
            ("bucket.s3-fips.us-gov-east-1.amazonaws.com", "s3 us-gov-east-1"),
            ("s3.cn-north-1.amazonaws.com.cn", "s3 cn-north-1"),
            ("bucket.s3-accelerate.amazonaws.com", "s3 -"),
            ("s3-external-1.amazonaws.com", "s3 -"),
            ("ap-1.s3-accesspoint.eu-west-1.amazonaws.com", "s3 eu-west-1"),
            ("alias.mrap.accesspoint.s3-global.amazonaws.com", "s3 *"),
            ("123.s3-control.eu-west-1.amazonaws.com", "s3 eu-west-1"),
            (
                "o.s3-object-lambda.eu-west-1.amazonaws.com",
                "s3-object-lambda eu-west-1",
            ),
            ("b.s3express-use1-az4.us-east-1.amazonaws.com", "s3express us-east-1"),
            ("bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", "s3 us-east-1"),
            ("sts.amazonaws.com", "sts -"),
            ("sts.eu-central-1.amazonaws.com", "sts eu-central-1"),
            ("dynamodb.eu-west-1.amazonaws.com", "dynamodb eu-west-1"),
            ("eu-west-1.queue.amazonaws.com", "sqs eu-west-1"),
            ("abc.execute-api.eu-west-1.amazonaws.com", "execute-api eu-west-1"),
            ("search-x-1.us-east-1.es.amazonaws.com", "es us-east-1"),
            ("x.us-east-1.aoss.amazonaws.com", "aoss us-east-1"),
            ("abc-ats.iot.eu-west-1.amazonaws.com", "iotdata eu-west-1"),
            ("abc.lambda-url.eu-west-1.on.aws", "lambda eu-west-1"),
            ("ec2.eu-west-1.api.aws", "ec2 eu-west-1"),
            ("account.r2.cloudflarestorage.com", "s3 auto"),
            ("s3.us-west-004.backblazeb2.com", "s3 us-west-004"),
            ("space.fra1.digitaloceanspaces.com", "s3 fra1"),
            ("amazonaws.com", "none"),
            ("notamazonaws.com", "none"),
            ("minio.test", "none"),
        ] {
            let said = service(host).map(|s| format!("{} {}", s.name, s.region.unwrap_or("-")));
            assert_eq!(said.as_deref().unwrap_or("none"), expected, "{host}");
        }
    }
}
