//! Memory for bodies has a cap over all exchanges: those collected to swap a placeholder, and decoders' windows.

use crate::rig::agent::{Agent, Raw, get, request, status};
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{PATIENCE, eventually, routes};
use http::Method;
use std::sync::Arc;
use std::time::Instant;

const KEY: &str = "sk-live-6f1c9b2e7a4d4f0e8c35b1d7";

async fn setting(limits: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let service = Arc::new(|request: http::Request<_>, origin| -> Answer {
        if request.uri().path() != "/zstd" {
            return routes::standard(request, origin);
        }
        let told = request
            .headers()
            .get("accept-encoding")
            .map(|v| v.to_str().unwrap().to_owned());
        Box::pin(async move {
            if request.uri().query() != Some("unasked") && !told.is_some_and(|told| told.contains("zstd")) {
                return routes::text("plain");
            }
            // A frame that says nothing of its length, and so may need the largest window.
            let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0x29, 0x00, 0x00][..], b"small"].concat();
            let head = routes::bytes(frame, "text/plain");
            routes::with(head, "content-encoding", "zstd")
        })
    });
    let origin = Origin::with(&root, "api.test", Speaks::Both, service).await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", KEY)
        .secret("CI_TOKEN", "agent-token-ci-1")
        .secret("DEV_TOKEN", "agent-token-dev-2")
        .config(&format!(
            "agents: {{ ci: {{ token: ci_token }}, dev: {{ token: dev_token }} }}\nlimits: {{ {limits} }}"
        ))
        .rule("host: api.test, allow: [POST /login], inject: [{ placeholder: api_key, in: \"body:/token\" }]")
        .rule("host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }]")
        .serve()
        .await;
    (origin, proxy)
}

fn agent(proxy: &Proxy, token: &str) -> Agent {
    Agent {
        offer: Some(format!("Bearer {token}")),
        ..proxy.agent.clone()
    }
}

fn login(body: impl Into<bytes::Bytes>) -> http::Request<crate::rig::origin::AnyBody> {
    let mut ask = request(Method::POST, "https://api.test/login", body);
    ask.headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    ask
}

#[tokio::test]
async fn bodies_held_in_memory_have_a_cap_for_each_agent_and_over_all() {
    // 40 MiB for all, 20 for each: ten bodies of unknown length, twice 1 MiB each.
    let (_, proxy) = setting("bodies: 40MiB").await;
    let (ci, dev) = (agent(&proxy, "agent-token-ci-1"), agent(&proxy, "agent-token-dev-2"));
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(begun(&ci).await);
    }
    let mut http = ci.h2("api.test").await;
    let end = Instant::now() + PATIENCE;
    // They may not have been judged yet.
    let refused = loop {
        let reply = http.reply(login("{\"token\":\"x\"}")).await;
        if reply.status != 200 {
            break reply;
        }
        assert!(Instant::now() < end, "no cap was reached");
    };
    assert_eq!(
        (refused.status.as_u16(), refused.code(), refused.header("retry-after")),
        (429, "agent_limited", "1")
    );
    // Others have theirs, and what needs no memory passes.
    assert_eq!(
        dev.h2("api.test").await.reply(login("{\"token\":\"x\"}")).await.status,
        200
    );
    assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    held[0].say("7\r\n\"token\"\r\n3\r\n:1}\r\n0\r\n\r\n").await;
    assert_eq!(status(&held[0].head().await), 200);
    let end = Instant::now() + PATIENCE;
    while http.reply(login("{\"token\":\"x\"}")).await.status != 200 {
        assert!(Instant::now() < end, "the memory was never given back");
    }
}

/// A body that has begun, and that only goes on when the test says so.
async fn begun(agent: &Agent) -> Raw<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut raw = agent.raw("api.test").await;
    raw.say("POST /login HTTP/1.1\r\nHost: api.test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n").await;
    raw
}

#[tokio::test]
async fn where_memory_to_decode_is_scarce_upstreams_are_asked_for_plain_replies() {
    let (origin, proxy) = setting("bodies: 40MiB").await;
    let ci = agent(&proxy, "agent-token-ci-1");
    let mut ask = get("https://api.test/zstd");
    ask.headers_mut()
        .insert("accept-encoding", "gzip, zstd".parse().unwrap());
    // Six bodies: more than half of what the agent may have.
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(begun(&ci).await);
    }
    let mut http = ci.h2("api.test").await;
    eventually_plain(&mut http, &origin).await;
    // A window of 8 MiB is more than is left of the agent's 20: an upstream that compresses all the same is cut.
    let mut unasked = get("https://api.test/zstd?unasked");
    unasked.headers_mut().insert("accept-encoding", "zstd".parse().unwrap());
    let cut = match http.send(unasked).await {
        Ok(response) => http_body_util::BodyExt::collect(response.into_body()).await.is_err(),
        // The reset may come with the head.
        Err(_) => true,
    };
    assert!(cut, "it came whole");
    drop(held);
    let record = eventually("the record of the cut", || {
        proxy.rig.audit().into_iter().find(|one| one["code"] == "proxy_busy")
    })
    .await;
    assert_eq!(record["agent"], "ci", "{record:#}");
}

async fn eventually_plain(http: &mut crate::rig::agent::Http, origin: &Origin) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut ask = get("https://api.test/echo");
        ask.headers_mut()
            .insert("accept-encoding", "gzip, zstd".parse().unwrap());
        assert_eq!(http.reply(ask).await.status, 200);
        if origin.seen().pop().unwrap().all("accept-encoding") == ["identity"] {
            return;
        }
        assert!(Instant::now() < end, "it was never scarce");
    }
}
