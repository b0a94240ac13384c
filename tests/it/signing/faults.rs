//! What the config says and does not say.

use super::{ID, SECRET, SIGN, keys};
use crate::rig::agent::request;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use http::Method;

#[tokio::test]
async fn without_a_key_nothing_goes_out() {
    let root = Root::new();
    let origin = Origin::start(&root, "s3.eu-west-1.amazonaws.com").await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .secret("AWS_ACCESS_KEY_ID", ID)
        .secret_spec("aws_secret_access_key", "{ exec: [/bin/false] }")
        .rule(&format!("name: s3, host: \"*.amazonaws.com\", inject: [{{ {SIGN} }}]"))
        .serve()
        .await;
    let mut http = proxy.agent.h1("s3.eu-west-1.amazonaws.com").await;
    let reply = http
        .reply(request(Method::PUT, "https://s3.eu-west-1.amazonaws.com/b/k", "x"))
        .await;
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "credential_unavailable"));
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_host_that_says_nothing_wants_region_and_service_in_the_rule() {
    for (sign, told) in [
        (
            SIGN.to_owned(),
            "the host's name does not say for which region and service to sign",
        ),
        (
            SIGN.replace(" }", ", region: eu west, service: s3 }"),
            "expected the name of a region or service",
        ),
        (
            SIGN.replace(" }", ", payload: none, region: a, service: b }"),
            "expected `signed` or `unsigned`",
        ),
        (
            SIGN.replace("secret_access_key: aws", "secret_access_keys: aws"),
            "did you mean `secret_access_key`?",
        ),
        (
            SIGN.replace("secret_access_key: aws", "secret_access_key: azz"),
            "no secret is named",
        ),
        (
            format!("{SIGN} }}, {{ bearer: aws_access_key_id"),
            "two injections into header `authorization`",
        ),
    ] {
        let rig = keys(&Root::new(), ID, SECRET).rule(&format!("name: s3, host: minio.test, inject: [{{ {sign} }}]"));
        let output = rig.command(&["check"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(told), "{told}: {said}");
    }
}

#[tokio::test]
async fn a_signature_refused_for_its_time_is_told_with_how_far_the_clocks_differ() {
    let root = crate::rig::root::Root::new();
    let service = |_, _| -> crate::rig::origin::Answer {
        Box::pin(async {
            let told = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
            let mut reply = crate::rig::routes::bytes(told, "application/xml");
            *reply.status_mut() = http::StatusCode::FORBIDDEN;
            reply
        })
    };
    let host = "reports.s3.eu-west-1.amazonaws.com";
    let speaks = crate::rig::origin::Speaks::Both;
    let origin = crate::rig::origin::Origin::with(&root, host, speaks, std::sync::Arc::new(service)).await;
    for (offset, words) in [
        ("-600s", Some("ahead of this machine's")),
        ("+600s", Some("behind")),
        ("+0s", None),
    ] {
        let rig = super::keys(&root, super::ID, super::SECRET).reach(&origin);
        let rig = rig.rule(&format!("host: {host}, inject: [{{ {} }}]", super::SIGN));
        let proxy = crate::clock::off(rig, offset).serve().await;
        let reply = proxy.agent.get(&format!("https://{host}/a")).await;
        assert_eq!(reply.status, 403);
        let record = proxy.record().await;
        let reason = record["reason"].as_str();
        assert_eq!(reason.is_some(), words.is_some(), "{record:#}");
        assert!(words.is_none_or(|words| reason.unwrap().contains(words)), "{record:#}");
    }
}
