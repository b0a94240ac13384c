//! `Expect: 100-continue` is the agent asking the origin, not the proxy (RFC 9110 §10.1.1).

use crate::fidelity::before_script;
use crate::rig::agent::status;
use crate::rig::root::Root;
use crate::rig::script::Script;
use std::time::Duration;

const ASK: &str = "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn the_body_waits_for_the_origins_word() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        let early = line.has_more(Duration::from_millis(300)).await;
        line.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = line.body(5).await;
        let verdict = if early { "early" } else { "in turn" };
        let text = format!("{} {verdict}", String::from_utf8_lossy(&body));
        line.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ))
        .await;
        line.gone().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say(ASK).await;
    assert_eq!(status(&raw.head().await), 100);
    raw.say("hello").await;
    assert_eq!(status(&raw.head().await), 200);
    assert_eq!(raw.bytes(13).await, b"hello in turn");
    assert!(
        origin.heads()[0]
            .to_lowercase()
            .contains("\r\nexpect: 100-continue\r\n")
    );
}

#[tokio::test]
async fn an_origin_that_refuses_never_gets_the_body_and_the_agent_never_a_100() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        line.bye().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say(ASK).await;
    assert_eq!(status(&raw.head().await), 417);
}

#[tokio::test]
async fn an_origin_that_does_not_know_expect_gets_the_body_after_a_while() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        let body = line.body(5).await;
        line.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
            String::from_utf8_lossy(&body)
        ))
        .await;
        line.gone().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say(ASK).await;
    // RFC 9110 §10.1.1: a client must not wait for ever; curl waits one second.
    tokio::time::sleep(Duration::from_millis(100)).await;
    raw.say("hello").await;
    let mut head = raw.head().await;
    if status(&head) == 100 {
        head = raw.head().await;
    }
    assert_eq!(status(&head), 200);
    assert_eq!(raw.bytes(5).await, b"hello");
}
