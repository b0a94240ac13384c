//! What a file server cannot answer: uploads, event streams, WebSockets and gRPC, and the names of all of them; and, where
//! there is no file server, what that would.
//!
//! A request without the right `Authorization` gets 401, so whoever does not inject is found out.

use crate::meter::clock;
use crate::tls::acceptor;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Interval;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
    #[arg(long)]
    authorization: HeaderValue,
    /// Answer DNS here too: this host's own name with its own address, every other with 127.0.0.1
    #[arg(long)]
    dns: Option<SocketAddr>,
    /// Do not speak HTTP/2
    #[arg(long)]
    only_http1: bool,
}

enum Answer {
    Whole(Option<Bytes>),
    Big { left: usize },
    Events { left: u32, tick: Interval },
    Grpc { message: Option<Bytes>, told: bool },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Big { left: 0 } => Poll::Ready(None),
            Self::Big { left } => {
                let piece = &PIECE[..PIECE.len().min(*left)];
                *left -= piece.len();
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
            }
            Self::Events { left: 0, .. } => Poll::Ready(None),
            Self::Events { left, tick } => tick.poll_tick(cx).map(|_| {
                *left -= 1;
                // About as long as what a model streams for one token.
                let event = format!("data: {} {}\n\n", clock(), "x".repeat(100));
                Some(Ok(Frame::data(event.into())))
            }),
            Self::Grpc { message, told } => Poll::Ready(match message.take() {
                Some(message) => Some(Ok(Frame::data(message))),
                None if std::mem::replace(told, true) => None,
                None => {
                    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
                    Some(Ok(Frame::trailers(trailers)))
                }
            }),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Big { left } => SizeHint::with_exact(*left as u64),
            Self::Events { .. } | Self::Grpc { .. } => SizeHint::default(),
        }
    }
}

/// Of `/big`, again and again.
static PIECE: [u8; 64 * 1024] = {
    let mut piece = [0; 64 * 1024];
    let mut at = 0;
    while at < piece.len() {
        piece[at] = (at as u32).wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
        at += 1;
    }
    piece
};

/// Bytes of `/big`, as those of the file server.
const BIG: usize = 100 << 20;

const GRPC_STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");

pub async fn serve(args: Args) -> io::Result<()> {
    let alpn: &[&[u8]] = if args.only_http1 {
        &[b"http/1.1"]
    } else {
        &[b"h2", b"http/1.1"]
    };
    let acceptor = acceptor(&args.certificate, &args.key, alpn)?;
    let wanted = Arc::new(args.authorization);
    let listener = TcpListener::bind(args.listen).await?;
    if let Some(dns) = args.dns {
        tokio::spawn(names(UdpSocket::bind(dns).await?, args.listen));
    }
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, wanted) = (acceptor.clone(), Arc::clone(&wanted));
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&wanted)));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http2()
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20);
            let _ = builder
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, wanted: Arc<HeaderValue>) -> Result<Response<Answer>, Infallible> {
    if request.headers().get(AUTHORIZATION) != Some(&*wanted) {
        return Ok(status(StatusCode::UNAUTHORIZED));
    }
    Ok(match request.uri().path() {
        "/upload" => upload(request.into_body()).await,
        "/events" => events(request.uri().query().unwrap_or_default()),
        "/echo" => echo(request),
        "/unary" => unary(request.into_body()).await,
        "/json" => json(false),
        "/packed" => json(true),
        "/big" => Response::new(Answer::Big { left: BIG }),
        _ => Response::new(Answer::Whole(Some("ok\n".into()))),
    })
}

fn status(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(None));
    *response.status_mut() = status;
    response
}

/// 10 KiB, with a head as an API's, compressed on request.
fn json(packed: bool) -> Response<Answer> {
    static PLAIN: LazyLock<Bytes> = LazyLock::new(|| crate::load::json(10 * 1024));
    static PACKED: LazyLock<Bytes> = LazyLock::new(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&PLAIN).expect("memory takes it");
        encoder.finish().expect("memory takes it").into()
    });
    let mut response = Response::new(Answer::Whole(Some(if packed { PACKED.clone() } else { PLAIN.clone() })));
    let headers = response.headers_mut();
    if packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "private, max-age=60, s-maxage=60"),
        ("vary", "Accept, Authorization, Cookie, Accept-Encoding"),
        ("etag", "\"644b5b0155e6404a9cc4bd9d8b1ae730\""),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
        ("x-ratelimit-remaining", "4987"),
        ("x-request-id", "C0FE:1D2A:3B4C5D:6E7F80:65A1B2C3"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Says how many bytes came.
async fn upload(mut body: Incoming) -> Response<Answer> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return status(StatusCode::BAD_REQUEST);
        };
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    Response::new(Answer::Whole(Some(length.to_string().into())))
}

fn events(query: &str) -> Response<Answer> {
    let number = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .find_map(|(_, value)| value.parse().ok())
    };
    let every = Duration::from_millis(number("every").unwrap_or(20).max(1));
    let left = u32::try_from(number("count").unwrap_or(100)).unwrap_or(100);
    let tick = tokio::time::interval(every);
    let mut response = Response::new(Answer::Events { left, tick });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx gathers what comes, unless it is told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Gives every WebSocket message back.
fn echo(mut request: Request<Incoming>) -> Response<Answer> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY).cloned() else {
        return status(StatusCode::BAD_REQUEST);
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = tokio_websockets::ServerBuilder::new().serve(TokioIo::new(upgraded));
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.extend(accepts(key.as_bytes()).map(|accepts| (SEC_WEBSOCKET_ACCEPT, accepts)));
    response
}

/// RFC 6455 §4.2.2: the key and a fixed string, hashed.
fn accepts(key: &[u8]) -> Option<HeaderValue> {
    let both = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &both);
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

async fn unary(body: Incoming) -> Response<Answer> {
    let Ok(message) = body.collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let message = Some(message.to_bytes());
    let mut response = Response::new(Answer::Grpc { message, told: false });
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Answers DNS (RFC 1035 §4.1) for names that only this measurement knows.
async fn names(socket: UdpSocket, own: SocketAddr) {
    let mut question = [0; 512];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut question).await else {
            continue;
        };
        if let Some(answer) = question.get(..length).and_then(|question| address(question, own)) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

fn address(question: &[u8], own: SocketAddr) -> Option<Vec<u8>> {
    let mut at = 12;
    while let length @ 1.. = *question.get(at)? {
        at += 1 + usize::from(length);
    }
    let end = at + 5;
    let is_ipv4 = question.get(at + 1..end)? == [0, 1, 0, 1];
    let address = match own {
        SocketAddr::V4(own) if question.get(12..17)? == b"\x04more" => *own.ip(),
        _ => Ipv4Addr::LOCALHOST,
    };
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x85, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
    answer.extend(question.get(12..end)?);
    if is_ipv4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
