//! The credentials of a role, from where a machine of AWS's has them. The services of the machine are stand-ins; what they hand out
//! is moto's, which checks each signature with botocore, and so is STS.

use super::aws::{Aws, HOSTS, aws, open_to};
use super::services::Services;
use super::{given, refusal, tried};
use crate::rig::agent::{Reply, request};
use crate::rig::netns::Networks;
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::running::Running;
use crate::rig::{PATIENCE, tools};
use crate::signing::servers::free;
use http::Method;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What a machine is asked for, and a rig beside it.
pub struct Machine {
    pub at: SocketAddr,
    pub running: Running,
}

impl Machine {
    pub fn command(aws: &Aws, at: SocketAddr) -> Command {
        let mut command = Command::new(tools::python());
        bare(&mut command, std::path::Path::new("/nonexistent"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/stores/scripts/machine.py");
        command
            .args([script, &at.ip().to_string(), &at.port().to_string()])
            .arg(format!("http://{}", aws.server.plain))
            .args([aws.key("user", "id"), aws.key("user", "secret")]);
        command
    }

    async fn start(aws: &Aws, at: SocketAddr) -> Self {
        let running = Running::start(Self::command(aws, at));
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(at).await.is_err() {
            assert!(Instant::now() < end, "it does not listen: {}", running.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { at, running }
    }

    async fn local(aws: &Aws) -> Self {
        Self::start(aws, free().await).await
    }

    pub fn operator(&self, words: &[&str], path: &str) -> String {
        let output = Command::new(tools::need("curl"))
            .args(["-sS", "--fail"])
            .args(words)
            .arg(format!("http://{}/operator/{path}", self.at))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", self.running.log());
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn tell(&self, name: &str, text: &str) {
        self.operator(
            &["-X", "PUT", "-H", "content-type: text/plain", "--data-raw", text],
            name,
        );
    }

    /// The ids of the keys that it has handed out.
    fn given(&self) -> Vec<String> {
        self.operator(&[], "given")
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    fn instance(&self, rig: Rig) -> Rig {
        rig.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &format!("http://{}", self.at))
    }
}

pub const KEY: &str = "{ aws_secret: { id: prod/stripe, field: key } }";
/// A rule by which the agent asks STS who it is, signed by Keyferry.
const WHO: &str = "name: sts, host: sts.eu-west-1.amazonaws.com, inject: [{ sigv4: { from: FROM } }]";

/// Whom STS takes the agent for.
async fn who(proxy: &Proxy) -> String {
    let reply = asked(proxy).await;
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), proxy.child.log());
    reply.text()
}

pub async fn asked(proxy: &Proxy) -> Reply {
    let mut asked = request(
        Method::POST,
        &format!("https://{}/", HOSTS[2]),
        "Action=GetCallerIdentity&Version=2011-06-15",
    );
    let kind = "application/x-www-form-urlencoded".parse().unwrap();
    asked.headers_mut().insert("content-type", kind);
    proxy.agent.h1(HOSTS[2]).await.reply(asked).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_containers_role_reads_secrets_and_signs_and_its_token_is_read_again() {
    let aws = aws().await;
    let machine = Machine::local(&aws).await;
    machine.tell("token", "first-token-0123456789");
    machine.tell("seconds", "8");
    let rig = aws.rig().config("aws: { region: eu-west-1, from: container }");
    std::fs::write(rig.dir().join("token"), "first-token-0123456789").unwrap();
    let token = rig.dir().join("token");
    let rig = rig
        .env(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("http://{}/v1/credentials", machine.at),
        )
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap())
        .secret_spec("key", "{ aws_secret: { id: prod/stripe, field: key, ttl: 1s } }")
        .rule(&WHO.replace("FROM", "container"));
    let (code, said) = tried(&rig);
    assert_eq!(code, Some(0), "{said}");
    let before = machine.given().len();
    let proxy = rig.serve().await;
    // Whoever wants them first waits with all others for one answer.
    let each = (0..8).map(|_| who(&proxy));
    for said in futures_util::future::join_all(each).await {
        assert!(said.contains(":assumed-role/ci/machine-"), "{said}");
    }
    assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some("sk-first-0123456789"));
    assert_eq!(machine.given().len(), before + 1, "{:?}", machine.given());
    // They are had anew before they end, with the token of now.
    machine.tell("token", "second-token-0123456789");
    std::fs::write(&token, "second-token-0123456789").unwrap();
    let end = Instant::now() + Duration::from_secs(14);
    while Instant::now() < end {
        who(&proxy).await;
        assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some("sk-first-0123456789"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(machine.given().len() > before + 1, "{:?}", machine.given());
    let log = proxy.child.log();
    assert!(
        !log.contains("could not be fetched") && !log.contains("-token-01"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instances_role_is_asked_for_by_version_two_and_may_assume_another() {
    let aws = aws().await;
    let machine = Machine::local(&aws).await;
    let rig = machine.instance(aws.rig());
    let rig = rig
        .config("aws: { region: eu-west-1, from: instance }")
        .secret_spec("key", KEY)
        .rule(&WHO.replace(
            "FROM",
            "instance, assume_role: \"arn:aws:iam::123456789012:role/ci\", external_id: keyferry-of-acme",
        ));
    let proxy = rig.serve().await;
    assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some("sk-first-0123456789"));
    assert!(who(&proxy).await.contains(":assumed-role/ci/keyferry"));
    // Once for both.
    assert_eq!(machine.given().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn motos_own_metadata_service_gives_credentials_too() {
    let aws = open_to(1_000_000).await;
    let rig = aws
        .rig()
        .config("aws: { region: eu-west-1, from: instance }")
        .env(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            &format!("http://{}", aws.server.plain),
        )
        .secret_spec("key", KEY);
    let proxy = rig.serve().await;
    assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some("sk-first-0123456789"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_config_assume_a_role_and_one_that_may_not_be_assumed_lets_nothing_out() {
    let aws = aws().await;
    let rig = |keys: &str| {
        let keys = format!("region: eu-west-1, access_key_id: id, secret_access_key: secret, {keys}");
        aws.rig()
            .config(&format!("aws: {{ {keys} }}"))
            .secret("ID", aws.key("user", "id"))
            .secret("SECRET", aws.key("user", "secret"))
            .secret_spec("key", KEY)
            .rule("name: s3, host: s3.eu-west-1.amazonaws.com, inject: [{ sigv4: { access_key_id: id, secret_access_key: secret } }]")
    };
    let good = rig("assume_role: \"arn:aws:iam::123456789012:role/ci\"");
    let proxy = good.serve().await;
    assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some("sk-first-0123456789"));
    let wrong = "f8Zk+3QmV1xT7rLwPq0yBn5HcJ2sDgA9/eUiKoXt";
    let rig = aws
        .rig()
        .config("aws: { region: eu-west-1, assume_role: \"arn:aws:iam::123456789012:role/ci\" }")
        .env("AWS_ACCESS_KEY_ID", aws.key("user", "id"))
        .env("AWS_SECRET_ACCESS_KEY", wrong)
        .secret_spec("key", KEY);
    let said = refusal(&rig.serve().await, &aws.api).await;
    assert!(
        said.contains("https://sts.eu-west-1.amazonaws.com/ answered 403") && !said.contains(wrong),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pods_account_becomes_a_role_by_its_token_alone() {
    // The next call after the first secret is kept is that of STS, which nobody signs.
    let aws = open_to(8).await;
    let services = Services::start(&aws.root, &[HOSTS[2]]).await;
    services.keep("sts", &format!("http://{}/", aws.server.plain));
    let rig = |token: &str, role: &str| {
        let rig = Rig::new(&aws.root)
            .reach(&aws.api)
            .reach_as(HOSTS[0], aws.server.address)
            .reach_as(HOSTS[2], services.server.address)
            .rule(super::RULE)
            .secret_spec("key", KEY)
            .config("aws: { region: eu-west-1, from: web_identity }");
        std::fs::write(rig.dir().join("token"), token).unwrap();
        let file = rig.dir().join("token").to_str().unwrap().to_owned();
        rig.env("AWS_WEB_IDENTITY_TOKEN_FILE", &file)
            .env("AWS_ROLE_ARN", &format!("arn:aws:iam::123456789012:role/{role}"))
    };
    for (token, role, told) in [
        (services.account(0), "ci", "it does not take the token of this account"),
        (
            services.account(3600),
            "other",
            "this role may not be assumed by who asks",
        ),
    ] {
        let said = refusal(&rig(&token, role).serve().await, &aws.api).await;
        assert!(said.contains(told) && !said.contains(&token), "{said}");
    }
    let proxy = rig(&services.account(3600), "ci").serve().await;
    assert_eq!(
        given(&proxy, &aws.api).await.as_deref(),
        Some("sk-first-0123456789"),
        "{}",
        proxy.child.log()
    );
}

/// Where credentials come from, what Keyferry is told of that, and what is told of it.
const REFUSALS: &[(&str, &str, &str)] = &[
    (
        "container",
        "OTHER=x",
        "`AWS_CONTAINER_CREDENTIALS_FULL_URI` is not set",
    ),
    (
        "container",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI=HERE/v1/credentials",
        "it does not take the token of",
    ),
    (
        "container",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI=HERE/v1/nothing",
        "has its task or pod a role?",
    ),
    (
        "container",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://10.0.0.1/v1/credentials",
        "holds nothing that can be used",
    ),
    (
        "container",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://metadata.test/v1/credentials",
        "holds nothing that can be used",
    ),
    ("web_identity", "OTHER=x", "`AWS_WEB_IDENTITY_TOKEN_FILE` is not set"),
    (
        "instance",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT=HERE",
        "the instance has no role",
    ),
    (
        "instance",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1",
        "cannot ask http://127.0.0.1:1/",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_machine_does_not_give_is_told_in_words_and_lets_nothing_out() {
    let aws = aws().await;
    let machine = Machine::local(&aws).await;
    machine.tell("token", "right-token-0123456789");
    machine.tell("role", "");
    for (from, variable, told) in REFUSALS {
        let (name, value) = variable.split_once('=').unwrap();
        let rig = aws
            .rig()
            .config(&format!("aws: {{ region: eu-west-1, from: {from} }}"))
            .env(name, &value.replace("HERE", &format!("http://{}", machine.at)))
            .secret_spec("key", KEY);
        let said = refusal(&rig.serve().await, &aws.api).await;
        assert!(said.contains(told), "{from}, {variable}: {said}");
        for value in ["words-of-the-machine", "right-token"] {
            assert!(!said.contains(value), "{said}");
        }
    }
    assert_eq!(aws.api.connections(), 0);
}

#[tokio::test]
async fn the_metadata_address_is_keyferrys_alone_and_no_agents() {
    let networks = Networks::enter();
    networks.ip("addr add 169.254.169.254/32 dev lo");
    let aws = aws().await;
    let machine = Machine::start(&aws, "169.254.169.254:80".parse().unwrap()).await;
    let proxy = aws
        .rig()
        .config("aws: { region: eu-west-1, from: instance }")
        .secret_spec("key", KEY)
        .rule("name: any, host: [169.254.169.254, metadata.test], plaintext: true")
        .reach_as("metadata.test", machine.at)
        .serve()
        .await;
    assert_eq!(given(&proxy, &aws.api).await.as_deref(), Some("sk-first-0123456789"));
    assert_eq!(machine.given().len(), 1);
    // A connection to it may still be open: it is none of the agent's.
    for host in ["169.254.169.254", "metadata.test"] {
        let mut agent = proxy.agent.dial().await;
        let asked = format!("GET http://{host}/operator/given HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        agent.say(asked).await;
        let (reply, _) = agent.rest().await;
        let reply = String::from_utf8(reply).unwrap();
        assert!(reply.contains("\"address_refused\""), "{reply}");
    }
}
