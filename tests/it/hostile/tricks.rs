//! Places and lies in which a host might hide what it was given: none of them gets it to the agent.

use super::witness::{Request, Witness};
use super::{BEARER, KEY, kept, tells};
use crate::rig::agent::{Raw, status};
use crate::rig::eventually;
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::routes;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::io::Write;
use std::sync::Arc;
use tokio::net::TcpStream;

async fn saying(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static, rule: &str) -> Proxy {
    let root = Root::new();
    let api = Witness::saying(&root, "api.test", answer).await;
    let rig = Rig::new(&root).reach_as("api.test", api.address).secret("API_KEY", KEY);
    rig.rule(rule).serve().await
}

/// All that one request is answered with, as it came.
async fn heard(proxy: &Proxy, path: &str, lines: &str) -> Vec<u8> {
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say(format!(
        "GET {path} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{lines}\r\n"
    ))
    .await;
    raw.rest().await.0
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(text).unwrap();
    coder.finish().unwrap()
}

/// What an agent finds that tries to unpack whatever it got.
fn unpacked(heard: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for at in memchr::memmem::find_iter(heard, b"\x1f\x8b\x08") {
        let _ = std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&heard[at..]), &mut all);
    }
    all
}

fn answer(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{:x}\r\n", body.len());
    [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
}

#[tokio::test]
async fn a_transfer_coding_that_nobody_asked_for_hides_nothing() {
    let packed = gzip(KEY.as_bytes());
    let fields = [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nConnection: close\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity\r\nConnection: close\r\n",
    ];
    let proxy = saying(
        move |request| {
            let fields = fields[request.target[1..].parse::<usize>().unwrap()];
            if fields.contains("chunked") {
                chunked(fields, &packed)
            } else {
                [format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), &packed].concat()
            }
        },
        BEARER,
    )
    .await;
    for (at, field) in fields.iter().enumerate() {
        let told = heard(&proxy, &format!("/{at}"), "Accept-Encoding: gzip\r\n").await;
        let text = String::from_utf8_lossy(&told);
        assert!(
            status(&text) == 502 && text.contains("upstream_protocol"),
            "{field}: {text}"
        );
        assert!(!tells(&told) && unpacked(&told).is_empty());
    }
    kept(&proxy, &[]);
}

#[tokio::test]
async fn a_lie_about_the_coding_hides_nothing() {
    let text = format!("you sent {KEY}, did you not");
    let bodies = [
        ("gzip", text.clone().into_bytes()),
        ("deflate", text.clone().into_bytes()),
        ("br", text.clone().into_bytes()),
        ("zstd", text.clone().into_bytes()),
        ("zstd", gzip(text.as_bytes())),
        ("br", gzip(text.as_bytes())),
        // True up to a point.
        ("gzip", [gzip(b"nothing here"), text.clone().into_bytes()].concat()),
        ("gzip", [gzip(b"nothing here"), gzip(text.as_bytes())].concat()),
        ("identity", text.clone().into_bytes()),
        ("gzip, identity", gzip(text.as_bytes())),
        ("identity, gzip", gzip(text.as_bytes())),
        ("x-gzip", gzip(text.as_bytes())),
        ("GZIP", gzip(text.as_bytes())),
    ];
    let sent = bodies.clone();
    let proxy = saying(
        move |request| {
            let (coding, body) = &sent[request.target[1..].parse::<usize>().unwrap()];
            answer(&format!("Content-Encoding: {coding}\r\n"), body)
        },
        BEARER,
    )
    .await;
    for (at, (coding, _)) in bodies.iter().enumerate() {
        for asked in ["Accept-Encoding: gzip, deflate, br, zstd\r\n", ""] {
            let told = heard(&proxy, &format!("/{at}"), asked).await;
            assert!(
                !tells(&told) && !tells(&unpacked(&told)),
                "{coding}, number {at}: {}",
                String::from_utf8_lossy(&told)
            );
        }
    }
    kept(&proxy, &[]);
}

#[tokio::test]
async fn parts_of_a_reply_are_searched_as_a_whole_is() {
    let ranges = format!(
        "--edge-{KEY}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-9/99\r\n\r\n{KEY}\r\n--edge-{KEY}\r\n\
         Content-Range: bytes 20-29/99\r\nX: {KEY}\r\n\r\n{}\r\n--edge-{KEY}--\r\n",
        STANDARD.encode(KEY)
    );
    let form = format!("--x\r\nContent-Disposition: form-data; name=\"{KEY}\"\r\n\r\n{KEY}\r\n--x--\r\n");
    let proxy = saying(
        move |request| match request.target.as_str() {
            "/ranges" => {
                let kind = format!("Content-Type: multipart/byteranges; boundary=edge-{KEY}\r\n");
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\n{kind}Content-Length: {}\r\n\r\n",
                    ranges.len()
                );
                [head.as_bytes(), ranges.as_bytes()].concat()
            }
            "/form" => answer("Content-Type: multipart/form-data; boundary=x\r\n", form.as_bytes()),
            _ => answer(&format!("X-Folded: a\r\n {KEY}\r\n"), b""),
        },
        BEARER,
    )
    .await;
    for (path, good) in [("/ranges", 206), ("/form", 200), ("/folded", 502)] {
        let told = heard(&proxy, path, "Range: bytes=0-9, 20-29\r\n").await;
        let text = String::from_utf8_lossy(&told);
        assert!(status(&text) == good && !tells(&told), "{text}");
        assert!(good != 206 || text.matches("Content-Range").count() == 2, "{text}");
    }
    kept(&proxy, &[]);
}

#[tokio::test]
async fn no_interim_answer_tells_the_credential() {
    let root = Root::new();
    let api = crate::rig::script::Script::start(&root, "api.test", |mut line| async move {
        line.head().await.unwrap();
        for code in [102, 103, 100, 110] {
            line.say(format!("HTTP/1.1 {code} {KEY}\r\nX-Told: {KEY}\r\n\r\n"))
                .await;
        }
        line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        line.bye().await;
    })
    .await;
    let rig = Rig::new(&root).reach_script(&api).secret("API_KEY", KEY);
    let proxy = rig.rule(BEARER).serve().await;
    let mut raw: Raw<_> = proxy.agent.raw("api.test").await;
    raw.say(
        "POST / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await;
    let told = raw.rest().await.0;
    assert!(
        String::from_utf8_lossy(&told).ends_with("\r\n\r\nok") && !tells(&told),
        "{}",
        String::from_utf8_lossy(&told)
    );
    kept(&proxy, &[]);
}

#[tokio::test]
async fn a_compressed_message_of_a_stream_of_messages_does_not_pass() {
    let message = |flag: u8, bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[flag], &length[..], bytes].concat()
    };
    let body = [message(0, b"clear"), message(1, &gzip(KEY.as_bytes()))].concat();
    for kind in [
        "application/grpc",
        "application/grpc-web+proto",
        "application/connect+proto",
    ] {
        let body = body.clone();
        let service = move |request: http::Request<crate::rig::origin::AnyBody>, _| -> Answer {
            let offered = ["grpc-accept-encoding", "connect-accept-encoding"];
            let none = offered.iter().all(|name| !request.headers().contains_key(*name));
            let body = Bytes::from(body.clone());
            Box::pin(async move {
                assert!(none, "compression was offered");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
                let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
                let response = routes::with(Response::new(body), "content-type", kind);
                routes::with(response, "grpc-encoding", "gzip")
            })
        };
        let root = Root::new();
        let origin = Origin::with(&root, "api.test", Speaks::Http2, Arc::new(service)).await;
        let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY);
        let proxy = rig.rule(BEARER).serve().await;
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say(
            "POST / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\nContent-Length: 0\r\n\
             grpc-accept-encoding: gzip\r\nconnect-accept-encoding: gzip\r\n\r\n",
        )
        .await;
        let told = raw.rest().await.0;
        assert!(!tells(&told) && !tells(&unpacked(&told)), "{kind}");
        let record = proxy.record().await;
        assert_eq!(record["code"], "response_not_scrubbable", "{record:#}");
        kept(&proxy, &[]);
    }
}

/// A credential in which every encoder finds something to escape.
const AWKWARD: &str = "p/a+s=s&w~rd:9f8e7d6c%5b'4a39";

const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The credential as other people's encoders write it, whole and inside of more: what is said, and what would tell.
fn spelled() -> Vec<(Vec<u8>, Vec<u8>)> {
    let percent = |text: &str| utf8_percent_encode(text, COMPONENT).to_string();
    let form = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let wide = |order: fn(u16) -> [u8; 2]| AWKWARD.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let json = serde_json::to_string(AWKWARD).unwrap();
    let mut all: Vec<Vec<u8>> = [
        AWKWARD.to_owned(),
        percent(AWKWARD),
        percent(&percent(AWKWARD)),
        form(AWKWARD),
        form(&form(AWKWARD)),
        json.replace('/', "\\/").trim_matches('"').to_owned(),
        AWKWARD.replace('&', "&amp;").replace('\'', "&#39;"),
        AWKWARD.bytes().map(|b| format!("{b:02x}")).collect(),
    ]
    .map(String::into_bytes)
    .into();
    all.extend([wide(u16::to_le_bytes), wide(u16::to_be_bytes)]);
    let mut both: Vec<_> = all.into_iter().map(|one| (one.clone(), one)).collect();
    for user in ["", "u", "us"] {
        let pair = format!("{user}:{AWKWARD}");
        for coded in [STANDARD.encode(&pair), URL_SAFE_NO_PAD.encode(&pair)] {
            // Without what the neighbours decide as well.
            let inner = coded.as_bytes()[4..coded.len() - 4].to_vec();
            both.push((coded.into_bytes(), inner));
        }
    }
    both
}

#[tokio::test]
async fn whichever_way_it_was_given_a_mirror_shows_nothing_of_it() {
    let rules = [
        "inject: [{ bearer: api_key }]",
        "inject: [{ basic: { user: me, password: api_key } }]",
        "inject: [{ header: x-api-key, value: \"v1 ${api_key}\" }]",
        "inject: [{ query: key, value: \"${api_key}\" }]",
        "inject: [{ placeholder: api_key, in: [\"header:x-api-key\", \"query:key\", path, \"body:/key\"] }]",
    ];
    for rule in rules {
        let root = Root::new();
        let spelled = spelled();
        let mirror = Witness::saying(&root, "api.test", move |request| {
            let fields: String = request.fields.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
            let mut body = format!("{} {}\n{fields}\n", request.method, request.target).into_bytes();
            body.extend_from_slice(&request.body);
            for (said, _) in &spelled {
                body.extend([b"<", &said[..], b">"].concat());
            }
            let told = utf8_percent_encode(&request.target, COMPONENT).to_string();
            let head = format!(
                "HTTP/1.1 401 no\r\nLocation: /login?next={told}\r\nSet-Cookie: last={told}\r\nX-Url: {}\r\n",
                request.target
            );
            [
                format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
                &body,
            ]
            .concat()
        })
        .await;
        let held = "stand-in-0000000000000000";
        let rig = Rig::new(&root)
            .reach_as("api.test", mirror.address)
            .env("API_KEY", AWKWARD);
        let proxy = rig
            .secret_spec("api_key", &format!("{{ env: API_KEY, placeholder: {held} }}"))
            .rule(&format!("host: api.test, {rule}"))
            .serve()
            .await;
        let swapped = rule.contains("placeholder");
        let (path, body) = if swapped {
            (format!("/in/{held}/path?key={held}"), format!("{{\"key\":\"{held}\"}}"))
        } else {
            ("/in/path?a=b".to_owned(), "{}".to_owned())
        };
        let own = if swapped {
            format!("X-Api-Key: {held}\r\n")
        } else {
            String::new()
        };
        let mut raw: Raw<_> = proxy.agent.raw("api.test").await;
        raw.say(format!(
            "POST {path} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{own}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        let told = raw.rest().await.0;
        assert_eq!(status(&String::from_utf8_lossy(&told)), 401, "{rule}");
        assert!(mirror.bytes().windows(4).any(|w| w == b"POST"));
        for (_, one) in self::spelled() {
            let shows = memchr::memmem::find(&told, &one).is_some();
            assert!(
                !shows,
                "{rule} shows {}: {}",
                String::from_utf8_lossy(&one),
                String::from_utf8_lossy(&told)
            );
        }
        let record = proxy.record().await;
        assert!(record["scrubbed"].as_u64().unwrap() >= 10, "{record:#}");
    }
}

#[tokio::test]
async fn what_was_removed_is_counted_for_the_operator() {
    let root = Root::new();
    let said = answer(&format!("X-Told: {KEY}\r\n"), format!("{KEY} and {KEY}").as_bytes());
    let api = Witness::saying(&root, "api.test", move |_| said.clone()).await;
    let rig = Rig::new(&root).reach_as("api.test", api.address).secret("API_KEY", KEY);
    let rule = "name: api, host: api.test, inject: [{ bearer: api_key }]";
    let proxy = rig.rule(rule).config("admin: { bind: 127.0.0.1:0 }").serve().await;
    let told = heard(&proxy, "/", "").await;
    assert!(!tells(&told));
    assert_eq!(proxy.record().await["scrubbed"], 3);
    let line = || {
        proxy
            .child
            .log()
            .lines()
            .find(|line| line.contains("(admin)"))
            .map(ToOwned::to_owned)
    };
    let line = eventually("the admin address", line).await;
    let admin = line
        .split("listening on ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let mut raw = Raw::new(TcpStream::connect(&admin).await.unwrap());
    raw.say(format!(
        "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    ))
    .await;
    let metrics = String::from_utf8_lossy(&raw.rest().await.0).into_owned();
    assert!(metrics.contains("keyferry_scrubbed_total{rule=\"api\"} 3"), "{metrics}");
}

#[tokio::test]
async fn a_credential_too_short_to_be_searched_for_is_told_of_at_the_start() {
    let root = Root::new();
    let rig = Rig::new(&root).secret("SHORT_KEY", "1234567").secret("LONG_KEY", KEY);
    let rule = "host: api.test, inject: [{ bearer: short_key }, { header: x-key, value: \"${long_key}\" }]";
    let proxy = rig.rule(rule).serve().await;
    let log = proxy.child.log();
    let told = log.lines().filter(|line| line.contains("too short to be looked for"));
    let told: Vec<_> = told.collect();
    assert!(told.len() == 1 && told[0].contains("short_key"), "{log}");
}
