//! An upstream that fails: the agent gets a stable code and a clear word, the operator the cause.

use crate::fidelity::before_script;
use crate::rig::proxy::Rig;
use crate::rig::root::{Root, Validity};
use crate::rig::script::Script;
use http::StatusCode;

const RULE: &str = "name: api, host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }]";

fn rig(root: &Root) -> Rig {
    Rig::new(root).secret("API_KEY", "sk-live-0a1b2c3d4e5f").rule(RULE)
}

/// What an agent and the operator are told of the one request that fails.
async fn told(rig: Rig) -> (u16, String, String, serde_json::Value) {
    let proxy = rig.serve().await;
    let reply = proxy.agent.get("https://api.test/").await;
    let (status, code, body) = (reply.status.as_u16(), reply.code().to_owned(), reply.json());
    assert_eq!(body["error"], code.as_str());
    assert!(
        body["message"].as_str().is_some_and(|message| !message.is_empty()),
        "{body}"
    );
    let record = proxy.record().await;
    assert_eq!(record["code"], code.as_str(), "{record:#}");
    assert_eq!(record["request_id"], body["request_id"]);
    (status, code, body["message"].as_str().unwrap().to_owned(), record)
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_before_anything_is_sent() {
    let root = Root::new();
    let tls = root.server(&["other.test"], Validity::Now, &["http/1.1"]);
    refused_certificate(&root, tls, &["other.test", "name"]).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_before_anything_is_sent() {
    let root = Root::new();
    refused_certificate(
        &root,
        root.server(&["api.test"], Validity::Past, &["http/1.1"]),
        &["expired"],
    )
    .await;
}

#[tokio::test]
async fn a_certificate_from_the_future_is_refused_before_anything_is_sent() {
    let root = Root::new();
    refused_certificate(
        &root,
        root.server(&["api.test"], Validity::Future, &["http/1.1"]),
        &["valid"],
    )
    .await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_root_is_refused_before_anything_is_sent() {
    let stranger = Root::new();
    let tls = stranger.server(&["api.test"], Validity::Now, &["http/1.1"]);
    refused_certificate(&Root::new(), tls, &["issuer"]).await;
}

async fn refused_certificate(root: &Root, tls: std::sync::Arc<rustls::ServerConfig>, cause: &[&str]) {
    let origin = Script::tls(tls, "api.test", |mut line| async move {
        line.head().await;
    })
    .await;
    let (status, code, message, record) = told(rig(root).reach_script(&origin)).await;
    assert_eq!((status, code.as_str()), (502, "upstream_certificate"));
    assert!(message.contains("api.test"), "{message}");
    let reason = record["reason"].as_str().unwrap_or_default().to_lowercase();
    assert!(cause.iter().any(|word| reason.contains(word)), "{reason}");
    assert_eq!(origin.heads().len(), 0);
}

#[tokio::test]
async fn an_upstream_that_closes_at_once_is_a_502() {
    let root = Root::new();
    let origin = Script::tcp("api.test", |tcp| async move { drop(tcp) }).await;
    let (status, code, ..) = told(rig(&root).reach_script(&origin)).await;
    assert_eq!((status, code.as_str()), (502, "upstream_tls"));
}

#[tokio::test]
async fn garbage_instead_of_tls_is_a_502() {
    let root = Root::new();
    let origin = Script::tcp("api.test", |mut tcp| async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut tcp, b"220 mail.test ESMTP ready\r\n").await;
        let _ = tokio::io::AsyncReadExt::read(&mut tcp, &mut [0; 1024]).await;
    })
    .await;
    let (status, code, ..) = told(rig(&root).reach_script(&origin)).await;
    assert_eq!((status, code.as_str()), (502, "upstream_tls"));
}

#[tokio::test]
async fn garbage_instead_of_http_is_a_502() {
    for garbage in [
        "220 mail.test ESMTP ready\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5",
        "",
    ] {
        let root = Root::new();
        let origin = Script::start(&root, "api.test", move |mut line| async move {
            line.head().await;
            line.say(garbage).await;
            line.bye().await;
        })
        .await;
        let (status, code, ..) = told(rig(&root).reach_script(&origin)).await;
        assert_eq!((status, code.as_str()), (502, "upstream_protocol"), "{garbage:?}");
    }
}

#[tokio::test]
async fn an_upstream_head_without_end_is_a_502() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 OK\r\n").await;
        for _ in 0..4000 {
            line.say(format!("X-Fill: {}\r\n", "f".repeat(1000))).await;
        }
        line.gone().await;
    })
    .await;
    let (status, code, ..) = told(rig(&root).reach_script(&origin)).await;
    assert_eq!((status, code.as_str()), (502, "upstream_protocol"));
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_a_504() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        line.gone().await;
    })
    .await;
    let rig = rig(&root)
        .reach_script(&origin)
        .config("limits: { response_time: 300ms }");
    let (status, code, ..) = told(rig).await;
    assert_eq!((status, code.as_str()), (504, "upstream_timeout"));
}

#[tokio::test]
async fn an_upstream_that_never_finishes_its_handshake_is_a_504() {
    let root = Root::new();
    let origin = Script::tcp("api.test", |mut tcp| async move {
        let mut all = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut tcp, &mut all).await;
    })
    .await;
    let rig = rig(&root)
        .reach_script(&origin)
        .config("limits: { connect_time: 300ms }");
    let (status, code, ..) = told(rig).await;
    assert_eq!((status, code.as_str()), (504, "upstream_timeout"));
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_a_502() {
    let root = Root::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (status, code, ..) = told(rig(&root).reach_as("api.test", free)).await;
    assert_eq!((status, code.as_str()), (502, "upstream_unreachable"));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_502() {
    // RFC 6761 §6.4: `.invalid` never resolves.
    let root = Root::new();
    let proxy = Rig::new(&root).rule("host: nowhere.invalid").serve().await;
    let reply = proxy.agent.get("https://nowhere.invalid/").await;
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::BAD_GATEWAY, "upstream_unresolved")
    );
    assert!(reply.json()["message"].as_str().unwrap().contains("nowhere.invalid"));
}

#[tokio::test]
async fn an_address_inside_the_network_is_refused_unless_allowed() {
    let root = Root::new();
    let proxy = Rig::new(&root).rule("host: \"*\"").serve().await;
    for target in [
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "https://[fe80::1]/",
    ] {
        let reply = proxy.agent.get(target).await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::FORBIDDEN, "address_refused"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_missing_credential_is_a_502_and_never_a_request_without_it() {
    let root = Root::new();
    let origin = crate::rig::origin::Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret_spec("late", "{ exec: [\"/bin/false\"] }");
    let proxy = rig
        .rule("name: api, host: api.test, inject: [{ bearer: late }]")
        .serve()
        .await;
    let reply = proxy.agent.get("https://api.test/").await;
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::BAD_GATEWAY, "credential_unavailable")
    );
    assert!(reply.json()["message"].as_str().unwrap().contains("late"));
    assert_eq!((origin.seen().len(), origin.connections()), (0, 0));
}

#[tokio::test]
async fn one_failure_leaves_the_next_request_alone() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        while let Some(head) = line.head().await {
            if head.contains("/bad") {
                return line.reset();
            }
            line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let mut http = proxy.agent.h1("api.test").await;
    for path in ["/bad", "/good", "/bad", "/good"] {
        let reply = http
            .reply(crate::rig::agent::get(&format!("https://api.test{path}")))
            .await;
        assert_eq!(reply.status.is_success(), path == "/good", "{path}: {}", reply.text());
    }
}
