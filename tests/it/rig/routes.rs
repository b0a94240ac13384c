//! The standard routes of an origin.

use super::origin::{Answer, AnyBody, Origin};
use base64::Engine;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio_websockets::Message;

/// Answers by path; what is not a route is a 404.
pub fn standard(request: Request<AnyBody>, origin: Origin) -> Answer {
    let bodiless = request.method() == http::Method::HEAD;
    let answer = routed(request, origin);
    // Over HTTP/2 hyper leaves it to the service (RFC 9110 §9.3.2).
    Box::pin(async move {
        if bodiless {
            answer.await.map(|_| nothing())
        } else {
            answer.await
        }
    })
}

fn routed(request: Request<AnyBody>, origin: Origin) -> Answer {
    Box::pin(async move {
        let path = request.uri().path().to_owned();
        let (n, size, wait) = (
            number(&request, "n", 3),
            number(&request, "bytes", 0),
            number(&request, "ms", 1000),
        );
        match path.as_str() {
            "/" | "/hello" => text("hello"),
            "/sse" => gated(origin, n, "text/event-stream", |i| format!("data: {i}\n\n")),
            "/gated" => gated(origin, n, "text/plain", |i| format!("{i};")),
            "/download" => download(size, query(&request, "length").is_some()),
            "/trailers" => trailers(),
            "/redirect" => moved("/hello"),
            "/alt-svc" => with(text("hello"), "alt-svc", "h3=\":443\"; ma=86400"),
            "/slow" => {
                tokio::time::sleep(std::time::Duration::from_millis(wait as u64)).await;
                text("slow")
            }
            "/never" => std::future::pending().await,
            "/ws" => websocket(request, origin, |message| message),
            "/ws-sha256" => websocket(request, origin, |message| Message::text(sha256(message.as_payload()))),
            "/upload" => upload(request).await,
            path if path.starts_with("/status/") => status(path),
            // Any other path too, so that a test can choose paths freely.
            _ => echo(request, &origin).await,
        }
    })
}

/// A short text.
pub fn text(body: &str) -> Response<AnyBody> {
    with(Response::new(full(body.to_owned())), "content-type", "text/plain")
}

/// JSON.
pub fn json(value: &serde_json::Value) -> Response<AnyBody> {
    with(
        Response::new(full(value.to_string())),
        "content-type",
        "application/json",
    )
}

/// Any bytes, of a type.
pub fn bytes(body: impl Into<Bytes>, content_type: &str) -> Response<AnyBody> {
    with(Response::new(full(body)), "content-type", content_type)
}

/// A status without a body.
pub fn empty(status: StatusCode) -> Response<AnyBody> {
    let mut response = Response::new(nothing());
    *response.status_mut() = status;
    response
}

/// `response` with one more header.
pub fn with(mut response: Response<AnyBody>, name: &'static str, value: &str) -> Response<AnyBody> {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_str(value).unwrap());
    response
}

/// A whole body.
pub fn full(body: impl Into<Bytes>) -> AnyBody {
    Full::new(body.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// No body.
pub fn nothing() -> AnyBody {
    Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A parameter of the query, undecoded.
pub fn query<B>(request: &Request<B>, name: &str) -> Option<String> {
    let pairs = request.uri().query()?.split('&');
    let mut values = pairs.filter_map(|pair| pair.split_once('=').or(Some((pair, ""))));
    values.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn number<B>(request: &Request<B>, name: &str, otherwise: usize) -> usize {
    query(request, name)
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// The user and password of a Basic credential.
pub fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get("authorization")?.to_str().ok()?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(value.strip_prefix("Basic ")?)
        .ok()?;
    let (user, password) = String::from_utf8(decoded)
        .ok()?
        .split_once(':')
        .map(|(u, p)| (u.to_owned(), p.to_owned()))?;
    Some((user, password))
}

/// The SHA-256 of some bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// The piece of which `/download` sends as many as it takes.
pub static PIECE: [u8; 64 * 1024] = {
    let mut piece = [0; 64 * 1024];
    let mut at = 0;
    while at < piece.len() {
        piece[at] = (at % 251) as u8;
        at += 1;
    }
    piece
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn status(path: &str) -> Response<AnyBody> {
    let code = path.trim_start_matches("/status/").parse::<u16>().unwrap();
    let mut response = match code {
        204 | 304 => empty(StatusCode::OK),
        _ => text("as asked"),
    };
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    with(response, "etag", "\"abc\"")
}

fn moved(to: &str) -> Response<AnyBody> {
    with(empty(StatusCode::FOUND), "location", to)
}

async fn echo(request: Request<AnyBody>, origin: &Origin) -> Response<AnyBody> {
    let _ = request.into_body().collect().await;
    let received = origin.seen().pop().unwrap();
    let headers: Vec<_> = received
        .headers
        .iter()
        .map(|(name, value)| {
            [
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ]
        })
        .collect();
    json(&serde_json::json!({
        "method": received.method,
        "target": received.target,
        "authority": received.authority,
        "http2": received.http2,
        "headers": headers,
        "body": String::from_utf8_lossy(&received.body),
    }))
}

/// Takes a body in, and tells its length and digest.
pub async fn upload(request: Request<AnyBody>) -> Response<AnyBody> {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let (mut body, mut bytes) = (request.into_body(), 0_u64);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return empty(StatusCode::BAD_REQUEST);
        };
        if let Some(piece) = frame.data_ref() {
            digest.update(piece);
            bytes += piece.len() as u64;
        }
    }
    json(&serde_json::json!({ "bytes": bytes, "sha256": hex(digest.finish().as_ref()) }))
}

/// So many bytes; with `length`, told beforehand.
pub fn download(bytes: usize, length: bool) -> Response<AnyBody> {
    let pieces = futures_util::stream::unfold(bytes, |left| async move {
        let now = left.min(PIECE.len());
        (now > 0).then(|| (Ok(Frame::data(Bytes::from_static(&PIECE[..now]))), left - now))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    if length {
        response
            .headers_mut()
            .insert("content-length", HeaderValue::from(bytes));
    }
    response
}

fn trailers() -> Response<AnyBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("abc123"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"before the trailer"))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    with(Response::new(body), "trailer", "x-checksum")
}

/// A body of `count` pieces, each sent only once the test adds a permit to the origin's gate.
fn gated(origin: Origin, count: usize, kind: &str, piece: fn(usize) -> String) -> Response<AnyBody> {
    let pieces = futures_util::stream::unfold(0, move |at| {
        let origin = origin.clone();
        async move {
            if at == count {
                return None;
            }
            origin.gate.acquire().await.unwrap().forget();
            Some((Ok(Frame::data(Bytes::from(piece(at)))), at + 1))
        }
    });
    with(
        Response::new(StreamBody::new(pieces).boxed_unsync()),
        "content-type",
        kind,
    )
}

/// A WebSocket that answers each message, over HTTP/1.1 (RFC 6455) or HTTP/2 (RFC 8441).
pub fn websocket(mut request: Request<AnyBody>, origin: Origin, answer: fn(Message) -> Message) -> Response<AnyBody> {
    let http2 = request.version() == http::Version::HTTP_2;
    let key = request.headers().get("sec-websocket-key").cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _origin = origin;
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = tokio_websockets::ServerBuilder::new().serve(TokioIo::new(upgraded));
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
            if (message.is_text() || message.is_binary()) && socket.send(answer(message)).await.is_err() {
                break;
            }
        }
        let _ = socket.close().await;
    });
    if http2 {
        return empty(StatusCode::OK);
    }
    let Some(key) = key else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    response
        .headers_mut()
        .insert("connection", HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert("upgrade", HeaderValue::from_static("websocket"));
    with(response, "sec-websocket-accept", &accept(key.as_bytes()))
}

/// The answer to a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
pub fn accept(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    base64::engine::general_purpose::STANDARD.encode(digest)
}
