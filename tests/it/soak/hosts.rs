//! The upstreams of the soak: an honest one that checks what it is shown, one that echoes, and three that break.

use super::spelled::{CORE, version};
use crate::rig::origin::{Answer, AnyBody, Origin};
use crate::rig::root::Root;
use crate::rig::routes::{self, PIECE};
use crate::rig::script::Script;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the honest host saw that it should not have.
#[derive(Default)]
pub struct Shown {
    /// Requests without their credential, or with somebody else's.
    pub bare: AtomicU64,
    /// Requests with a value that was replaced a while ago.
    pub stale: AtomicU64,
    /// The version that is out.
    pub version: AtomicU64,
}

impl Shown {
    /// Looks at the credential of a request. One that is being replaced may be one version behind, or two when this
    /// machine is slow.
    fn look(&self, name: &str, sent: Option<&str>) {
        match sent.and_then(|sent| version(name, sent)) {
            None => drop(self.bare.fetch_add(1, Ordering::Relaxed)),
            Some(version) if version + 2 < self.version.load(Ordering::Relaxed) => {
                self.stale.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {}
        }
    }

    fn check(&self, host: &str, request: &Request<AnyBody>) {
        let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match host {
            "vendor.test" => self.look("vk-soak", text("x-vendor")),
            "login.test" => {
                // Its version is that of its program, which counts by itself.
                let basic = routes::basic(request.headers());
                let well = basic.is_some_and(|(user, word)| user == "soak" && word.contains(CORE));
                self.bare.fetch_add(u64::from(!well), Ordering::Relaxed);
            }
            "plain.test" => drop(self.bare.fetch_add(u64::from(bearer.is_some()), Ordering::Relaxed)),
            _ => self.look("sk-soak", bearer),
        }
    }
}

/// Every upstream, by name and address.
pub async fn start(root: &Root, shown: &Arc<Shown>) -> Vec<(&'static str, SocketAddr)> {
    let honest = [
        "api.test",
        "vendor.test",
        "login.test",
        "echo.test",
        "limited.test",
        "pinned.test",
    ];
    let secure = Origin::lasting(root, &honest, service(shown)).await;
    let plain = Origin::lasting_plain(service(shown)).await;
    let cut = Script::start(root, "cut.test", |mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nnot all of it")
            .await;
        // Or the reset may overtake the answer.
        tokio::time::sleep(Duration::from_millis(20)).await;
        line.reset();
    })
    .await;
    let stalled = Script::start(root, "stalled.test", |mut line| async move {
        line.head().await;
        line.gone().await;
    })
    .await;
    let garbage = Script::start(root, "garbage.test", |mut line| async move {
        line.head().await;
        line.say(b"\x00\x01\x02 this is no HTTP \xff\xfe\r\n\r\n\r\n").await;
        line.bye().await;
    })
    .await;
    let mut all: Vec<_> = honest.map(|name| (name, secure.address)).into();
    all.push(("plain.test", plain.address));
    for (name, script) in [("cut.test", cut), ("stalled.test", stalled), ("garbage.test", garbage)] {
        all.push((name, script.address));
    }
    all
}

fn service(shown: &Arc<Shown>) -> crate::rig::origin::Service {
    let shown = shown.clone();
    Arc::new(move |request, origin| -> Answer {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
        let host = host.or(request.uri().host()).unwrap_or_default().to_owned();
        if host != "pinned.test" {
            shown.check(&host, &request);
        }
        Box::pin(answer(request, origin))
    })
}

async fn answer(request: Request<AnyBody>, origin: Origin) -> Response<AnyBody> {
    let kind = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    match kind.as_str() {
        "events" => timed(8, |at| format!("data: {at}\n\n")),
        "grpc" => grpc(request),
        "upload" => routes::upload(request).await,
        "download" => routes::download(1_000_000, true),
        "abandoned" => routes::download(usize::MAX, false),
        "websocket" => routes::websocket(request, origin, |message| message),
        "echo" | "hidden" => echo(&request),
        _ => {
            let _ = request.into_body().collect().await;
            routes::text("well done")
        }
    }
}

/// A stream of events with a moment between them.
fn timed(count: u32, event: fn(u32) -> String) -> Response<AnyBody> {
    let events = futures_util::stream::unfold(0, move |at| async move {
        if at == count {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(Frame::data(Bytes::from(event(at)))), at + 1))
    });
    let body = StreamBody::new(events).boxed_unsync();
    routes::with(Response::new(body), "content-type", "text/event-stream")
}

/// Sends each message back as it comes, and a status behind the last.
fn grpc(request: Request<AnyBody>) -> Response<AnyBody> {
    let messages = futures_util::stream::unfold(Some(request.into_body()), |body| async move {
        let mut body = body?;
        match body.frame().await {
            Some(Ok(frame)) => Some((Ok(frame), Some(body))),
            Some(Err(error)) => Some((Err(error), None)),
            None => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some((Ok(Frame::trailers(trailers)), None))
            }
        }
    });
    let body = StreamBody::new(messages).boxed_unsync();
    routes::with(Response::new(body), "content-type", "application/grpc")
}

/// What an echo may make of a value.
pub fn spelled(value: &str) -> Vec<String> {
    let each = |spell: fn(u8) -> String| value.bytes().map(spell).collect::<String>();
    let mut all = vec![
        value.to_owned(),
        each(|b| format!("{b:02x}")),
        each(|b| format!("{b:02X}")),
        each(|b| format!("%{b:02X}")),
        each(|b| format!("\\u{b:04x}")),
        each(|b| format!("&#{b};")),
    ];
    for before in ["", "a", "ab", "user:"] {
        all.push(STANDARD.encode(format!("{before}{value} and more")));
        all.push(URL_SAFE.encode(format!("{before}{value} and more")));
    }
    all
}

/// Tells what it was given: in headers, in the body in each spelling, in the coding that the query names.
fn echo(request: &Request<AnyBody>) -> Response<AnyBody> {
    let told = request.headers().get("authorization").cloned();
    let told = told.unwrap_or(HeaderValue::from_static("nothing"));
    let value = told.to_str().unwrap_or_default().trim_start_matches("Bearer ");
    let text = spelled(value).join("\n");
    let coding = routes::query(request, "coding").unwrap_or_default();
    let body = coded(&coding, text.as_bytes());
    let mut response = routes::with(routes::bytes(body, "text/plain"), "x-told", value);
    response.headers_mut().insert("x-all", told.clone());
    let cookie = format!("session={}", STANDARD.encode(value));
    let mut response = routes::with(response, "set-cookie", &cookie);
    if !coding.is_empty() {
        response = routes::with(response, "content-encoding", &coding);
    }
    response
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        "deflate" => {
            let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            coder.write_all(text).unwrap();
            coder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(text, 1).unwrap(),
        "br" => crate::hostile::brotli(text),
        _ => text.to_vec(),
    }
}

/// How much of a download one reads before leaving.
pub const ENOUGH: usize = 3 * PIECE.len();
