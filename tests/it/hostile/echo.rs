//! A host that tells all it was given, in every place and spelling that an answer has: the agent learns nothing of it.

use super::frames::Frames;
use super::witness::{Request, Witness};
use super::{BEARER, KEY, kept, tells};
use crate::rig::agent::{get, status};
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::{Root, Validity};
use crate::rig::routes;
use crate::rig::script::Script;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::io::Write;
use std::sync::Arc;

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// Everything that a host may say that holds the credential.
fn spellings() -> Vec<String> {
    let mut all = vec![
        KEY.to_owned(),
        format!("x{KEY}x"),
        format!("{KEY}{KEY}"),
        hex(KEY),
        hex(KEY).to_uppercase(),
        percent(KEY),
        percent(KEY).to_lowercase(),
        URL_SAFE.encode(KEY),
        STANDARD.encode(format!("user:{KEY}")),
    ];
    all.extend(["", "a", "ab", "abc"].map(|before| STANDARD.encode(format!("{before}{KEY} and more"))));
    all
}

async fn saying(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static, rule: &str) -> (Witness, Proxy) {
    let root = Root::new();
    let api = Witness::saying(&root, "api.test", answer).await;
    let rig = Rig::new(&root).reach_as("api.test", api.address).secret("API_KEY", KEY);
    (api, rig.rule(rule).serve().await)
}

/// The whole answer to one request over HTTP/1.1, as it came.
async fn heard1(proxy: &Proxy, lines: &str) -> String {
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say(format!(
        "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{lines}\r\n"
    ))
    .await;
    String::from_utf8_lossy(&raw.rest().await.0).into_owned()
}

/// What a header says of the credential.
type Spoken = fn(&str) -> String;

#[tokio::test]
async fn no_line_of_an_answer_tells_the_credential() {
    let key = |request: &Request| request.all("authorization")[0].trim_start_matches("Bearer ").to_owned();
    let lines: [(&str, Spoken); 14] = [
        ("Location", |k| format!("https://evil.test/?token={k}#{k}")),
        ("Content-Location", |k| format!("/{k}")),
        ("Set-Cookie", |k| format!("session={k}; Path=/; HttpOnly")),
        ("WWW-Authenticate", |k| format!("Bearer error=\"bad token {k}\"")),
        ("Link", |k| format!("<https://api.test/?page=2&key={k}>; rel=next")),
        ("ETag", |k| format!("\"{k}\"")),
        ("Server", |k| format!("{k}/1.0")),
        ("Refresh", |k| format!("0; url=/{}", percent(k))),
        ("X-Request", |k| STANDARD.encode(format!("Authorization: Bearer {k}"))),
        ("X-Hex", hex),
        ("Content-Disposition", |k| {
            format!("attachment; filename*=UTF-8''{}", percent(k))
        }),
        ("Access-Control-Allow-Origin", |k| format!("https://{k}.test")),
        ("Warning", |k| format!("199 - \"{k}\"")),
        ("X-Many", |k| format!("{k}, {k}, {k}")),
    ];
    let (api, proxy) = saying(
        move |request| {
            let key = key(request);
            let fields: String = lines
                .iter()
                .map(|(name, value)| format!("{name}: {}\r\n", value(&key)))
                .collect();
            // In names too, and in the words beside the status.
            let names = format!("{key}: 1\r\nX-{key}: 1\r\nX-{}: 1\r\n", key.to_uppercase());
            format!("HTTP/1.1 302 {key}\r\n{fields}{names}Content-Length: 0\r\n\r\n").into_bytes()
        },
        BEARER,
    )
    .await;
    let one = heard1(&proxy, "").await;
    assert_eq!(status(&one), 302, "{one}");
    assert!(!tells(one.to_lowercase().as_bytes()), "{one}");
    let mut two = Frames::greet(proxy.agent.tls("api.test", &["h2"]).await).await;
    let list = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "api.test"),
        (":path", "/"),
    ];
    two.head(1, &list, true).await;
    assert_eq!(two.outcome(1).await.status(), 302);
    let heard = proxy.agent.get2("https://api.test/").await;
    let told = format!("{:?}", heard.headers);
    assert!(heard.headers.len() >= 14 && !tells(told.as_bytes()), "{told}");
    // The redirect is the agent's to follow: nobody was asked but the one host, three times.
    assert_eq!(api.requests().len(), 3);
    let records = proxy.records(3).await;
    assert!(
        records
            .iter()
            .all(|one| one["scrubbed"].as_u64().is_some_and(|hits| hits >= 14))
    );
    kept(&proxy, &[one.as_bytes()]);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_no_credential_goes_where_it_leads() {
    let root = Root::new();
    let other = Witness::start(&root, "other.test").await;
    for (at, location) in [
        "https://other.test/",
        "http://api.test/",
        "https://api.test:8443/",
        "//other.test/",
        "/again",
    ]
    .iter()
    .enumerate()
    {
        let said = format!("HTTP/1.1 307 Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let api = Witness::saying(&root, "api.test", move |_| said.clone().into_bytes()).await;
        let rig = Rig::new(&root)
            .reach_as("api.test", api.address)
            .reach_as("other.test", other.address)
            .secret("API_KEY", KEY);
        let proxy = rig.rule(BEARER).rule("host: other.test").serve().await;
        let answer = heard1(&proxy, "").await;
        assert!(status(&answer) == 307 && answer.contains(location), "{answer}");
        assert_eq!((api.requests().len(), other.connections()), (1, usize::from(at > 0)));
        // What the agent then asks for itself goes without, and in the clear not at all.
        if at == 0 {
            proxy.agent.get("https://other.test/").await;
            assert!(other.requests()[0].all("authorization").is_empty());
        }
        let mut raw = proxy.agent.dial().await;
        raw.say("GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        let refused = raw.head().await;
        assert!(
            status(&refused) == 403 && refused.contains("plaintext_refused"),
            "{refused}"
        );
        kept(&proxy, &[&other.bytes()]);
    }
}

#[tokio::test]
async fn no_body_tells_the_credential_however_it_is_cut() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let whole: String = spellings().iter().map(|one| format!("<{one}>\n")).collect();
        let service = move |_, _| -> Answer {
            let whole = whole.clone();
            Box::pin(async move {
                // One byte at a time; and each of them once more in trailers.
                let bytes = whole.into_bytes().into_iter();
                let pieces = bytes.map(|b| Ok(Frame::data(Bytes::from(vec![b]))));
                let mut trailers = HeaderMap::new();
                for (at, one) in spellings().iter().enumerate() {
                    let name = HeaderName::try_from(format!("x-{at}")).unwrap();
                    trailers.insert(name, HeaderValue::try_from(one).unwrap());
                }
                trailers.insert(
                    HeaderName::try_from(format!("x-{KEY}")).unwrap(),
                    HeaderValue::from_static("1"),
                );
                let frames: Vec<_> = pieces.chain([Ok(Frame::trailers(trailers))]).collect();
                let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
                let names = (0..20).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(", ");
                let response = routes::with(Response::new(body), "trailer", &format!("{names}, x-{KEY}"));
                routes::with(response, "content-type", "text/event-stream")
            })
        };
        let root = Root::new();
        let origin = Origin::with(&root, "api.test", speaks, Arc::new(service)).await;
        let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY);
        let proxy = rig.rule(BEARER).serve().await;
        for http2 in [false, true] {
            let mut ask = get("https://api.test/");
            ask.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            let reply = crate::fidelity::by(&proxy.agent, http2).await.reply(ask).await;
            let all = format!("{:?} {} {:?}", reply.headers, reply.text(), reply.trailers);
            assert!(
                reply.text().lines().count() == spellings().len() && !tells(all.as_bytes()),
                "{all}"
            );
            assert!(reply.trailers.is_some_and(|t| t.len() == spellings().len()), "{all}");
        }
        kept(&proxy, &[]);
    }
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        "deflate" => {
            let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(text, 19).unwrap(),
        "br" => brotli(text),
        _ => text.to_vec(),
    }
}

/// A window of 16 bits, one meta-block that is not compressed, and an empty last one (RFC 7932 §9.1, §9.2).
pub fn brotli(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len() - 1).unwrap();
    let bits = length << 4 | 1 << 20;
    [&bits.to_le_bytes()[..3], text, &[3]].concat()
}

const CODINGS: [&str; 8] = ["gzip", "deflate", "zstd", "br", "gzip, gzip", "compress", "unknown", ""];

#[tokio::test]
async fn no_coding_hides_the_credential() {
    let text: String = spellings().iter().map(|one| format!("<{one}>")).collect();
    let answer = move |request: &Request| {
        let coding = CODINGS[request.target[1..].parse::<usize>().unwrap()];
        let body = coded(coding, text.as_bytes());
        let named = format!("Content-Encoding: {coding}\r\nContent-Length: {}\r\n", body.len());
        [format!("HTTP/1.1 200 OK\r\n{named}\r\n").as_bytes(), &body].concat()
    };
    let (_, proxy) = saying(answer, BEARER).await;
    for (at, coding) in CODINGS.iter().enumerate() {
        for asked in [
            "Accept-Encoding: gzip, deflate, br, zstd, *\r\n",
            "Accept-Encoding: identity\r\n",
            "",
        ] {
            let mut raw = proxy.agent.raw("api.test").await;
            raw.say(format!(
                "GET /{at} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{asked}\r\n"
            ))
            .await;
            let (heard, _) = raw.rest().await;
            let head = heard
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .map_or(0, |at| at + 4);
            let told = String::from_utf8_lossy(&heard);
            assert!(!tells(&heard), "{coding} to {asked:?}: {told}");
            // Nor once the agent has decoded what came through.
            let mut plain = zstd::decode_all(&heard[head..]).unwrap_or_default();
            let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&heard[head..]), &mut plain);
            let _ = std::io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&heard[head..]), &mut plain);
            assert!(!tells(&plain), "{coding} to {asked:?}");
            if asked.contains("gzip") && ["gzip", "deflate", "zstd", "br", ""].contains(coding) {
                assert!(
                    status(&told) == 200 && told[head..].matches('<').count() == spellings().len(),
                    "{coding}: {told}"
                );
            }
        }
    }
    kept(&proxy, &[]);
}

#[tokio::test]
async fn what_was_given_once_is_looked_for_in_every_later_answer_of_that_host() {
    // The host keeps what it was given, and tells it to requests that carry nothing.
    let memory = Arc::new(std::sync::Mutex::new(String::new()));
    let held = "sk-test-00112233445566778899aabb";
    let root = Root::new();
    let kept_there = memory.clone();
    let api = Witness::saying(&root, "api.test", move |request| {
        let mut memory = kept_there.lock().unwrap();
        if let Some(given) = request.all("authorization").first() {
            *memory = (*given).to_owned();
        }
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{memory}", memory.len()).into_bytes()
    })
    .await;
    let proxy = Rig::new(&root)
        .reach_as("api.test", api.address)
        .env("API_KEY", KEY)
        .secret_spec("api_key", &format!("{{ env: API_KEY, placeholder: {held} }}"))
        .rule("host: api.test, allow: [\"GET /open\"]")
        .rule("host: api.test, inject: [{ placeholder: api_key, in: [\"header:authorization\"] }]")
        .serve()
        .await;
    let ask =
        |line: &str, field: &str| format!("{line} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{field}\r\n");
    let mut heard = Vec::new();
    for asked in [
        ask("GET /", &format!("Authorization: Bearer {held}\r\n")),
        ask("GET /", ""),
        ask("GET /open", ""),
        ask("POST /", "Content-Length: 0\r\n"),
    ] {
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say(asked).await;
        let (told, _) = raw.rest().await;
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(
            status(&told) == 200 && told.ends_with(&format!("Bearer {held}")),
            "{told}"
        );
        heard.extend_from_slice(told.as_bytes());
    }
    assert!(memory.lock().unwrap().contains(KEY));
    kept(&proxy, &[&heard]);
}

const NO_ANSWERS: &[&str] = &[
    "{key}\r\n\r\n",
    "HTTP/1.1 {key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\n{key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\n{key} x: y\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: {key}\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{key}\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;{key}\r\nabc\r\n0\r\nx: {key}\r\n\r\n",
    "HTTP/1.1 103 {key}\r\nLink: {key}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 101 {key}\r\nUpgrade: {key}\r\nConnection: upgrade\r\n\r\n{key}",
    "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{key}",
    "HTTP/1.1 200 OK\r\n\r\n{key}",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc{key}",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX: {key}\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nX: {key}\r\n\r\n{key}",
    "HTTP/1.1 304 Not Modified\r\nETag: \"{key}\"\r\n\r\n",
    "HTTP/1.1 999 {key}\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.0 200 {key}\r\n\r\n{key}",
];

#[tokio::test]
async fn no_answer_that_is_none_tells_the_credential_to_agent_or_log() {
    let root = Root::new();
    let api = Script::start(&root, "api.test", move |mut line| async move {
        while let Some(head) = line.head().await {
            let at: usize = head.split(' ').nth(1).unwrap()[1..].parse().unwrap();
            line.say(NO_ANSWERS[at].replace("{key}", KEY)).await;
            if !NO_ANSWERS[at].contains("Content-Length: 2\r") {
                return line.bye().await;
            }
        }
    })
    .await;
    let rig = Rig::new(&root).reach_script(&api).secret("API_KEY", KEY);
    let proxy = rig.rule(BEARER).serve().await;
    for (at, said) in NO_ANSWERS.iter().enumerate() {
        for _ in 0..2 {
            let mut raw = proxy.agent.raw("api.test").await;
            raw.say(format!(
                "GET /{at} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"
            ))
            .await;
            let (told, _) = raw.rest().await;
            assert!(!tells(&told), "{said:?}: {}", String::from_utf8_lossy(&told));
        }
    }
    proxy.records(2 * NO_ANSWERS.len()).await;
    kept(&proxy, &[]);
}

#[tokio::test]
async fn no_certificate_writes_the_credential_into_the_log() {
    // Given the credential once, the host comes back with a certificate for a name made of it.
    let root = Root::new();
    let honest = Witness::start(&root, "api.test").await;
    let tls = root.server(&[&format!("{KEY}.test")], Validity::Now, &["http/1.1"]);
    let telling = Script::tls(tls, "api.test", |_| async {}).await;
    let rig = Rig::new(&root)
        .reach_as("api.test", honest.address)
        .secret("API_KEY", KEY);
    let proxy = rig.rule(BEARER).serve().await;
    assert_eq!(status(&heard1(&proxy, "").await), 200);
    drop(proxy);
    let rig = Rig::new(&root)
        .reach_as("api.test", telling.address)
        .secret("API_KEY", KEY);
    let proxy = rig.rule(BEARER).serve().await;
    let told = heard1(&proxy, "").await;
    assert!(status(&told) == 502 && told.contains("upstream_certificate"), "{told}");
    let reason = proxy.record().await["reason"].to_string();
    assert!(
        reason.contains("only valid for"),
        "the operator still learns what was presented: {reason}"
    );
    kept(&proxy, &[told.as_bytes()]);
}

#[tokio::test]
async fn a_websocket_tells_nothing_however_its_frames_are_cut() {
    let frame = |head: u8, payload: &[u8]| {
        let length = payload.len();
        let head = if length < 126 {
            vec![head, u8::try_from(length).unwrap()]
        } else {
            let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
            vec![head, 126, high, low]
        };
        [&head[..], payload].concat()
    };
    let text: String = spellings().iter().map(|one| format!("<{one}>")).collect();
    let mut said = frame(0x81, text.as_bytes());
    said.extend(frame(0x82, text.as_bytes()));
    // One byte in each fragment, with a ping in the middle that tells it too.
    let (first, rest) = KEY.as_bytes().split_first().unwrap();
    said.extend(frame(0x01, &[*first]));
    said.extend(frame(0x89, KEY.as_bytes()));
    rest.iter().for_each(|byte| said.extend(frame(0x00, &[*byte])));
    said.extend(frame(0x80, b""));
    said.extend(frame(0x88, &[&[3, 232], KEY.as_bytes()].concat()));
    for piece in [1, 7, 100_000] {
        let root = Root::new();
        let script = said.clone();
        let api = Script::start(&root, "api.test", move |mut line| {
            let said = script.clone();
            async move {
                let head = line.head().await.unwrap();
                let key = head.lines().find_map(|one| {
                    one.to_lowercase()
                        .starts_with("sec-websocket-key")
                        .then(|| one.to_owned())
                });
                let accept = routes::accept(key.unwrap().split(' ').nth(1).unwrap().as_bytes());
                line.say(format!(
                    "HTTP/1.1 101 {KEY}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Told: {KEY}\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                ))
                .await;
                for cut in said.chunks(piece) {
                    line.say(cut).await;
                }
                line.bye().await;
            }
        })
        .await;
        let rig = Rig::new(&root).reach_script(&api).secret("API_KEY", KEY);
        let proxy = rig.rule(BEARER).serve().await;
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say(
            "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
        let head = raw.head().await;
        assert!(status(&head) == 101 && !tells(head.as_bytes()), "{head}");
        let heard = raw.bytes(said.len()).await;
        assert_eq!(heard.len(), said.len(), "lengths stay");
        // Without the two bytes of each fragment's head, for that is how an agent reads it.
        let unframed: Vec<u8> = heard.iter().copied().filter(|b| !matches!(b, 0 | 1)).collect();
        assert!(
            !tells(&heard) && !tells(&unframed),
            "{}",
            String::from_utf8_lossy(&heard)
        );
        raw.rest().await;
        drop(raw);
        proxy.records(1).await;
        kept(&proxy, &[]);
    }
}

#[tokio::test]
async fn a_grpc_message_tells_nothing_and_keeps_its_length() {
    let message = |text: &str| {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[0], &length[..], text.as_bytes()].concat()
    };
    let sent: Vec<u8> = spellings().iter().flat_map(|one| message(one)).collect();
    let body = sent.clone();
    let service = move |_, _| -> Answer {
        let body = body.clone();
        Box::pin(async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("grpc-message", HeaderValue::try_from(percent(KEY)).unwrap());
            let pieces = body.chunks(3).map(|cut| Ok(Frame::data(Bytes::copy_from_slice(cut))));
            let frames: Vec<_> = pieces.chain([Ok(Frame::trailers(trailers))]).collect();
            let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
            routes::with(Response::new(body), "content-type", "application/grpc")
        })
    };
    let root = Root::new();
    let origin = Origin::with(&root, "api.test", Speaks::Http2, Arc::new(service)).await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY);
    let proxy = rig.rule(BEARER).serve().await;
    let reply = proxy.agent.get2("https://api.test/").await;
    assert_eq!(reply.body.len(), sent.len());
    let told = format!("{} {:?}", reply.text(), reply.trailers);
    assert!(!tells(told.as_bytes()) && told.contains("grpc-status"), "{told}");
    kept(&proxy, &[]);
}
