//! One canonical authority per request: whatever disagrees with the tunnel's target is refused, and
//! no upstream hears of it.

use crate::fidelity::before;
use crate::rig::agent::{Http, get, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use http::StatusCode;

#[tokio::test]
async fn a_host_header_for_another_host_is_misdirected() {
    let (origin, proxy) = before(Speaks::Both).await;
    for host in ["evil.test", "api.test:8443", "api.test.evil.test", "api.test@evil.test"] {
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = raw.head().await;
        assert!([400, 421].contains(&status(&head)), "{host}: {head}");
    }
    assert_eq!((origin.seen().len(), origin.connections()), (0, 0));
}

#[tokio::test]
async fn an_h2_authority_for_another_host_is_misdirected() {
    let (origin, proxy) = before(Speaks::Both).await;
    let mut http = proxy.agent.h2("api.test").await;
    let reply = http.reply(get("https://evil.test/")).await;
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::MISDIRECTED_REQUEST, "misdirected_request")
    );
    // The connection and its other streams are none the worse.
    assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn an_sni_for_another_host_is_refused() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let other = Origin::start(&root, "other.test").await;
    let rig = Rig::new(&root).reach(&origin).reach(&other);
    let proxy = rig.rule("host: api.test").rule("host: other.test").serve().await;
    let (code, head, raw) = proxy.agent.connect("api.test:443").await;
    assert_eq!(code, 200, "{head}");
    assert!(
        proxy
            .agent
            .handshake(raw.io, "other.test", &["http/1.1"])
            .await
            .is_err()
    );
    assert_eq!((origin.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn spellings_of_the_same_host_are_the_same_host() {
    let (origin, proxy) = before(Speaks::Http1).await;
    for host in ["API.test", "api.test:443", "api.test."] {
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say(format!("GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = raw.head().await;
        assert_eq!(status(&head), 200, "{host}: {head}");
        assert_eq!(origin.seen().pop().unwrap().authority, "api.test", "{host}");
    }
}

#[tokio::test]
async fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let (origin, proxy) = before(Speaks::Both).await;
    let host = "Host: api.test\r\n";
    for head in [
        "POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\n{h}Content-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n{h}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n{h}{h}\r\n",
        "GET / HTTP/1.1\r\nHost: api.test, evil.test\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n{h}X-A: 1\r\n folded\r\n\r\n",
        "GET http://evil.test/ HTTP/1.1\r\n{h}\r\n",
        "GET  / HTTP/1.1\r\n{h}\r\n",
    ] {
        let mut raw = proxy.agent.raw("api.test").await;
        let text = head.replace("{h}", host);
        raw.say(&text).await;
        let answer = raw.head().await;
        assert!([400, 421].contains(&status(&answer)), "{text:?} got {answer:?}");
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_reach_the_origin_and_ends_the_connection() {
    // RFC 9112 §6.1: refused, or read by its chunks alone; what follows is never a second request.
    let (origin, proxy) = before(Speaks::Http1).await;
    let mut raw = proxy.agent.raw("api.test").await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let head = "POST /upload HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    raw.say(format!("{head}0\r\n\r\n{smuggled}")).await;
    let (answers, _) = raw.rest().await;
    assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 ").count(), 1);
    for seen in origin.seen() {
        assert_eq!((seen.target.as_str(), seen.body.len()), ("/upload", 0));
        assert!(!(seen.headers.contains_key("content-length") && seen.headers.contains_key("transfer-encoding")));
    }
}

#[tokio::test]
async fn a_path_that_two_servers_could_read_differently_is_refused_by_a_rule_about_paths() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .rule("host: api.test, allow: [\"GET /v1/**\"]")
        .serve()
        .await;
    let mut http = proxy.agent.h1("api.test").await;
    assert_eq!(http.reply(get("https://api.test/v1/ok")).await.status, StatusCode::OK);
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1//../admin",
        "/v1/%2E./admin",
    ] {
        let reply = http.reply(get(&format!("https://api.test{path}"))).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}: {}", reply.text());
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn each_request_is_judged_by_itself() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rule = "name: narrow, host: api.test, allow: [\"GET /v1/**\", \"POST /v1/messages\"]";
    let proxy = Rig::new(&root).reach(&origin).rule(rule).serve().await;
    for http2 in [false, true] {
        let mut http: Http = crate::fidelity::by(&proxy.agent, http2).await;
        for (path, allowed) in [("/v1/a", true), ("/v2/a", false), ("/v1/b", true), ("/", false)] {
            let reply = http.reply(get(&format!("https://api.test{path}"))).await;
            let code = if allowed {
                (StatusCode::OK, "")
            } else {
                (StatusCode::FORBIDDEN, "denied_by_policy")
            };
            assert_eq!((reply.status, reply.code()), code, "{path}");
            if !allowed {
                assert_eq!(reply.json()["rule"], "narrow");
            }
        }
    }
    assert!(origin.seen().iter().all(|one| one.target.starts_with("/v1/")));
}
