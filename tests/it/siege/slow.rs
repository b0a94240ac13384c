//! Whoever begins and does not go on, in every phase of a connection: its time ends, and nobody else waits for it.

use super::agent2::PREFACE;
use super::{FLAT, Siege, on_each};
use crate::hostile::frames::{CONTINUATION, DATA, END_HEADERS, Frames, HEADERS, SETTINGS, fields, frame};
use crate::rig::agent::{Agent, Raw, status};
use crate::rig::soon;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Short, and still enough for an honest agent on a busy machine.
const LIMITS: &str = "head_time: 1500ms, response_time: 1500ms, connect_time: 1500ms";
/// Connections in each phase.
const MANY: usize = 20;

/// A ClientHello as a client sends it.
pub fn hello(name: &str, alpn: &[Vec<u8>]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.to_vec();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Says this much, and waits for the proxy to end the connection.
async fn left_at<I: AsyncRead + AsyncWrite + Unpin>(mut raw: Raw<I>, said: &[u8]) {
    raw.say(said).await;
    raw.rest().await;
}

async fn tunnel(agent: &Agent) -> Raw<TcpStream> {
    let (status, head, raw) = agent.connect("api.test:443").await;
    assert_eq!(status, 200, "{head}");
    raw
}

async fn inside(agent: &Agent, alpn: &str) -> Raw<TlsStream<TcpStream>> {
    Raw::new(agent.tls("api.test", &[alpn]).await)
}

#[tokio::test]
async fn a_connection_that_stops_before_its_first_request_is_ended() {
    let siege = Siege::under(LIMITS).await;
    let hello = hello("api.test", &[]);
    let open = frame(HEADERS, 0, 1, &fields(&[(":method", "CONNECT")]));
    let settings = frame(SETTINGS, 0, 0, &[]);
    let said: &[&[u8]] = &[
        b"",
        b"C",
        b"CONNECT api.te",
        b"CONNECT api.test:443 HTTP/1.1\r\n",
        b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nX-Fill: aaaa",
        b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n",
        &PREFACE[..4],
        &PREFACE[..20],
        PREFACE,
        &[PREFACE, &settings[..5]].concat(),
        &[PREFACE, &settings].concat(),
        &[PREFACE, &settings, &open[..4]].concat(),
        &[PREFACE, &settings, &open[..12]].concat(),
        &[PREFACE, &settings, &open].concat(),
        &hello[..3],
        &[5],
        &[5, 1],
    ];
    siege
        .withstands(FLAT, async {
            let each = on_each(said.len() * 5, async |at| {
                left_at(siege.hostile.dial().await, said[at % said.len()]).await;
            });
            each.await;
        })
        .await;
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_or_half_a_hello_comes_is_ended() {
    let siege = Siege::under(LIMITS).await;
    let hello = hello("api.test", &[]);
    let said: &[&[u8]] = &[
        b"",
        &hello[..1],
        &hello[..4],
        &hello[..60],
        &hello[..hello.len() - 1],
        b"P",
        b"POST / HT",
        &PREFACE[..7],
        PREFACE,
    ];
    siege
        .withstands(FLAT, async {
            let each = on_each(said.len() * 5, async |at| {
                left_at(tunnel(&siege.hostile).await, said[at % said.len()]).await;
            });
            each.await;
        })
        .await;
    // And one whose hello goes on and on, byte by byte.
    let mut raw = tunnel(&siege.hostile).await;
    let dripped = async {
        for byte in hello {
            if raw.io.try_write(&[byte]).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the end of the drip", dripped).await;
    raw.rest().await;
}

#[tokio::test]
async fn a_session_in_which_no_request_is_finished_is_ended() {
    let siege = Siege::under(LIMITS).await;
    let request: &[(&str, &str)] = &[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "api.test"),
        (":path", "/"),
    ];
    let block = fields(request);
    let half = frame(HEADERS, 0, 1, &block[..10]);
    let more = frame(CONTINUATION, 0, 1, &block[10..12]);
    let settings = frame(SETTINGS, 0, 0, &[]);
    let greeted = |rest: &[u8]| [PREFACE, &settings, rest].concat();
    let said: Vec<(&str, Vec<u8>)> = vec![
        ("http/1.1", vec![]),
        ("http/1.1", b"GET".to_vec()),
        ("http/1.1", b"GET / HTTP/1.1\r\nHost: api.test\r\nX:".to_vec()),
        ("h2", vec![]),
        ("h2", PREFACE[..10].to_vec()),
        ("h2", PREFACE.to_vec()),
        ("h2", greeted(&[])),
        ("h2", greeted(&half[..5])),
        ("h2", greeted(&half[..12])),
        ("h2", greeted(&half)),
        ("h2", greeted(&[&half[..], &more].concat())),
    ];
    siege
        .withstands(FLAT, async {
            let each = on_each(said.len() * 3, |at| {
                let (siege, (alpn, said)) = (&siege, &said[at % said.len()]);
                async move { left_at(inside(&siege.hostile, alpn).await, said).await }
            });
            each.await;
        })
        .await;
    // A block that goes on in pieces has no more time than one that does not.
    let mut frames = Frames::greet(siege.hostile.tls("api.test", &["h2"]).await).await;
    frames.say(&half).await;
    let dripped = async {
        while frames.say(&frame(CONTINUATION, 0, 1, &[])).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon("the end of the block", dripped).await;
}

#[tokio::test]
async fn a_connection_that_idles_after_a_request_is_ended_and_over_http2_with_a_farewell() {
    let siege = Siege::under(LIMITS).await;
    siege
        .withstands(FLAT, async {
            let mut raw = inside(&siege.hostile, "http/1.1").await;
            raw.say("GET /hello HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
            assert_eq!(status(&raw.head().await), 200);
            raw.rest().await;
            let mut frames = Frames::greet(siege.hostile.tls("api.test", &["h2"]).await).await;
            frames
                .head(
                    1,
                    &[
                        (":method", "GET"),
                        (":scheme", "https"),
                        (":authority", "api.test"),
                        (":path", "/hello"),
                    ],
                    true,
                )
                .await;
            assert_eq!(frames.outcome(1).await.status(), 200);
            assert_eq!(frames.farewell().await, Some(0), "GOAWAY with no error");
        })
        .await;
}

/// A POST over HTTP/2.
pub const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "api.test"),
    (":path", "/upload"),
];

#[tokio::test]
async fn a_body_that_stops_is_told_so_and_ended() {
    let siege = Siege::under(LIMITS).await;
    siege
        .withstands(FLAT, async {
            let one = on_each(MANY, |at| {
                let siege = &siege;
                async move {
                    let mut raw = inside(&siege.hostile, "http/1.1").await;
                    let framing = ["Content-Length: 100", "Transfer-Encoding: chunked"][at % 2];
                    raw.say(format!(
                        "POST /upload HTTP/1.1\r\nHost: api.test\r\n{framing}\r\n\r\n5\r\nhello\r\n"
                    ))
                    .await;
                    let head = raw.head().await;
                    assert!(status(&head) == 408 && head.contains("request_timeout"), "{head}");
                    raw.rest().await;
                }
            });
            let two = on_each(MANY, |_| {
                let siege = &siege;
                async move {
                    let mut frames = Frames::greet(siege.hostile.tls("api.test", &["h2"]).await).await;
                    frames.head(1, POST, false).await;
                    frames.data(1, b"hello", false).await;
                    assert_eq!(frames.outcome(1).await.status(), 408);
                }
            });
            tokio::join!(one, two);
        })
        .await;
    assert!(siege.origin.seen().iter().all(|one| one.method == "GET" || !one.whole));
}

#[tokio::test]
async fn a_body_that_is_searched_and_stops_is_told_so_too() {
    let siege = Siege::with(LIMITS, async |rig, _| {
        rig.env("API_KEY", "sk-live-0a1b2c3d4e5f")
            .secret_spec("api_key", "{ env: API_KEY, placeholder: sk-test-000000000000 }")
            .reach_as("searched.test", "127.0.0.1:9".parse().unwrap())
            .rule("host: searched.test, inject: [{ placeholder: api_key, in: [\"body:/key\"] }]")
    })
    .await;
    let mut raw = siege.hostile.raw("searched.test").await;
    raw.say("POST / HTTP/1.1\r\nHost: searched.test\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        .await;
    let head = raw.head().await;
    assert!(status(&head) == 408 && head.contains("request_timeout"), "{head}");
}

#[tokio::test]
async fn a_body_at_a_drip_takes_its_time_and_no_more_than_its_agents_places() {
    let siege = Siege::under(&format!("{LIMITS}, agent_requests: 4")).await;
    siege
        .withstands(FLAT, async {
            let drip = |_| async {
                let mut frames = Frames::greet(siege.hostile.tls("api.test", &["h2"]).await).await;
                frames.head(1, POST, false).await;
                // Far longer than an answer may take: what is under way is not late.
                for _ in 0..30 {
                    frames.data(1, b"x", false).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                frames.data(1, b"", true).await;
                frames.outcome(1).await.status()
            };
            let mut statuses = on_each(6, drip).await;
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
        })
        .await;
}

#[tokio::test]
async fn a_proxy_that_is_tls_itself_waits_no_longer() {
    let siege = Siege::with(LIMITS, async |rig, _| {
        rig.listen("127.0.0.1:0, { bind: \"127.0.0.1:0\", speak: proxy, tls: true }")
    })
    .await;
    let log = siege.proxy.child.log();
    let line = log.lines().filter(|line| line.contains("(proxy")).nth(1).unwrap();
    let address = line.split("listening on ").nth(1).unwrap().split(' ').next().unwrap();
    let hello = hello("localhost", &[]);
    let dial = || async { Raw::new(TcpStream::connect(address).await.unwrap()) };
    siege
        .withstands(FLAT, async {
            let each = on_each(MANY, |at| {
                let (dial, hello) = (&dial, &hello);
                async move { left_at(dial().await, &hello[..(at * 30).min(hello.len() - 1)]).await }
            });
            each.await;
            for said in [&b""[..], b"CONN", &PREFACE[..9], PREFACE] {
                let tls = siege
                    .hostile
                    .handshake(dial().await.io, "localhost", &[])
                    .await
                    .unwrap();
                left_at(Raw::new(tls), said).await;
            }
        })
        .await;
}

/// Frames that come one byte at a time are read all the same.
#[tokio::test]
async fn a_request_in_single_bytes_is_a_request() {
    let siege = Siege::under("head_time: 20s").await;
    let mut raw = inside(&siege.hostile, "h2").await;
    let bytes = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]),
        &frame(HEADERS, END_HEADERS, 1, &fields(POST)),
        &frame(DATA, 1, 1, b"abc"),
    ]
    .concat();
    for byte in bytes {
        raw.say([byte]).await;
    }
    siege
        .origin
        .saw("the request", |one| one.target == "/upload" && one.whole)
        .await;
}
