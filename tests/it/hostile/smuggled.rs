//! A second request hidden behind, inside or after the first: each is judged by itself, or is none.

use super::witness::Witness;
use super::{BEARER, KEY, kept, two};
use crate::rig::agent::{Raw, content_length, request, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

const NARROW: &str = "host: api.test, allow: [\"* /ok/**\"], inject: [{ bearer: api_key }]";
const HIDDEN: &str = "GET /ok/hidden HTTP/1.1\r\nHost: api.test\r\n\r\n";

/// Reads one whole answer.
async fn answer<I: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<I>) -> u16 {
    let head = raw.head().await;
    if status(&head) != 101 {
        raw.bytes(content_length(&head)).await;
    }
    status(&head)
}

async fn answering(said: &'static str) -> (Witness, Proxy) {
    let root = Root::new();
    let api = Witness::saying(&root, "api.test", |_| said.as_bytes().to_vec()).await;
    let rig = Rig::new(&root).reach_as("api.test", api.address).secret("API_KEY", KEY);
    (api, rig.rule(NARROW).serve().await)
}

#[tokio::test]
async fn what_follows_an_upgrade_that_was_not_granted_is_a_request_like_any_other() {
    let (api, other, proxy) = two(NARROW).await;
    for asked in [
        "Connection: upgrade\r\nUpgrade: foo\r\n",
        "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    ] {
        let mut raw = proxy.agent.raw("api.test").await;
        let first = format!("GET /ok/a HTTP/1.1\r\nHost: api.test\r\n{asked}\r\n");
        raw.say(format!("{first}GET /admin HTTP/1.1\r\nHost: api.test\r\n\r\n"))
            .await;
        assert_eq!((answer(&mut raw).await, answer(&mut raw).await), (200, 403), "{asked}");
    }
    let upgrades = api
        .requests()
        .iter()
        .filter(|one| !one.all("upgrade").is_empty())
        .count();
    assert_eq!((api.requests().len(), upgrades), (4, 1), "only the WebSocket asks on");
    assert!(api.broken().is_empty() && other.connections() == 0);
    kept(&proxy, &[]);
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_opens_nothing() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n";
    let (api, proxy) = answering(switched).await;
    for asked in ["", "Connection: upgrade\r\nUpgrade: foo\r\n"] {
        let mut raw = proxy.agent.raw("api.test").await;
        let first = format!("GET /ok/a HTTP/1.1\r\nHost: api.test\r\n{asked}\r\n");
        raw.say(format!("{first}GET /admin HTTP/1.1\r\nHost: api.test\r\n\r\n"))
            .await;
        assert_eq!((answer(&mut raw).await, answer(&mut raw).await), (502, 403));
    }
    assert!(!String::from_utf8_lossy(&api.bytes()).contains("/admin"));
}

#[tokio::test]
async fn a_websocket_that_the_host_did_not_agree_to_opens_nothing() {
    for accept in ["", "Sec-WebSocket-Accept: bm90IHRoZSBhbnN3ZXI=\r\n"] {
        let root = Root::new();
        let said =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{accept}\r\n");
        let api = Witness::saying(&root, "api.test", move |_| said.clone().into_bytes()).await;
        let rig = Rig::new(&root).reach_as("api.test", api.address).secret("API_KEY", KEY);
        let proxy = rig.rule(NARROW).serve().await;
        let mut raw = proxy.agent.raw("api.test").await;
        let asked = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        raw.say(format!(
            "GET /ok/a HTTP/1.1\r\nHost: api.test\r\n{asked}\r\nGET /admin HTTP/1.1\r\nHost: api.test\r\n\r\n"
        ))
        .await;
        assert_eq!((answer(&mut raw).await, answer(&mut raw).await), (502, 403));
        assert!(!String::from_utf8_lossy(&api.bytes()).contains("/admin"));
    }
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_never_read_as_requests() {
    let (api, other, proxy) = two(NARROW).await;
    let hidden = HIDDEN.repeat(20_000);
    let length = hidden.len();
    let mut heads = Vec::new();
    // Denied by its path, misdirected, refused by its method, too large by its statement.
    for line in ["POST /admin", "TRACE /ok/a", "POST http://other.test/ok"] {
        heads.push(format!(
            "{line} HTTP/1.1\r\nHost: api.test\r\nContent-Length: {length}\r\n\r\n"
        ));
        heads.push(format!(
            "{line} HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ));
        heads.push(format!(
            "{line} HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
        ));
    }
    for head in heads {
        let mut raw = proxy.agent.raw("api.test").await;
        let end = if head.contains("chunked") { "\r\n0\r\n\r\n" } else { "" };
        // Once refused, the proxy may close before all is written.
        let _ = raw
            .io
            .write_all(format!("{head}{hidden}{end}{HIDDEN}").as_bytes())
            .await;
        let _ = raw.io.shutdown().await;
        let (answers, _) = raw.rest().await;
        let answers = String::from_utf8_lossy(&answers);
        let codes = answers.matches("HTTP/1.1 ").count();
        // Either it was read to its end, and then the last is a request of its own, or the line was closed.
        assert!(
            codes <= 2 && answers.matches(" 200 OK").count() <= 1,
            "{head}: {answers}"
        );
        assert!(api.requests().len() <= 1, "{head}: {:#?}", api.requests().len());
    }
    assert_eq!(other.connections(), 0);
    kept(&proxy, &[]);
}

#[tokio::test]
async fn no_trailer_overrides_what_the_head_says() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let root = Root::new();
        let origin = Origin::speaking(&root, "api.test", speaks).await;
        let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY);
        let rule = "host: api.test, allow: [\"POST /t\"], inject: [{ header: x-api-key, value: \"${api_key}\" }]";
        let proxy = rig.rule(rule).rule("host: api.test").serve().await;
        let names = "X-Api-Key, X_Api_Key, Authorization, Content-Length, Transfer-Encoding, Host, Content-Type, \
            Content-Encoding, Connection, Proxy-Authorization, Trailer, TE, Upgrade, Cookie, X-Sum";
        let trailers: String = names.split(", ").map(|name| format!("{name}: 7\r\n")).collect();
        for (path, given, left) in [
            ("/t", vec![KEY.to_owned()], &["x-sum"][..]),
            ("/free", vec![], &["x-api-key", "x-sum", "x_api_key"]),
        ] {
            let mut raw = proxy.agent.raw("api.test").await;
            raw.say(format!(
                "POST {path} HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nTrailer: {names}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n{trailers}\r\n"
            ))
            .await;
            assert_eq!(answer(&mut raw).await, 200);
            let seen = origin.seen().pop().unwrap();
            assert_eq!((seen.all("x-api-key"), seen.authority.as_str()), (given, "api.test"));
            let trailers = seen.trailers.unwrap_or_default();
            let mut names: Vec<_> = trailers.keys().map(ToString::to_string).collect();
            names.sort();
            assert_eq!(
                names,
                left,
                "{path} over {}",
                if seen.http2 { "HTTP/2" } else { "HTTP/1.1" }
            );
        }
    }
}

#[tokio::test]
async fn a_trailer_of_a_field_that_a_signature_or_a_program_fills_does_not_arrive() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let root = Root::new();
        let origin = Origin::speaking(&root, "api.test", speaks).await;
        let signed = "{ hmac: { key: api_key, signed: \"${method}\", headers: { x-sign: \"${signature}\" } } }";
        let program = "{ exec: { command: [echo, '{\"headers\": {\"x-made\": \"made-0a1b2c3d\"}}'] } }";
        let proxy = Rig::new(&root)
            .reach(&origin)
            .secret("API_KEY", KEY)
            .rule(&format!("host: api.test, inject: [{signed}, {program}]"))
            .serve()
            .await;
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say(
            "POST /t HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nTrailer: X-Sign, X_Sign, X-Made, X_Made, X-Sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sign: 7\r\nX_Sign: 7\r\nX-Made: 7\r\nX_made: 7\r\nX-Sum: 7\r\n\r\n",
        )
        .await;
        assert_eq!(answer(&mut raw).await, 200);
        let seen = origin.only();
        assert_eq!(
            (seen.all("x-sign").len(), seen.all("x-made")),
            (1, vec!["made-0a1b2c3d".to_owned()])
        );
        let trailers = seen.trailers.unwrap_or_default();
        let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(
            names,
            ["x-sum"],
            "over {}",
            if seen.http2 { "HTTP/2" } else { "HTTP/1.1" }
        );
    }
}

#[tokio::test]
async fn oversized_framing_ends_the_connection() {
    let (api, _, proxy) = two(BEARER).await;
    let chunked = "POST /m HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let many: String = (0..300).map(|at| format!("X-{at}: 1\r\n")).collect();
    for (what, bytes) in [
        (
            "a chunk extension",
            format!("{chunked}3;a={}\r\nabc\r\n0\r\n\r\n", "b".repeat(64 * 1024)),
        ),
        (
            "chunk extensions",
            format!("{chunked}{}0\r\n\r\n", "1;abcdefgh\r\nx\r\n".repeat(8 * 1024)),
        ),
        (
            "a trailer",
            format!("{chunked}0\r\nX: {}\r\n\r\n", "b".repeat(1024 * 1024)),
        ),
        ("trailers", format!("{chunked}0\r\n{many}\r\n")),
        (
            "a field",
            format!(
                "GET /m HTTP/1.1\r\nHost: api.test\r\nX: {}\r\n\r\n",
                "b".repeat(1024 * 1024)
            ),
        ),
        ("fields", format!("GET /m HTTP/1.1\r\nHost: api.test\r\n{many}\r\n")),
        (
            "a target",
            format!("GET /{} HTTP/1.1\r\nHost: api.test\r\n\r\n", "b".repeat(1024 * 1024)),
        ),
        (
            "a method",
            format!("{} /m HTTP/1.1\r\nHost: api.test\r\n\r\n", "B".repeat(1024 * 1024)),
        ),
    ] {
        let mut raw = proxy.agent.raw("api.test").await;
        let _ = raw.io.write_all(format!("{bytes}{HIDDEN}").as_bytes()).await;
        let _ = raw.io.shutdown().await;
        let (answers, _) = raw.rest().await;
        let answers = String::from_utf8_lossy(&answers);
        assert!(!answers.contains(" 200 OK"), "{what}: {answers}");
        assert_eq!(api.requests().len(), 0, "{what}");
    }
}

#[tokio::test]
async fn a_request_to_the_proxy_port_is_read_as_strictly() {
    let (api, other, proxy) = two("host: api.test:80").await;
    for text in [
        "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET api.test:80 HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET //api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET http://api.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nHost: other.test\r\n\r\n",
        "GET http://user:word@api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET http://api.test@other.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET http://api.test:0/ HTTP/1.1\r\nHost: api.test:0\r\n\r\n",
        "GET http://api.test:99999/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET http://api.test%00.other.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET https://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET ftp://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET ws://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET unix:/run/x.sock HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "POST http://api.test/ HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST http://api.test/ HTTP/1.0\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "TRACE http://api.test/ HTTP/1.1\r\nHost: api.test\r\nMax-Forwards: 1\r\n\r\n",
        "OPTIONS http://api.test/ HTTP/1.1\r\nHost: api.test\r\nMax-Forwards: 0\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "CONNECT http://api.test:443/ HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "CONNECT api.test HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "CONNECT api.test: HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "CONNECT api.test:0 HTTP/1.1\r\nHost: api.test:0\r\n\r\n",
        "CONNECT :443 HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "CONNECT user@api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n",
        "CONNECT api.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n",
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nHost: other.test:443\r\n\r\n",
        "CONNECT api.test:443, other.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nContent-Length: 5\r\n\r\nhello",
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut raw = proxy.agent.dial().await;
        raw.say(text).await;
        let head = raw.head().await;
        assert!([400, 403, 405, 421].contains(&status(&head)), "{text:?}: {head}");
    }
    assert_eq!((api.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn exactly_one_of_two_requests_in_one_write_is_each_of_them() {
    // The same bytes, cut at every place: the cuts change nothing.
    let (api, _, proxy) = two(NARROW).await;
    let both = "POST /ok/a HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        GET /admin HTTP/1.1\r\nHost: api.test\r\n\r\n";
    for cut in (1..both.len()).step_by(7) {
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say(&both[..cut]).await;
        tokio::task::yield_now().await;
        raw.say(&both[cut..]).await;
        assert_eq!((answer(&mut raw).await, answer(&mut raw).await), (200, 403), "{cut}");
    }
    assert!(
        api.requests()
            .iter()
            .all(|one| one.target == "/ok/a" && one.body == b"abc")
    );
    let mut http = proxy.agent.h1("api.test").await;
    let reply = http
        .reply(request(http::Method::POST, "https://api.test/ok/b", HIDDEN))
        .await;
    assert_eq!(
        (reply.status.as_u16(), api.requests().pop().unwrap().body),
        (200, HIDDEN.into())
    );
}
