//! Moto's Secrets Manager and Parameter Store, which check each signature with botocore.

use super::{RULE, given, refusal, tried, until_given};
use crate::rig::origin::{Answer, Origin, Service, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::routes;
use crate::rig::tools;
use crate::signing::servers::{Server, moto};
use http::StatusCode;
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub const HOSTS: [&str; 3] = [
    "secretsmanager.eu-west-1.amazonaws.com",
    "ssm.eu-west-1.amazonaws.com",
    "sts.eu-west-1.amazonaws.com",
];
const JSON: &str = r#"{"key":"sk-first-0123456789","db":{"password":"nested-0123456789"}}"#;

pub struct Aws {
    pub root: Root,
    pub server: Server,
    pub api: Origin,
    made: Value,
    _dir: tempfile::TempDir,
}

pub async fn aws() -> Aws {
    open_to(6).await
}

/// One that checks no signature of its first so many calls: six make its users.
pub async fn open_to(calls: u32) -> Aws {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let server = moto(&root, &HOSTS, calls, dir.path()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/signing/scripts/setup.py");
    let mut setup = Command::new(tools::python());
    let output = setup.arg(script).arg(format!("http://{}", server.plain)).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let aws = Aws {
        api: Origin::start(&root, "api.test").await,
        made: serde_json::from_slice(&output.stdout).unwrap(),
        root,
        server,
        _dir: dir,
    };
    aws.keep("secret", "prod/stripe", JSON);
    aws
}

impl Aws {
    pub fn key(&self, whose: &str, part: &str) -> &str {
        self.made[whose][part].as_str().unwrap()
    }

    /// Has AWS keep something, as its operator does.
    pub fn keep(&self, what: &str, name: &str, text: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stores/scripts/aws.py");
        let output = Command::new(tools::python())
            .args([script, &format!("http://{}", self.server.plain)])
            .args([self.key("user", "id"), self.key("user", "secret"), what, name, text])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn rig(&self) -> Rig {
        let rig = HOSTS.iter().fold(Rig::new(&self.root).reach(&self.api), |rig, host| {
            rig.reach_as(host, self.server.address)
        });
        rig.rule(RULE)
    }

    /// One that finds the user's keys where AWS's own programs do.
    fn in_variables(&self) -> Rig {
        self.rig()
            .config("aws: { region: eu-west-1 }")
            .env("AWS_ACCESS_KEY_ID", self.key("user", "id"))
            .env("AWS_SECRET_ACCESS_KEY", self.key("user", "secret"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_and_parameters_of_aws_are_read_whole_or_by_field() {
    let aws = aws().await;
    aws.keep("pending", "prod/stripe", "sk-pending-0123456789");
    aws.keep("binary", "binary", "bytes-0123456789");
    aws.keep("parameter", "/prod/smtp", "smtp-0123456789");
    aws.keep("parameter", "/prod/json", JSON);
    let arn = "\"arn:aws:ssm:eu-west-1:123456789012:parameter/prod/smtp\"";
    for (spec, value) in [
        ("aws_secret: { id: prod/stripe, field: key }", "sk-first-0123456789"),
        (
            "aws_secret: { id: prod/stripe, field: /db/password }",
            "nested-0123456789",
        ),
        (
            "aws_secret: { id: prod/stripe, stage: AWSPENDING }",
            "sk-pending-0123456789",
        ),
        ("aws_secret: { id: binary }", "bytes-0123456789"),
        ("aws_parameter: { name: /prod/smtp }", "smtp-0123456789"),
        ("aws_parameter: { name: \"/prod/smtp:1\" }", "smtp-0123456789"),
        ("aws_parameter: { name: /prod/json, field: key }", "sk-first-0123456789"),
        (
            &format!("aws_parameter: {{ name: {arn}, region: eu-west-1 }}"),
            "smtp-0123456789",
        ),
    ] {
        let rig = aws.in_variables().secret_spec("key", &format!("{{ {spec} }}"));
        assert_eq!(tried(&rig), (Some(0), "ok: key\n".to_owned()), "{spec}");
        let proxy = rig.serve().await;
        assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some(value), "{spec}");
    }
}

#[tokio::test]
async fn a_secret_that_is_rotated_in_aws_is_taken_up_and_a_role_shows_its_session_token() {
    let aws = aws().await;
    let keys = "aws: { region: eu-west-1, access_key_id: id, secret_access_key: secret, session_token: token }";
    let rig = aws
        .rig()
        .config(keys)
        .secret("ID", aws.key("role", "id"))
        .secret("SECRET", aws.key("role", "secret"))
        .secret("TOKEN", aws.key("role", "token"))
        .secret_spec("key", "{ aws_secret: { id: prod/stripe, field: key, ttl: 1s } }");
    let proxy = rig.serve().await;
    assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some("sk-first-0123456789"));
    aws.keep("secret", "prod/stripe", r#"{"key":"sk-second-0123456789"}"#);
    until_given(&proxy, &aws.api, "sk-second-0123456789").await;
}

#[tokio::test]
async fn what_aws_refuses_is_told_in_words_and_lets_nothing_out() {
    let aws = aws().await;
    aws.keep("secret", "lines", "one\ntwo-0123456789");
    let (id, secret) = (aws.key("user", "id"), aws.key("user", "secret"));
    let wrong = "f8Zk+3QmV1xT7rLwPq0yBn5HcJ2sDgA9/eUiKoXt";
    for (keys, spec, told) in [
        (
            (id, secret),
            "aws_secret: { id: nothing }",
            "there is no such secret or parameter",
        ),
        (
            (id, secret),
            "aws_parameter: { name: nothing }",
            "there is no such secret or parameter",
        ),
        ((id, secret), "aws_secret: { id: lines }", "it is of several lines"),
        (
            (id, secret),
            "aws_secret: { id: prod/stripe, field: other }",
            "with a text under `other`",
        ),
        (
            (id, wrong),
            "aws_secret: { id: prod/stripe, field: key }",
            "it does not take this signature",
        ),
        (
            (id, wrong),
            "aws_parameter: { name: nothing }",
            "it does not take this signature",
        ),
        (
            ("AKIAJ7QX2M4T6V9BN3WZ", wrong),
            "aws_secret: { id: prod/stripe }",
            "it does not know this key",
        ),
    ] {
        let rig = aws.rig().config("aws: { region: eu-west-1 }");
        let rig = rig
            .env("AWS_ACCESS_KEY_ID", keys.0)
            .env("AWS_SECRET_ACCESS_KEY", keys.1);
        let proxy = rig.secret_spec("key", &format!("{{ {spec} }}")).serve().await;
        let said = refusal(&proxy, &aws.api).await;
        assert!(said.contains(told), "{told}: {said}");
        for value in [secret, wrong, "sk-first", "two-01"] {
            assert!(!said.contains(value), "{said}");
        }
    }
    let proxy = aws
        .rig()
        .secret_spec("key", "{ aws_secret: { id: x, region: eu-west-1 } }")
        .serve()
        .await;
    let said = refusal(&proxy, &aws.api).await;
    assert!(said.contains("`AWS_ACCESS_KEY_ID` is not set"), "{said}");
    assert_eq!(aws.api.connections(), 0);
}

#[tokio::test]
async fn temporary_keys_that_have_ended_are_asked_for_anew_once() {
    let root = Root::new();
    // Moto's keys never end: what stands here says so of the first ones, as AWS does, once it is told to.
    let ended = Arc::new(AtomicBool::new(false));
    let say = Arc::clone(&ended);
    let service: Service = Arc::new(move |request, _| -> Answer {
        let first = request.headers()["x-amz-security-token"] == "first-token-0123456789";
        let ended = say.load(Ordering::Relaxed);
        Box::pin(async move {
            if first && ended {
                let mut refused =
                    routes::json(&json!({"__type": "com.amazonaws#ExpiredTokenException", "message": "ended"}));
                *refused.status_mut() = StatusCode::BAD_REQUEST;
                return refused;
            }
            routes::json(&json!({"SecretString": if first { "value-of-first" } else { "value-of-second" }}))
        })
    });
    let store = Origin::with(&root, HOSTS[0], Speaks::Both, service).await;
    let api = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&store).reach(&api).rule(RULE);
    std::fs::write(rig.dir().join("token"), "first-token-0123456789").unwrap();
    let keys = "aws: { region: eu-west-1, access_key_id: id, secret_access_key: id, session_token: token }";
    let rig = rig
        .config(keys)
        .secret("ID", "key-0123456789")
        .secret_spec("token", "{ exec: [cat, token] }")
        .secret_spec("key", "{ aws_secret: { id: x, ttl: 1s, grace: 1s } }");
    let proxy = rig.serve().await;
    assert_eq!(given(&proxy, &api).await.as_deref(), Some("value-of-first"));
    // They must have some age.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    std::fs::write(proxy.rig.dir().join("token"), "second-token-0123456789").unwrap();
    ended.store(true, Ordering::Relaxed);
    until_given(&proxy, &api, "value-of-second").await;
    let log = proxy.child.log();
    assert!(!log.contains("could not be fetched"), "{log}");
}

#[tokio::test]
async fn what_the_page_says_of_aws_can_be_followed() {
    let aws = aws().await;
    let rig = Rig::new(&aws.root);
    let keys = [
        ("the-id", aws.key("user", "id")),
        ("the-key", aws.key("user", "secret")),
    ];
    let servers = [(HOSTS[0], aws.server.address)];
    super::follow(&rig, &super::example(0, &[]), &aws.api, &servers, &keys).await;
    assert_eq!(
        aws.api.seen().pop().unwrap().all("authorization"),
        ["Bearer sk-first-0123456789"]
    );
}
