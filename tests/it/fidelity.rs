//! A request arrives as it was sent, and an answer as it was given, whichever protocol each side speaks.

use crate::rig::agent::{Agent, Http, content_length, get, request, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::{Root, Validity};
use crate::rig::script::Script;
use http::{HeaderValue, Method, StatusCode, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_rustls::TlsAcceptor;

const KEY: &str = "sk-live-0a1b2c3d4e5f";
const RULE: &str = "name: api, host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }]";

/// A proxy with one rule that injects, before an origin of these protocols.
pub async fn before(speaks: Speaks) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", speaks).await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", KEY)
        .rule(RULE)
        .serve()
        .await;
    (origin, proxy)
}

/// The same before a scripted origin.
pub async fn before_script(root: &Root, origin: &Script) -> Proxy {
    Rig::new(root)
        .reach_script(origin)
        .secret("API_KEY", KEY)
        .rule(RULE)
        .serve()
        .await
}

/// An agent's connection of either protocol.
pub async fn by(agent: &Agent, http2: bool) -> Http {
    if http2 {
        agent.h2("api.test").await
    } else {
        agent.h1("api.test").await
    }
}

/// Every pairing of the agent's protocol with the origin's.
pub const PAIRS: [(bool, Speaks); 4] = [
    (false, Speaks::Http1),
    (false, Speaks::Http2),
    (true, Speaks::Http1),
    (true, Speaks::Http2),
];

#[tokio::test]
async fn each_protocol_pairs_with_either() {
    for (http2, speaks) in PAIRS {
        let (origin, proxy) = before(speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        let mut ask = request(Method::POST, "https://api.test/v1/x?y=1", "a body");
        ask.headers_mut().insert("x-mark", HeaderValue::from_static("one"));
        let reply = http.reply(ask).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.version, if http2 { Version::HTTP_2 } else { Version::HTTP_11 });
        let seen = origin.only();
        assert_eq!(seen.http2, speaks == Speaks::Http2);
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str(), seen.authority.as_str()),
            ("POST", "/v1/x?y=1", "api.test")
        );
        assert_eq!(
            (seen.all("x-mark"), seen.all("x-api-key")),
            (vec!["one".into()], vec![KEY.into()])
        );
        assert_eq!(
            (seen.body.as_slice(), seen.all("content-length")),
            (&b"a body"[..], vec!["6".into()])
        );
    }
}

#[tokio::test]
async fn a_path_is_forwarded_byte_for_byte() {
    let targets = [
        "/a%2Fb%2fc",
        "/%7euser/caf%C3%A9",
        "/x;v=1,2/(y)'*!",
        "/q?a=b+c&d=%2B&&e=%20=|",
        "/?",
        "/a%20b?x=%00",
    ];
    for (http2, speaks) in PAIRS {
        let (origin, proxy) = before(speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        for target in targets {
            let reply = http.reply(get(&format!("https://api.test{target}"))).await;
            assert_eq!(reply.status, StatusCode::OK, "{target}: {}", reply.text());
            assert_eq!(origin.seen().pop().unwrap().target, target);
        }
    }
}

#[tokio::test]
async fn header_names_keep_their_case_both_ways_over_http_1() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 Fine\r\nX-OriGin: A\r\nContent-LENGTH: 2\r\n\r\nok")
            .await;
        line.gone().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say("GET / HTTP/1.1\r\nHost: api.test\r\nX-AgEnt: B\r\n\r\n").await;
    let head = raw.head().await;
    assert!(
        head.contains("\r\nX-OriGin: A\r\n") && head.contains("\r\nContent-LENGTH: 2\r\n"),
        "{head}"
    );
    let heard = origin.heads().remove(0);
    assert!(heard.contains("\r\nX-AgEnt: B\r\n"), "{heard}");
    assert_eq!(heard.to_lowercase().matches("x-api-key").count(), 1, "{heard}");
}

#[tokio::test]
async fn what_belongs_to_one_hop_stays_on_it() {
    let (origin, proxy) = before(Speaks::Http1).await;
    let mut raw = proxy.agent.raw("api.test").await;
    let hop = "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
        Proxy-Authorization: Basic YTpi\r\n";
    raw.say(format!("GET / HTTP/1.1\r\nHost: api.test\r\n{hop}X-Other: 2\r\n\r\n"))
        .await;
    assert_eq!(status(&raw.head().await), 200);
    let seen = origin.only();
    assert_eq!(seen.all("x-other"), ["2"]);
    for name in ["x-mine", "keep-alive", "proxy-connection", "proxy-authorization"] {
        assert!(!seen.headers.contains_key(name), "{name} went on");
    }
}

#[tokio::test]
async fn head_204_and_304_have_no_body_and_leave_the_connection_usable() {
    for (http2, speaks) in PAIRS {
        let (_, proxy) = before(speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        let head = http
            .reply(request(Method::HEAD, "https://api.test/download?bytes=1234&length", ""))
            .await;
        assert_eq!(
            (head.status, head.header("content-length"), head.body.len()),
            (StatusCode::OK, "1234", 0)
        );
        for code in [204, 304] {
            let reply = http.reply(get(&format!("https://api.test/status/{code}"))).await;
            assert_eq!(
                (reply.status.as_u16(), reply.body.len(), reply.header("etag")),
                (code, 0, "\"abc\"")
            );
        }
        assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    }
}

#[tokio::test]
async fn trailers_arrive_on_each_pairing() {
    for (http2, speaks) in PAIRS {
        let (_, proxy) = before(speaks).await;
        let mut ask = get("https://api.test/trailers");
        // RFC 9110 §6.5.1: without it an HTTP/1.1 server may keep them to itself.
        ask.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let reply = by(&proxy.agent, http2).await.reply(ask).await;
        assert_eq!(reply.text(), "before the trailer");
        let trailers = reply.trailers.expect("no trailers");
        assert_eq!(trailers["x-checksum"], "abc123");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whole() {
    let (origin, proxy) = before(Speaks::Http1).await;
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say("POST /upload HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    raw.say("5\r\nhello\r\n").await;
    raw.say("6;ext=1\r\n world\r\n0\r\n\r\n").await;
    assert_eq!(status(&raw.head().await), 200);
    let seen = origin.only();
    assert_eq!((seen.body.as_slice(), seen.whole), (&b"hello world"[..], true));
    assert!(!seen.headers.contains_key("content-length"));
    let reply = proxy.agent.get("https://api.test/download?bytes=300000").await;
    assert_eq!((reply.body.len(), reply.header("content-length")), (300_000, ""));
}

#[tokio::test]
async fn alt_svc_does_not_reach_the_agent() {
    let (_, proxy) = before(Speaks::Both).await;
    for reply in [
        proxy.agent.get("https://api.test/alt-svc").await,
        proxy.agent.get2("https://api.test/alt-svc").await,
    ] {
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "hello"));
        assert!(
            !reply.headers.contains_key("alt-svc"),
            "the agent is told a way around the proxy"
        );
    }
}

#[tokio::test]
async fn an_early_hint_is_never_taken_for_the_answer() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        while line.head().await.is_some() {
            line.say("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
                .await;
            line.say("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")
                .await;
        }
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    for http2 in [false, true] {
        let reply = by(&proxy.agent, http2).await.reply(get("https://api.test/")).await;
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "answer"));
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (origin, proxy) = before(Speaks::Both).await;
    let mut raw = proxy.agent.raw("api.test").await;
    let ask = |i| {
        format!(
            "POST /upload HTTP/1.1\r\nHost: api.test\r\nX-N: {i}\r\nContent-Length: {i}\r\n\r\n{}",
            "x".repeat(i)
        )
    };
    raw.say((1..=4).map(ask).collect::<String>()).await;
    for i in 1..=4 {
        let head = raw.head().await;
        assert_eq!(status(&head), 200);
        let body = raw.bytes(content_length(&head)).await;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["bytes"], i);
    }
    assert_eq!(
        origin
            .seen()
            .iter()
            .map(|one| one.all("x-n").concat())
            .collect::<String>(),
        "1234"
    );
}

#[tokio::test]
async fn an_agent_that_has_said_all_it_will_still_gets_its_answer() {
    let (origin, proxy) = before(Speaks::Both).await;
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say("GET /gated?n=2 HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
        .await;
    tokio::io::AsyncWriteExt::shutdown(&mut raw.io).await.unwrap();
    origin.saw("the request", |one| one.target == "/gated?n=2").await;
    origin.gate.add_permits(2);
    let (answer, clean) = raw.rest().await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        clean && answer.contains("0;") && answer.ends_with("1;\r\n0\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_of_200_kib_passes_both_ways() {
    let big = "c".repeat(100 * 1024);
    for (http2, speaks) in PAIRS {
        let (origin, proxy) = before(speaks).await;
        let mut ask = get("https://api.test/");
        ask.headers_mut().insert("cookie", HeaderValue::from_str(&big).unwrap());
        ask.headers_mut().insert("x-more", HeaderValue::from_str(&big).unwrap());
        let reply = by(&proxy.agent, http2).await.reply(ask).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(origin.only().all("cookie"), std::slice::from_ref(&big));
    }
}

#[tokio::test]
async fn sequential_requests_share_one_upstream_connection() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let (origin, proxy) = before(speaks).await;
        for _ in 0..3 {
            // Each from a connection of its own.
            assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
        }
        assert_eq!((origin.seen().len(), origin.connections()), (3, 1));
    }
}

#[tokio::test]
async fn an_upstream_without_http1_refuses_one_handshake_and_is_not_asked_again() {
    let root = Root::new();
    let dialled = Arc::new(AtomicUsize::new(0));
    let (counted, tls) = (dialled.clone(), root.server(&["api.test"], Validity::Now, &["h2"]));
    let origin = Script::tcp("api.test", move |tcp| {
        counted.fetch_add(1, Ordering::SeqCst);
        let tls = TlsAcceptor::from(tls.clone());
        async move {
            let Ok(io) = tls.accept(tcp).await else { return };
            let mut connection = h2::server::handshake(io).await.unwrap();
            while let Some(Ok((_, mut answer))) = connection.accept().await {
                answer.send_response(http::Response::new(()), true).unwrap();
            }
        }
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    for _ in 0..3 {
        // Which goes out over HTTP/1.1 wherever it can.
        let mut ask = request(Method::POST, "https://api.test/", "a body");
        ask.headers_mut()
            .insert("expect", HeaderValue::from_static("100-continue"));
        let mut http = proxy.agent.h1("api.test").await;
        assert_eq!(http.reply(ask).await.status, StatusCode::OK);
    }
    assert_eq!(dialled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_pooled_connection_that_the_origin_has_closed_costs_no_request() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        // Says keep-alive, and closes all the same.
        line.bye().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let mut http = proxy.agent.h1("api.test").await;
    for _ in 0..5 {
        let reply = http.reply(request(Method::POST, "https://api.test/", "x")).await;
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "ok"));
    }
}

#[tokio::test]
async fn many_streams_run_at_once_on_one_connection() {
    let (origin, proxy) = before(Speaks::Http2).await;
    let Http::Two(send) = proxy.agent.h2("api.test").await else {
        unreachable!()
    };
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let mut http = Http::Two(send.clone());
            tokio::spawn(async move { http.reply(get("https://api.test/gated?n=1")).await.text() })
        })
        .collect();
    // All are there before the first is answered.
    crate::rig::eventually("50 requests at once", || (origin.seen().len() == 50).then_some(())).await;
    origin.gate.add_permits(50);
    for one in waiting {
        assert_eq!(one.await.unwrap(), "0;");
    }
    assert_eq!(origin.connections(), 1);
}
