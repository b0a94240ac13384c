//! boto3 and the AWS CLI with keys that are worth nothing, towards servers that check signatures.

use super::servers::{moto, s3s};
use super::{ID, SECRET, SIGN, keys};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::tools;
use serde_json::Value;
use std::process::Command;

const HOSTS: [&str; 6] = [
    "s3.eu-west-1.amazonaws.com",
    "bucket.s3.eu-west-1.amazonaws.com",
    "s3.amazonaws.com",
    "sts.eu-west-1.amazonaws.com",
    "sqs.eu-west-1.amazonaws.com",
    "dynamodb.eu-west-1.amazonaws.com",
];

/// How many calls of `setup.py` moto takes before it checks signatures.
const SETUP: u32 = 6;

fn script(name: &str) -> String {
    format!("{}/tests/it/signing/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A moto that checks signatures, the keys of a user of it, and those of a role.
async fn aws(root: &Root, dir: &std::path::Path) -> (super::servers::Server, Value) {
    let server = moto(root, &HOSTS, SETUP, dir).await;
    let mut setup = Command::new(tools::python());
    setup.arg(script("setup.py")).arg(format!("http://{}", server.plain));
    let output = setup.env("AWS_DEFAULT_REGION", "eu-west-1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (server, serde_json::from_slice(&output.stdout).unwrap())
}

fn reach_all(mut rig: Rig, server: &super::servers::Server) -> Rig {
    for host in HOSTS {
        rig = rig.reach_as(host, server.address);
    }
    rig.env("AWS_DEFAULT_REGION", "eu-west-1")
}

#[tokio::test]
async fn boto3_and_the_aws_cli_use_s3_sts_sqs_and_dynamodb_with_keys_they_never_had() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let (server, made) = aws(&root, dir.path()).await;
    let (id, secret) = (
        made["user"]["id"].as_str().unwrap(),
        made["user"]["secret"].as_str().unwrap(),
    );
    let rig = reach_all(keys(&root, id, secret), &server)
        .rule(&format!("name: aws, host: \"*.amazonaws.com\", inject: [{{ {SIGN} }}]"));
    let python = tools::python();
    let python = python.to_str().unwrap();
    let ran = rig.run(&[python, &script("services.py")]).await.ok();
    assert_eq!(ran.stdout.trim(), "done", "{}", ran.stderr);
    assert_ne!(ran.env["AWS_ACCESS_KEY_ID"], id);
    std::fs::write(rig.dir().join("file"), vec![b'x'; 9 << 20]).unwrap();
    for (words, expected) in [
        (
            "sts get-caller-identity --query Arn --output text",
            "arn:aws:iam::123456789012:user/ci",
        ),
        (
            "s3 cp file s3://bucket/cli --no-progress",
            "upload: ./file to s3://bucket/cli",
        ),
        (
            "s3 cp s3://bucket/cli back --no-progress",
            "download: s3://bucket/cli to ./back",
        ),
        ("s3 ls s3://bucket/cli", "9437184 cli"),
    ] {
        let words: Vec<&str> = [python, "-m", "awscli"].into_iter().chain(words.split(' ')).collect();
        let ran = rig.run(&words).await.ok();
        assert!(ran.stdout.contains(expected), "{words:?}: {}", ran.stdout);
    }
    assert_eq!(std::fs::read(rig.dir().join("back")).unwrap().len(), 9 << 20);
    // Without Keyferry the server does not take these keys.
    let mut bare = Command::new(python);
    bare.args(["-m", "awscli", "sts", "get-caller-identity", "--endpoint-url"])
        .arg(format!("http://{}", server.plain))
        .envs([
            ("AWS_ACCESS_KEY_ID", ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        ]);
    let refused = bare.output().unwrap();
    assert!(!refused.status.success(), "moto checks nothing");
}

#[tokio::test]
async fn the_session_token_of_a_role_goes_along() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let (server, made) = aws(&root, dir.path()).await;
    let role = |key: &str| made["role"][key].as_str().unwrap();
    let rig = reach_all(keys(&root, role("id"), role("secret")), &server)
        .secret("AWS_SESSION_TOKEN", role("token"))
        .rule(&format!(
            "name: aws, host: \"*.amazonaws.com\", inject: [{{ {} }}]",
            SIGN.replace(" }", ", session_token: aws_session_token }")
        ));
    let python = tools::python();
    let ran = rig.run(&[python.to_str().unwrap(), &script("session.py")]).await.ok();
    assert_eq!(ran.stdout.trim(), "done", "{}", ran.stderr);
}

#[tokio::test]
async fn a_server_for_s3_alone_takes_objects_parts_and_signed_urls() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let server = s3s(&root, "s3.test", ID, SECRET, dir.path()).await;
    let rig = keys(&root, ID, SECRET)
        .reach_as("s3.test", server.address)
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .rule(&format!(
            "name: s3, host: s3.test, inject: [{{ {} }}]",
            SIGN.replace(" }", ", region: eu-west-1, service: s3 }")
        ));
    let python = tools::python();
    let ran = rig
        .run(&[python.to_str().unwrap(), &script("objects.py"), "https://s3.test"])
        .await
        .ok();
    assert_eq!(ran.stdout.trim(), "done", "{}", ran.stderr);
}
