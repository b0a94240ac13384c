//! Caps of a rule: each is held, and told with its own code.

use crate::fidelity::by;
use crate::rig::agent::{get, request};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::soon;
use http::{Method, StatusCode};
use http_body_util::BodyExt;

async fn limited(limits: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Both).await;
    let rule = format!("name: api, host: api.test, limits: {{ {limits} }}");
    (origin.clone(), Rig::new(&root).reach(&origin).rule(&rule).serve().await)
}

#[tokio::test]
async fn requests_over_the_rate_are_told_when_to_come_again() {
    let (origin, proxy) = limited("rate: 3/h").await;
    let mut http = proxy.agent.h2("api.test").await;
    for _ in 0..3 {
        assert_eq!(http.reply(get("https://api.test/hello")).await.status, StatusCode::OK);
    }
    let reply = http.reply(get("https://api.test/hello")).await;
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
    );
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 0);
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn only_so_many_requests_run_at_one_time() {
    let (origin, proxy) = limited("concurrent: 2").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut http = proxy.agent.h1("api.test").await;
        held.push((http.send(get("https://api.test/gated?n=1")).await.unwrap(), http));
    }
    let reply = proxy.agent.get("https://api.test/hello").await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS, "{}", reply.text());
    origin.gate.add_permits(2);
    for (response, _http) in held {
        assert_eq!(
            soon("the body", response.into_body().collect())
                .await
                .unwrap()
                .to_bytes(),
            "0;"
        );
    }
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while proxy.agent.get("https://api.test/hello").await.status != StatusCode::OK {
        assert!(std::time::Instant::now() < end, "the slots were never given back");
    }
}

#[tokio::test]
async fn a_request_body_over_the_cap_is_refused_whether_its_length_is_told_or_not() {
    let (origin, proxy) = limited("request_body: 1KiB").await;
    for http2 in [false, true] {
        let mut http = by(&proxy.agent, http2).await;
        let reply = http
            .reply(request(Method::POST, "https://api.test/upload", vec![0; 1025]))
            .await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
        );
        let reply = by(&proxy.agent, http2)
            .await
            .reply(request(Method::POST, "https://api.test/upload", vec![0; 1024]))
            .await;
        assert_eq!(reply.json()["bytes"], 1024);
    }
    assert_eq!(origin.seen().len(), 2);
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say("POST /upload HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    raw.say(format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800))).await;
    let head = raw.head().await;
    assert!(!head.starts_with("HTTP/1.1 2"), "{head}");
    assert!(
        origin.seen().iter().skip(2).all(|one| !one.whole),
        "an upload over the cap looked whole"
    );
}

#[tokio::test]
async fn a_response_body_over_the_cap_is_cut_and_never_looks_whole() {
    let (_, proxy) = limited("response_body: 64KiB").await;
    for (http2, path) in [
        (false, "/download?bytes=200000"),
        (true, "/download?bytes=200000&length"),
    ] {
        let mut http = by(&proxy.agent, http2).await;
        let cut = match http.send(get(&format!("https://api.test{path}"))).await {
            Ok(response) if response.status() == StatusCode::OK => {
                soon("the cut", response.into_body().collect()).await.is_err()
            }
            Ok(response) => response.status() == StatusCode::BAD_GATEWAY,
            Err(_) => true,
        };
        assert!(cut, "{path} came whole");
    }
    let records = proxy.records(2).await;
    assert!(
        records.iter().all(|one| one["code"] == "response_too_large"),
        "{records:#?}"
    );
}

#[tokio::test]
async fn an_exchange_over_its_time_is_cut() {
    let (_, proxy) = limited("time: 300ms").await;
    let reply = proxy.agent.get("https://api.test/never").await;
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::GATEWAY_TIMEOUT, "exchange_timeout")
    );
    let mut http = proxy.agent.h2("api.test").await;
    let response = http.send(get("https://api.test/gated?n=1")).await.unwrap();
    assert!(soon("the cut", response.into_body().collect()).await.is_err());
}
