//! From HTTP/2 to a host that speaks HTTP/1.1: what one of the two would read as framing, a line or a field of its
//! own never crosses.

use super::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, Outcome, fields, frame};
use super::{BEARER, KEY, kept, two};
use crate::rig::proxy::Proxy;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PLAIN: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "api.test"),
    (":path", "/m"),
];

async fn line(proxy: &Proxy) -> Frames<TlsStream<TcpStream>> {
    Frames::greet(proxy.agent.tls("api.test", &["h2"]).await).await
}

/// The plain head with one field in place of its like, or after it all.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut head = PLAIN.to_vec();
    match head.iter_mut().find(|(n, _)| *n == name) {
        Some(field) => field.1 = value,
        None => head.push((name, value)),
    }
    head
}

#[tokio::test]
async fn no_field_of_http2_becomes_another_in_http1() {
    let (api, other, proxy) = two(BEARER).await;
    let hidden = "x\r\n\r\nGET /hidden HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let mut heads: Vec<Vec<(&str, &str)>> = Vec::new();
    for (name, value) in [
        // Framing and what is for one connection only (RFC 9113 §8.2.2).
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "keep-alive"),
        ("connection", "close, x-api-key"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("content-length", "3"),
        ("content-length", "+0"),
        ("content-length", "0, 0"),
        ("content-length", "x"),
        ("content-length", "99999999999999999999"),
        // Lines in values.
        ("x", hidden),
        ("x", "a\r\nb: c"),
        ("x", "a\nb: c"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        (":path", "/m HTTP/1.1\r\nHost: other.test\r\n\r\n"),
        (":path", "/m\r\nx: y"),
        (":path", "/m\nx"),
        (":path", "/m\0"),
        (":path", "/m HTTP/1.1"),
        (":path", "/m x"),
        (":path", "/m\t"),
        (":path", "m"),
        (":path", "*"),
        (":path", ""),
        (":path", "https://other.test/m"),
        (":method", "GET / HTTP/1.1\r\nx: y\r\n\r\nPOST"),
        (":method", "GET /"),
        (":method", "PO ST"),
        (":method", "PO\rST"),
        (":method", "PO\nST"),
        (":method", "PO\0ST"),
        (":method", "PO:ST"),
        (":method", ""),
        (":method", "CONNECT"),
        (":method", "TRACE"),
        (":method", "trace"),
        (":authority", "api.test\r\nx: y"),
        (":authority", "api.test\0.other.test"),
        (":authority", "api.test x"),
        (":authority", "api.test/m"),
        (":scheme", "https\r\nx: y"),
        (":scheme", "https://api.test/m?"),
        (":scheme", "ftp"),
        (":scheme", ""),
        // Names.
        ("X-Upper", "1"),
        ("x upper", "1"),
        ("x:y", "1"),
        ("x\r\ny", "1"),
        ("x\ny", "1"),
        ("x\0y", "1"),
        ("x y: z\r\nw", "1"),
        ("", "1"),
        (":", "1"),
        (":path ", "/n"),
        (":status", "200"),
        (":unknown", "1"),
        (":protocol", "foo"),
        ("host", "other.test"),
        ("x\u{e4}", "1"),
    ] {
        heads.push(with(name, value));
    }
    // Two of what there is one of, none of it, and too late (RFC 9113 §8.3).
    for again in PLAIN {
        heads.push([&PLAIN[..], &[again]].concat());
        heads.push(PLAIN.into_iter().filter(|field| *field != again).collect());
        let rest = PLAIN.into_iter().filter(|field| *field != again);
        heads.push(rest.chain([("x", "1"), again]).collect());
    }
    heads.push([&PLAIN[..], &[(":path", "/other")]].concat());
    heads.push([&PLAIN[..], &[("content-length", "0"), ("content-length", "5")]].concat());
    heads.push([&PLAIN[..], &[("host", "api.test"), ("host", "other.test")]].concat());
    let mut heard = Vec::new();
    for head in &heads {
        let mut line = line(&proxy).await;
        line.head(1, head, true).await;
        let outcome = line.outcome(1).await;
        heard.append(&mut line.heard);
        // Without `:authority` there may be no name at all, but the tunnel's is not enough.
        assert!(outcome.is_refused(), "{head:?}: {outcome:?}");
        assert!(api.requests().is_empty(), "{head:?}: {:#?}", api.requests());
    }
    assert!(heads.len() > 70 && api.broken().is_empty(), "{:?}", api.broken());
    assert_eq!(other.connections(), 0);
    kept(&proxy, &[&heard]);
}

#[tokio::test]
async fn a_body_is_as_long_as_it_says_or_the_request_never_ends() {
    let (api, _, proxy) = two(BEARER).await;
    for (length, pieces) in [
        ("5", &["abc"][..]),
        ("3", &["abcde"]),
        ("3", &["ab", "cd"]),
        ("1", &[""]),
        ("5", &["ab", "c"]),
    ] {
        let mut line = line(&proxy).await;
        line.head(1, &with("content-length", length), false).await;
        for (at, piece) in pieces.iter().enumerate() {
            line.data(1, piece.as_bytes(), at + 1 == pieces.len()).await;
        }
        let outcome = line.outcome(1).await;
        assert!(outcome.is_refused(), "{length}, {pieces:?}: {outcome:?}");
    }
    assert!(api.requests().is_empty(), "{:#?}", api.requests());
    // A request that says it has no body is whole with its head; what comes after is no part of it.
    let mut late = line(&proxy).await;
    late.head(1, &with("content-length", "0"), false).await;
    late.data(1, b"a", true).await;
    late.outcome(1).await;
    assert!(api.requests().iter().all(|one| one.body.is_empty()));
    let before = api.requests().len();
    // The connection that a request was cut short on is not used for the next.
    let mut line = line(&proxy).await;
    line.head(1, &with("content-length", "3"), false).await;
    line.data(1, b"abc", true).await;
    assert_eq!(line.outcome(1).await.status(), 200);
    let last = api.requests().pop().unwrap().body;
    assert_eq!(
        (api.requests().len(), last, api.broken()),
        (before + 1, b"abc".to_vec(), vec![])
    );
    kept(&proxy, &[&line.heard]);
}

#[tokio::test]
async fn what_is_inside_a_body_stays_inside_it() {
    let (api, _, proxy) = two(BEARER).await;
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: api.test\r\n\r\n";
    let mut line = line(&proxy).await;
    line.head(1, &PLAIN, false).await;
    line.data(1, hidden.as_bytes(), true).await;
    assert_eq!(line.outcome(1).await.status(), 200);
    line.head(3, &with("content-length", &hidden.len().to_string()), false)
        .await;
    line.data(3, hidden.as_bytes(), true).await;
    assert_eq!(line.outcome(3).await.status(), 200);
    let bodies: Vec<_> = api.requests().into_iter().map(|one| one.body).collect();
    assert_eq!((bodies, api.broken()), (vec![hidden.as_bytes().to_vec(); 2], vec![]));
}

#[tokio::test]
async fn trailers_of_http2_are_fields_and_nothing_more() {
    let (api, _, proxy) = two(BEARER).await;
    for (name, value) in [
        (":path", "/other"),
        (":authority", "other.test"),
        ("transfer-encoding", "chunked"),
        ("x", "a\r\nb: c"),
        ("X-Upper", "1"),
        ("x y", "1"),
    ] {
        let mut line = line(&proxy).await;
        line.head(1, &with("trailer", "x, transfer-encoding, authorization"), false)
            .await;
        line.data(1, b"abc", false).await;
        line.say(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[(name, value)])))
            .await;
        line.outcome(1).await;
    }
    // Refused, or gone without them.
    for one in api.requests() {
        assert!(
            one.target == "/m" && one.trailers.is_empty() && one.body == b"abc",
            "{one:?}"
        );
    }
    let before = api.requests().len();
    let mut line = line(&proxy).await;
    line.head(1, &with("trailer", "x, authorization"), false).await;
    line.data(1, b"abc", false).await;
    let trailers = fields(&[("x", "1"), ("authorization", "Bearer theirs"), ("content-length", "7")]);
    line.say(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers)).await;
    assert_eq!(line.outcome(1).await.status(), 200);
    assert_eq!((api.requests().len(), api.broken()), (before + 1, vec![]));
    let seen = api.requests().pop().unwrap();
    assert_eq!(seen.all("authorization"), [format!("Bearer {KEY}")]);
    assert!(seen.trailers.iter().all(|(name, _)| name == "x"), "{:?}", seen.trailers);
}

#[tokio::test]
async fn frames_out_of_order_end_the_connection() {
    let (api, _, proxy) = two(BEARER).await;
    let block = fields(&PLAIN);
    for (what, bytes) in [
        ("data before a head", frame(DATA, END_STREAM, 1, b"abc")),
        ("an even stream", frame(HEADERS, END_HEADERS | END_STREAM, 2, &block)),
        ("stream zero", frame(HEADERS, END_HEADERS | END_STREAM, 0, &block)),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block)),
        (
            "another frame inside a head",
            [
                frame(HEADERS, END_STREAM, 1, &block[..10]),
                frame(DATA, 0, 1, b"x"),
                frame(CONTINUATION, END_HEADERS, 1, &block[10..]),
            ]
            .concat(),
        ),
        (
            "a head continued on another stream",
            [
                frame(HEADERS, END_STREAM, 1, &block[..10]),
                frame(CONTINUATION, END_HEADERS, 3, &block[10..]),
            ]
            .concat(),
        ),
        (
            "a promise",
            frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2], &block[..]].concat()),
        ),
        (
            "an index that is not there",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x7f]),
        ),
        (
            "a field cut short",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block[..block.len() - 2]),
        ),
        ("a frame that is too large", frame(DATA, 0, 1, &[0; 20_000])),
        ("settings of odd length", frame(4, 0, 0, &[0; 5])),
        ("a window of zero", frame(8, 0, 0, &[0; 4])),
    ] {
        let mut line = line(&proxy).await;
        line.say(&bytes).await;
        assert!(line.farewell().await.is_some_and(|code| code != 0), "{what}");
    }
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn bytes_after_the_end_of_a_stream_are_no_second_request() {
    let (api, _, proxy) = two(BEARER).await;
    let mut line = line(&proxy).await;
    line.head(1, &PLAIN, true).await;
    line.data(1, b"GET /hidden HTTP/1.1\r\nHost: api.test\r\n\r\n", true)
        .await;
    line.head(1, &with(":path", "/again"), true).await;
    let outcome = line.outcome(1).await;
    assert!(matches!(
        outcome,
        Outcome::Answered(200, _) | Outcome::Reset(_) | Outcome::Gone
    ));
    assert!(api.requests().len() <= 1 && api.broken().is_empty());
    assert!(!String::from_utf8_lossy(&api.bytes()).contains("/again"));
}
