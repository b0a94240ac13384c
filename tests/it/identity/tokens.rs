//! Tokens: asked for on every way in, good for the request or the connection they came with, and for nobody
//! behind the proxy to see.

use crate::clients::basic;
use crate::rig::agent::{Agent, Raw, content_length, get, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{routes, soon};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const CI: &str = "agent-token-91b2c3";
const DEV: &str = "agent-token-dev-7f";

/// `ci` may ask one origin, `dev` the other; in plain HTTP each.
async fn setting(listen: &str) -> (Origin, Origin, Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Both).await;
    let (ours, theirs) = (Origin::plain("ci.test").await, Origin::plain("dev.test").await);
    let rig = Rig::new(&root).reach(&origin).reach(&ours).reach(&theirs);
    let listen = listen.replace("DIR", rig.dir().to_str().unwrap());
    let proxy = rig
        .listen(&listen)
        .secret("CI_TOKEN", CI)
        .secret("DEV_TOKEN", DEV)
        .config("agents: { ci: { token: ci_token }, dev: { token: dev_token } }")
        .rule("host: [api.test, ci.test], agents: ci")
        .rule("host: dev.test, agents: dev")
        .serve()
        .await;
    (origin, ours, theirs, proxy)
}

/// Both forms over HTTP/1.1, each answered with a 407 and the line kept open.
async fn turned_away<I: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<I>, offer: &str) {
    for line in [
        "CONNECT api.test:443",
        "GET http://ci.test/hello",
        "GET http://nowhere.test/",
        "CONNECT nowhere.test:443",
    ] {
        raw.say(format!("{line} HTTP/1.1\r\nHost: {}\r\n{offer}\r\n", host(line)))
            .await;
        let head = raw.head().await.to_lowercase();
        assert!(head.starts_with("http/1.1 407 "), "{line} with {offer:?}: {head}");
        assert!(
            head.contains("\r\nproxy-authenticate: basic realm=\"keyferry\"\r\n"),
            "{head}"
        );
        assert!(!head.contains("\r\nconnection: close"), "{head}");
        raw.bytes(content_length(&head)).await;
    }
}

fn host(line: &str) -> &str {
    let target = line.split(' ').nth(1).unwrap().trim_start_matches("http://");
    target.split('/').next().unwrap()
}

/// The same over HTTP/2.
async fn turned_away_over_http2<I>(io: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    for offer in [
        None,
        Some(basic("ci", DEV.trim_end_matches('f'))),
        Some("Bearer x".to_owned()),
    ] {
        for (method, uri) in [("CONNECT", "api.test:443"), ("GET", "http://ci.test/hello")] {
            let mut ask = Request::builder().method(method).uri(uri);
            if let Some(offer) = &offer {
                ask = ask.header("proxy-authorization", offer);
            }
            let answer = soon("an answer", send.send_request(ask.body(routes::nothing()).unwrap()))
                .await
                .unwrap();
            assert_eq!(answer.status(), 407, "{method} {uri} with {offer:?}");
            assert!(
                answer.headers()["proxy-authenticate"]
                    .to_str()
                    .unwrap()
                    .starts_with("Basic ")
            );
        }
    }
    // The connection is as good as before.
    let ask = Request::connect("api.test:443").header("proxy-authorization", basic("ci", CI));
    let answer = soon("the tunnel", send.send_request(ask.body(routes::nothing()).unwrap())).await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn the_unknown_are_refused_on_every_way_in() {
    let listen = "127.0.0.1:0, { bind: \"unix:DIR/p.sock\" }, { bind: \"unix:DIR/tls.sock\", tls: true }";
    let (origin, ours, theirs, proxy) = setting(listen).await;
    let unix = |name: &str| UnixStream::connect(proxy.rig.dir().join(name));
    let tls = async |name| {
        let line = unix(name).await.unwrap();
        proxy.agent.handshake(line, "localhost", &[]).await.unwrap()
    };
    for offer in [
        String::new(),
        format!("Proxy-Authorization: {}\r\n", basic("ci", "wrong")),
        // Two offers are none, and the agent's own name is no token.
        format!("Proxy-Authorization: Bearer {CI}\r\nProxy-Authorization: Bearer {DEV}\r\n"),
        format!("Proxy-Authorization: {}\r\n", basic(CI, "ci")),
        format!("Authorization: Bearer {CI}\r\n"),
    ] {
        turned_away(&mut proxy.agent.dial().await, &offer).await;
        turned_away(&mut Raw::new(unix("p.sock").await.unwrap()), &offer).await;
        turned_away(&mut Raw::new(tls("tls.sock").await), &offer).await;
    }
    turned_away_over_http2(TcpStream::connect(proxy.address).await.unwrap()).await;
    turned_away_over_http2(unix("p.sock").await.unwrap()).await;
    turned_away_over_http2(tls("tls.sock").await).await;
    for origin in [origin, ours, theirs] {
        assert_eq!(origin.connections(), 0);
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_own_request_and_no_other_on_the_connection() {
    let (_, ours, theirs, proxy) = setting("127.0.0.1:0").await;
    let mut raw = proxy.agent.dial().await;
    for (offer, host, expected) in [
        (Some(CI), "ci.test", 200),
        (Some(DEV), "ci.test", 403),
        (None, "ci.test", 407),
        (Some(DEV), "dev.test", 200),
        (Some(CI), "dev.test", 403),
        (None, "dev.test", 407),
        (Some(CI), "ci.test", 200),
    ] {
        let offer = offer.map_or(String::new(), |token| {
            format!("Proxy-Authorization: Bearer {token}\r\n")
        });
        raw.say(format!(
            "GET http://{host}/hello HTTP/1.1\r\nHost: {host}\r\n{offer}\r\n"
        ))
        .await;
        let head = raw.head().await;
        assert_eq!(status(&head), expected, "{host} with {offer:?}: {head}");
        raw.bytes(content_length(&head)).await;
    }
    assert_eq!((ours.seen().len(), theirs.seen().len()), (2, 1));
    let agents: Vec<_> = proxy.records(7).await.iter().map(|one| one["agent"].clone()).collect();
    assert_eq!(
        serde_json::json!(agents),
        serde_json::json!(["ci", "dev", null, "dev", "ci", null, "ci"])
    );
}

#[tokio::test]
async fn a_token_inside_a_tunnel_changes_nothing_and_goes_no_further() {
    let (origin, _, _, proxy) = setting("127.0.0.1:0").await;
    let agent = Agent {
        offer: Some(basic("ci", CI)),
        ..proxy.agent.clone()
    };
    // As apt and deno do: the same header again inside. Somebody else's makes the agent nobody else.
    for offer in [basic("ci", CI), format!("Bearer {DEV}"), "Bearer nobodys".to_owned()] {
        let mut raw = agent.raw("api.test").await;
        raw.say(format!(
            "GET /h1 HTTP/1.1\r\nHost: api.test\r\nproxy-authorization: {offer}\r\nPROXY-AUTHORIZATION: {offer}\r\n\r\n"
        ))
        .await;
        assert_eq!(status(&raw.head().await), 200);
        let mut ask = get("https://api.test/h2");
        ask.headers_mut()
            .insert("proxy-authorization", HeaderValue::try_from(&offer).unwrap());
        assert_eq!(agent.h2("api.test").await.reply(ask).await.status, 200);
        let mut raw = agent.raw("api.test").await;
        raw.say(format!(
            "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nProxy-Authorization: {offer}\r\n\r\n"
        ))
        .await;
        assert_eq!(status(&raw.head().await), 101);
        let mut raw = agent.raw("api.test").await;
        raw.say(format!(
            "POST /trailed HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nTrailer: proxy-authorization\r\n\r\n\
            1\r\nx\r\n0\r\nProxy-Authorization: {offer}\r\n\r\n"
        ))
        .await;
        assert_eq!(status(&raw.head().await), 200);
        let mut trailed = agent.h2("api.test").await;
        let mut trailers = HeaderMap::new();
        trailers.insert("proxy-authorization", HeaderValue::try_from(&offer).unwrap());
        let body =
            http_body_util::Full::new(bytes::Bytes::from("x")).with_trailers(std::future::ready(Some(Ok(trailers))));
        let ask = Request::post("https://api.test/trailed2").body(body.map_err(|never| match never {}).boxed_unsync());
        assert_eq!(trailed.reply(ask.unwrap()).await.status, 200);
    }
    let seen = origin.seen();
    assert_eq!(seen.len(), 15);
    for one in seen {
        let all = format!("{one:?}");
        for told in [CI, DEV, "nobodys", &basic("ci", CI)[6..]] {
            assert!(!all.contains(told), "{all}");
        }
        assert!(!one.headers.contains_key("proxy-authorization"));
    }
    let records = proxy.records(15).await;
    assert!(records.iter().all(|one| one["agent"] == "ci"), "{records:#?}");
}

#[tokio::test]
async fn a_token_that_was_rotated_is_good_from_then_on_and_the_old_one_no_more() {
    let root = Root::new();
    let origin = Origin::plain("ci.test").await;
    let rig = Rig::new(&root).reach(&origin);
    let file = rig.dir().join("token");
    std::fs::write(&file, "agent-token-before").unwrap();
    let rig = rig.secret_spec("ci_token", &format!("{{ file: {} }}", file.display()));
    let rig = rig.config("agents: { ci: { token: ci_token } }").rule("host: ci.test");
    let proxy = rig.serve().await;
    let ask = async |token: &str| {
        let mut raw = proxy.agent.dial().await;
        raw.say(format!(
            "GET http://ci.test/hello HTTP/1.1\r\nHost: ci.test\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        status(&raw.head().await)
    };
    assert_eq!(
        (ask("agent-token-before").await, ask("agent-token-after").await),
        (200, 407)
    );
    std::fs::write(&file, "agent-token-after").unwrap();
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while ask("agent-token-after").await != 200 {
        assert!(std::time::Instant::now() < end, "the new token never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask("agent-token-before").await, 407);
}
