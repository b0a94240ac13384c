//! A rule's caps, whatever is asked for under it: requests over HTTP/1.1 and 2, WebSockets over both, opaque tunnels.

use crate::rig::agent::{Agent, Http, Raw, get, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{PATIENCE, eventually, soon};
use http_body_util::BodyExt;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// An origin that is intercepted, and one that is tunnelled to, both under the same limits.
async fn limited(limits: &str) -> (Origin, Proxy, Agent) {
    let root = Root::new();
    let origin = Origin::with_names(&root, &["api.test", "pinned.test"]).await;
    let proxy = Rig::new(&root)
        .reach_as("api.test", origin.address)
        .reach_as("pinned.test", origin.address)
        .rule(&format!("name: api, host: api.test, limits: {{ {limits} }}"))
        .rule(&format!(
            "name: pinned, host: pinned.test, tunnel: true, limits: {{ {} }}",
            tunnelled(limits)
        ))
        .serve()
        .await;
    let pinning = Agent::new(proxy.address, &root.pem());
    (origin, proxy, pinning)
}

/// Nothing in a tunnel is a body.
fn tunnelled(limits: &str) -> String {
    let fit = limits.split(", ").filter(|limit| !limit.contains("body"));
    fit.collect::<Vec<_>>().join(", ")
}

/// Asks for a WebSocket by hand; the answer's head.
async fn websocket<I: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<I>) -> String {
    raw.say(
        "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    raw.head().await
}

/// A text frame from a client, masked with nothing.
fn frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![0x81, 0xfe];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// An extended CONNECT (RFC 8441); its status.
async fn websocket_over_http2(http: &mut Http) -> http::Response<hyper::body::Incoming> {
    let mut ask = http::Request::connect("https://api.test/ws")
        .header("sec-websocket-version", "13")
        .body(crate::rig::routes::nothing())
        .unwrap();
    ask.extensions_mut()
        .insert(hyper::ext::Protocol::from_static("websocket"));
    http.send(ask).await.unwrap()
}

/// The head tells of the limit as it should, over HTTP/1.1.
fn told(head: &str, code: &str) {
    let lower = head.to_lowercase();
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert!(lower.contains(&format!("x-keyferry-error: {code}\r\n")), "{head}");
    let after = lower
        .split("retry-after: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next());
    assert!(
        after.is_some_and(|seconds| seconds.parse::<u64>().unwrap() >= 1),
        "{head}"
    );
}

fn told2<B>(response: &http::Response<B>, code: &str) {
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["x-keyferry-error"], code);
    assert!(
        response.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 1
    );
}

#[tokio::test]
async fn every_kind_of_request_counts_towards_the_rate() {
    // Three on the intercepted host and one tunnel: each kind may be the one that uses the rate up.
    let (origin, proxy, pinning) = limited("rate: 2/h").await;
    let mut http = proxy.agent.h2("api.test").await;
    assert_eq!(http.reply(get("https://api.test/hello")).await.status, 200);
    let mut raw = proxy.agent.raw("api.test").await;
    assert_eq!(status(&websocket(&mut raw).await), 101);
    told(&websocket(&mut proxy.agent.raw("api.test").await).await, "rate_limited");
    told2(&websocket_over_http2(&mut http).await, "rate_limited");
    told2(&http.send(get("https://api.test/hello")).await.unwrap(), "rate_limited");
    let mut plain = proxy.agent.raw("api.test").await;
    plain.say("GET /hello HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    told(&plain.head().await, "rate_limited");
    assert_eq!(origin.seen().len(), 2);

    for _ in 0..2 {
        assert_eq!(pinning.connect("pinned.test:443").await.0, 200);
    }
    told(&pinning.connect("pinned.test:443").await.1, "rate_limited");
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(tcp))
            .await
            .unwrap();
    tokio::spawn(connection);
    let ask = http::Request::connect("pinned.test:443")
        .body(crate::rig::routes::nothing())
        .unwrap();
    told2(
        &soon("a refusal", send.send_request(ask)).await.unwrap(),
        "rate_limited",
    );
}

#[tokio::test]
async fn every_kind_of_request_holds_its_place_until_it_ends() {
    let (origin, proxy, pinning) = limited("concurrent: 1").await;
    let busy = async |code: &str| {
        let reply = proxy.agent.get2("https://api.test/hello").await;
        assert_eq!(reply.code(), code, "{}", reply.text());
    };
    // A WebSocket over HTTP/1.1, and one over HTTP/2.
    let mut raw = proxy.agent.raw("api.test").await;
    assert_eq!(status(&websocket(&mut raw).await), 101);
    busy("rate_limited").await;
    told(&websocket(&mut proxy.agent.raw("api.test").await).await, "rate_limited");
    drop(raw);
    free(&proxy).await;
    let mut http = proxy.agent.h2("api.test").await;
    let held = websocket_over_http2(&mut http).await;
    assert_eq!(held.status(), 200);
    busy("rate_limited").await;
    drop((held, http));
    free(&proxy).await;
    // A stream of HTTP/2, until the agent takes it no further.
    let mut http = proxy.agent.h2("api.test").await;
    let held = http.send(get("https://api.test/gated?n=1")).await.unwrap();
    busy("rate_limited").await;
    origin.gate.add_permits(1);
    assert_eq!(held.into_body().collect().await.unwrap().to_bytes(), "0;");
    free(&proxy).await;
    // A tunnel, in which several requests pass.
    let mut tunnel = pinning.h1("pinned.test").await;
    for _ in 0..2 {
        assert_eq!(tunnel.reply(get("https://pinned.test/hello")).await.status, 200);
    }
    told(&pinning.connect("pinned.test:443").await.1, "rate_limited");
    drop(tunnel);
    let end = Instant::now() + PATIENCE;
    while pinning.connect("pinned.test:443").await.0 != 200 {
        assert!(Instant::now() < end, "the tunnel's place was never given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn free(proxy: &Proxy) {
    let end = Instant::now() + PATIENCE;
    while proxy.agent.get("https://api.test/hello").await.status != 200 {
        assert!(Instant::now() < end, "the place was never given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_websocket_or_tunnel_over_its_time_is_cut() {
    let (_, proxy, pinning) = limited("time: 400ms").await;
    let mut raw = proxy.agent.raw("api.test").await;
    assert_eq!(status(&websocket(&mut raw).await), 101);
    raw.rest().await;
    let mut tunnel = pinning.raw("pinned.test").await;
    tunnel.rest().await;
    let records = proxy.records(2).await;
    for record in records {
        assert_eq!(record["code"], "exchange_timeout", "{record:#}");
    }
}

#[tokio::test]
async fn the_bytes_of_a_websocket_are_counted_like_those_of_bodies() {
    for (limits, code) in [
        ("request_body: 2KiB", "body_too_large"),
        ("response_body: 2KiB", "response_too_large"),
    ] {
        let (_, proxy, _) = limited(limits).await;
        let mut raw = proxy.agent.raw("api.test").await;
        assert_eq!(status(&websocket(&mut raw).await), 101);
        // The origin sends back what it gets.
        raw.say(frame(&"x".repeat(1000))).await;
        let head = raw.bytes(4).await;
        assert_eq!(
            raw.bytes(usize::from(u16::from_be_bytes([head[2], head[3]])))
                .await
                .len(),
            1000
        );
        raw.say(frame(&"x".repeat(1500))).await;
        let (rest, _) = raw.rest().await;
        assert!(rest.len() < 1500, "{limits}: it came back whole");
        let record = proxy.record().await;
        assert_eq!(record["code"], code, "{record:#}");
    }
}

#[tokio::test]
async fn each_agent_has_counts_of_its_own_and_a_made_up_one_has_none() {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Both).await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .secret("CI_TOKEN", "agent-token-ci-1")
        .secret("DEV_TOKEN", "agent-token-dev-2")
        .config("agents: { ci: { token: ci_token }, dev: { token: dev_token } }")
        .rule("host: api.test, limits: { rate: 1/h }")
        .serve()
        .await;
    let before = proxy.child.resident();
    for (token, expected) in [
        ("agent-token-ci-1", 200),
        ("agent-token-ci-1", 429),
        ("agent-token-dev-2", 200),
    ] {
        let agent = Agent {
            offer: Some(format!("Bearer {token}")),
            ..proxy.agent.clone()
        };
        assert_eq!(agent.get("https://api.test/hello").await.status, expected, "{token}");
    }
    // Whoever makes up names and tokens gets no key to count under.
    crate::agents::guesses(&proxy.agent, "n", 3000).await;
    eventually("memory to be what it was", || {
        (proxy.child.resident() < before + 16 * 1024 * 1024).then_some(())
    })
    .await;
}
