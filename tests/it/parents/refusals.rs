//! A parent that will not, cannot, or is no proxy: a code for the agent, the cause for the operator.

use super::servers::{Kind, LOGIN, Parent};
use super::{absolute, before};
use crate::rig::agent::Reply;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::script::Script;
use std::net::TcpListener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_parent_that_does_not_know_us_is_no_way_and_no_password_is_told() {
    let wrong = "ann:another-Pa55";
    for kind in [Kind::Squid, Kind::SquidTls, Kind::Tinyproxy, Kind::Microsocks] {
        let root = Root::new();
        let parent = Parent::start(kind, &root, true).await;
        let before = before(&parent.url, Some(wrong), root).await;
        let reply = before.proxy.agent.get("https://api.test/hello").await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "parent_auth_failed"),
            "{kind:?}"
        );
        // The agent is not asked for a credential that is not its own to give.
        assert_eq!(reply.header("proxy-authenticate"), "");
        assert!(!reply.text().contains(&parent.url[9..]), "{}", reply.text());
        let record = before.proxy.record().await;
        assert!(record["reason"].as_str().unwrap().contains(&parent.url), "{record}");
        before.shows_no_login(wrong);
        assert_eq!(before.api.connections(), 0);
    }
}

#[tokio::test]
async fn a_parent_that_wants_a_credential_nobody_configured_is_told_apart() {
    let root = Root::new();
    for kind in [Kind::Squid, Kind::Microsocks] {
        let parent = Parent::start(kind, &root, true).await;
        let before = before(&parent.url, None, Root::new()).await;
        let reply = before.proxy.agent.get("https://api.test/hello").await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "parent_auth_failed"),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn what_the_parent_refuses_or_cannot_reach_is_told_as_such() {
    let root = Root::new();
    let parent = Parent::start(Kind::Squid, &root, false).await;
    let proxy = Rig::new(&root)
        .reach_as("nobody-home.test", "127.0.0.1:1".parse().unwrap())
        .rule("host: [refused.test, nobody-home.test]")
        .upstream(&format!("parent: \"{}\"", parent.url))
        .serve()
        .await;
    for (host, code) in [
        ("refused.test", "parent_refused"),
        ("nobody-home.test", "upstream_unreachable"),
    ] {
        let reply = proxy.agent.get(&format!("https://{host}/")).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, code),
            "{host}: {}",
            reply.text()
        );
    }
    // A tunnel is refused before its 200.
    let refused = Rig::new(&root)
        .rule("host: refused.test, tunnel: true")
        .upstream(&format!("parent: \"{}\"", parent.url))
        .serve()
        .await;
    let (status, head, _) = refused.agent.connect("refused.test:443").await;
    assert_eq!(status, 502);
    assert!(head.contains("parent_refused"), "{head}");
}

async fn through(parent: &str) -> (Proxy, Reply) {
    let root = Root::new();
    let proxy = Rig::new(&root)
        .rule("host: [api.test, plain.test]")
        .upstream(&format!("parent: \"{parent}\""))
        .config("limits: { connect_time: 1s }")
        .serve()
        .await;
    let reply = proxy.agent.get("https://api.test/").await;
    (proxy, reply)
}

#[tokio::test]
async fn a_parent_that_answers_garbage_too_much_or_nothing_is_no_way() {
    let answers: [(&[u8], &str, &str); 6] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "http", "parent_protocol"),
        (
            b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00",
            "http",
            "parent_protocol",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n", "socks5", "parent_protocol"),
        (b"HTTP/1.1 200 OK\r\nx: ENDLESS", "http", "parent_protocol"),
        (b"HTTP/1.1 20", "http", "parent_unreachable"),
        (b"\x05", "socks5", "parent_unreachable"),
    ];
    for (answer, scheme, code) in answers {
        let parent = Script::tcp("parent.test", move |mut tcp: TcpStream| async move {
            let _ = tcp.read(&mut [0; 1024]).await;
            let _ = tcp.write_all(answer).await;
            while answer.ends_with(b"ENDLESS") && tcp.write_all(&[b'a'; 1024]).await.is_ok() {}
        })
        .await;
        let (_proxy, reply) = through(&format!("{scheme}://{}", parent.address)).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (502, code), "{answer:?}");
    }
    let silent = Script::tcp("parent.test", |mut tcp: TcpStream| async move {
        while tcp.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let (_proxy, reply) = through(&format!("http://{}", silent.address)).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (504, "upstream_timeout"));
    // Nobody listens there any more.
    for scheme in ["http", "https", "socks5"] {
        let dead = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (_proxy, reply) = through(&format!("{scheme}://{dead}")).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "parent_unreachable"),
            "{scheme}"
        );
    }
}

#[tokio::test]
async fn a_parent_whose_certificate_does_not_verify_is_told_nothing() {
    let stranger = Root::new();
    let parent = Parent::start(Kind::SquidTls, &stranger, true).await;
    let before = before(&parent.url, Some(LOGIN), Root::new()).await;
    let reply = before.proxy.agent.get("https://api.test/hello").await;
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "parent_unreachable"));
    let record = before.proxy.record().await;
    assert!(record["reason"].as_str().unwrap().contains("UnknownIssuer"), "{record}");
    assert!(!parent.log().contains("CONNECT"), "{}", parent.log());
}

#[tokio::test]
async fn a_parent_that_is_keyferry_itself_is_a_loop() {
    for listen in ["127.0.0.1", "0.0.0.0"] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = Root::new();
        let mut proxy = Rig::new(&root)
            .listen(&format!("\"{listen}:{port}\""))
            .rule("host: api.test")
            .upstream(&format!("parent: \"http://127.0.0.1:{port}\""))
            .serve()
            .await;
        proxy.agent.proxy = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let reply = proxy.agent.get("https://api.test/").await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (508, "loop_detected"),
            "{listen}"
        );
        assert_eq!(proxy.records(1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_login_that_cannot_be_had_or_is_none_keeps_the_request_here() {
    let root = Root::new();
    let origin = Origin::plain("plain.test").await;
    let parent = Script::tcp("parent.test", |mut tcp: TcpStream| async move {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let mut said = Vec::new();
        let _ = tcp.read_to_end(&mut said).await;
        assert!(said.is_empty(), "the parent was told something");
    })
    .await;
    for (spec, code) in [
        ("{ exec: [\"/bin/false\"] }", "credential_unavailable"),
        ("{ exec: [echo, no-colon] }", "credential_unfit"),
    ] {
        let proxy = Rig::new(&root)
            .reach(&origin)
            .secret_spec("corp", spec)
            .rule("host: plain.test")
            .upstream(&format!("parent: \"http://{}\"", parent.address))
            .upstream("parent_auth: corp")
            .serve()
            .await;
        let (status, body) = absolute(&proxy.agent, "plain.test", "/").await;
        assert_eq!(status, 502);
        assert!(body.contains(code), "{body}");
    }
    assert_eq!(origin.connections(), 0);
}
