//! The proxy port: HTTP/1.1 and HTTP/2, CONNECT and absolute-form. Everything here treats the
//! other side as hostile and unknown.

use super::connection::{Caller, Conn};
use super::fault::{Fault, chain};
use super::live::Proxy;
use super::recorded::{Entry, Recorded};
use super::{intercept, tunnel};
use crate::audit::{Mode, Outcome};
use crate::base::ask::Scheme;
use crate::base::body::Body;
use crate::base::wire::Wire;
use crate::policy::{Passage, Reach};
use crate::{front, identity};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Header fields in one request. Browsers send some 30.
pub const MOST_HEADERS: usize = 128;

/// What a granted CONNECT leads to, once the agent has its 200.
enum Onward {
    Intercept {
        on: OnUpgrade,
        conn: Conn,
    },
    Tunnel {
        on: OnUpgrade,
        conn: Conn,
        stream: TcpStream,
        passage: Passage,
        entry: Entry,
    },
}

/// Serves one connection on the proxy port. `wire` is past the listener's own TLS, if it has any.
pub async fn serve(proxy: Arc<Proxy>, mut wire: Wire, caller: Caller) {
    let _active = proxy.metrics.connected();
    let head_time = proxy.live().config.limits.head_time;
    let look = wire.look(PREFACE.len(), is_http2);
    // Nothing, an error, or silence: there is nobody to answer.
    let Some(Ok(Some(http2))) = proxy.first(head_time, look).await else {
        return;
    };
    if http2 {
        serve_http2(&proxy, wire, caller).await;
    } else {
        serve_http1(&proxy, wire, caller, head_time).await;
    }
}

fn is_http2(seen: &[u8]) -> Option<bool> {
    if seen.is_empty() || seen.len() < PREFACE.len() && PREFACE.starts_with(seen) {
        return None;
    }
    Some(seen.starts_with(PREFACE))
}

async fn serve_http1(proxy: &Arc<Proxy>, wire: Wire, caller: Caller, head_time: Duration) {
    let onward = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let (proxy, onward, caller) = (Arc::clone(proxy), Arc::clone(&onward), caller.clone());
        async move {
            let (reply, next) = answer(&proxy, caller, request).await;
            *onward.lock() = next;
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1(head_time, proxy)
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = proxy.tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection from {}: {}", caller.peer, chain(&error));
    }
    let next = onward.lock().take();
    if let Some(next) = next {
        follow(proxy, next).await;
    }
}

async fn serve_http2(proxy: &Arc<Proxy>, wire: Wire, caller: Caller) {
    let service = service_fn(|request| {
        let (proxy, caller) = (Arc::clone(proxy), caller.clone());
        async move {
            let (reply, next) = answer(&proxy, caller, request).await;
            if let Some(next) = next {
                let (tasks, proxy) = (proxy.tasks.clone(), Arc::clone(&proxy));
                tasks.spawn(async move { follow(&proxy, next).await });
            }
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http2(proxy).serve_connection(TokioIo::new(wire), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = proxy.tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection from {}: {}", caller.peer, chain(&error));
    }
}

/// HTTP/1.1 towards agents, every limit stated.
pub fn http1(head_time: Duration, proxy: &Proxy) -> hyper::server::conn::http1::Builder {
    let head_bytes = proxy.live().config.limits.head_bytes;
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(MOST_HEADERS)
        .max_header_size(head_bytes)
        .max_buf_size(head_bytes.max(64 * 1024));
    builder
}

/// HTTP/2 towards agents, every limit stated.
pub fn http2(proxy: &Proxy) -> hyper::server::conn::http2::Builder<crate::base::tasks::Tasks> {
    let limits = &proxy.live().config.limits;
    let mut builder = hyper::server::conn::http2::Builder::new(proxy.tasks.clone());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30))
        .auto_date_header(false)
        .enable_connect_protocol()
        .max_concurrent_streams(limits.streams)
        // h2's own defaults against rapid reset (CVE-2023-44487) and its kin, written down.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_send_buf_size(512 * 1024);
    builder
}

/// Answers one request on the proxy port.
async fn answer(
    proxy: &Arc<Proxy>,
    mut caller: Caller,
    mut request: Request<Incoming>,
) -> (Response<Body>, Option<Onward>) {
    caller.offered = identity::offer(request.headers());
    if request.method() == Method::CONNECT {
        let agent = Understands::by(&request);
        let mut entry = Entry::begin(proxy);
        entry.record.method = Some("CONNECT".into());
        return match connect(proxy, caller, &mut request, &mut entry).await {
            Ok(Granted::Intercept(conn)) => {
                let on = hyper::upgrade::on(&mut request);
                entry.discard();
                (Response::new(Body::Empty), Some(Onward::Intercept { on, conn }))
            }
            Ok(Granted::Tunnel(conn, stream, passage)) => {
                let on = hyper::upgrade::on(&mut request);
                entry.record.status = Some(200);
                entry.rule = Some(proxy.metrics.for_rule(&passage.rule().name));
                (
                    Response::new(Body::Empty),
                    Some(Onward::Tunnel {
                        on,
                        conn,
                        stream,
                        passage,
                        entry,
                    }),
                )
            }
            Err(fault) => (refuse(proxy, fault, entry, agent), None),
        };
    }
    (absolute(proxy, caller, request).await, None)
}

enum Granted {
    Intercept(Conn),
    Tunnel(Conn, TcpStream, Passage),
}

async fn connect(
    proxy: &Arc<Proxy>,
    caller: Caller,
    request: &mut Request<Incoming>,
    entry: &mut Entry,
) -> Result<Granted, Fault> {
    let live = proxy.live();
    let target = front::connect(request)?;
    let mut conn = Conn::new(caller, target, Scheme::Https, Mode::Intercept);
    conn.describe(&mut entry.record);
    ready(proxy)?;
    let agent = conn.agent(&live)?;
    entry.record.agent = live.agent_name(agent);
    match live.policy.reach(agent, &conn.target)? {
        Reach::Intercept => Ok(Granted::Intercept(conn)),
        Reach::Tunnel(passage) => {
            conn.mode = Mode::Tunnel;
            conn.describe(&mut entry.record);
            entry.record.rule = Some(Arc::clone(&passage.rule().name));
            let stream = tunnel::dial(&live, &passage, &mut entry.record).await?;
            Ok(Granted::Tunnel(conn, stream, passage))
        }
    }
}

/// Plain HTTP in absolute-form (RFC 9112 §3.2.2). Each request is a connection to its own target.
async fn absolute(proxy: &Arc<Proxy>, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let mut entry = Entry::begin(proxy);
    entry.record.method = Some(request.method().as_str().into());
    let target = match front::absolute(&request) {
        Ok(target) => target,
        Err(error) => return refuse(proxy, error.into(), entry, Understands::by(&request)),
    };
    let conn = Arc::new(Conn::new(caller, target, Scheme::Http, Mode::Plain));
    proxy.answer(&conn, request, entry).await
}

/// Refuses everything while records cannot be written, where the operator wants it so.
pub fn ready(proxy: &Proxy) -> Result<(), Fault> {
    if proxy.log.accepts() {
        return Ok(());
    }
    let told = "the audit log cannot be written, and nothing may go unrecorded";
    Err(Fault::broken(
        StatusCode::SERVICE_UNAVAILABLE,
        "audit_unavailable",
        told,
        "the audit sink fails or is full",
    ))
}

/// What an agent understands as a refusal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Understands {
    /// A gRPC client reads `grpc-status` and no JSON.
    pub grpc: bool,
    /// A HEAD has no body in its reply (RFC 9110 §9.3.2); hyper sees to that in HTTP/1.1 only.
    pub head: bool,
    /// Requests follow one another on its connection: after a malformed one, nobody can be sure where the next
    /// begins, so there is none.
    pub http1: bool,
}

impl Understands {
    /// Reads it off the request.
    pub fn by(request: &Request<Incoming>) -> Self {
        let content_type = request.headers().get(http::header::CONTENT_TYPE);
        Self {
            grpc: content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")),
            head: request.method() == Method::HEAD,
            http1: request.version() != Version::HTTP_2,
        }
    }
}

/// Turns a fault into a reply with its record.
pub fn refuse(proxy: &Proxy, mut fault: Fault, mut entry: Entry, agent: Understands) -> Response<Body> {
    entry.failed(
        fault.outcome,
        fault.code,
        Some(fault.cause.clone().unwrap_or_else(|| fault.message.clone())),
    );
    match &fault.rule {
        Some(rule) => entry.record.rule = Some(Arc::clone(rule)),
        None => fault.rule.clone_from(&entry.record.rule),
    }
    entry.rule = fault.rule.as_ref().map(|rule| proxy.metrics.for_rule(rule));
    let mut reply = fault.reply(&entry.record.request_id, agent.grpc);
    if agent.http1 && fault.status == StatusCode::BAD_REQUEST {
        let close = http::HeaderValue::from_static("close");
        reply.headers_mut().insert(http::header::CONNECTION, close);
    }
    entry.record.status = Some(reply.status().as_u16());
    let body = |body| if agent.head { Body::Empty } else { body };
    reply.map(|whole| Body::wrap(Recorded::new(body(whole), entry, None)))
}

/// What comes after the 200 of a CONNECT.
async fn follow(proxy: &Arc<Proxy>, onward: Onward) {
    match onward {
        Onward::Intercept { on, conn } => {
            if let Ok(upgraded) = on.await {
                intercept::serve(proxy, wire_of(upgraded), conn).await;
            }
        }
        Onward::Tunnel {
            on,
            conn,
            stream,
            passage,
            mut entry,
        } => match on.await {
            Ok(upgraded) => tunnel::run(proxy, wire_of(upgraded), &conn, stream, passage, entry).await,
            Err(_) => entry.failed(
                Outcome::Failed,
                "agent_gone",
                Some("the agent closed before its tunnel".into()),
            ),
        },
    }
}

/// The bytes behind an upgrade: the socket itself where it can be had, with what was read ahead.
pub fn wire_of(upgraded: hyper::upgrade::Upgraded) -> Wire {
    match upgraded.downcast::<TokioIo<Wire>>() {
        Ok(parts) => {
            let mut wire = parts.io.into_inner();
            if !parts.read_buf.is_empty() {
                wire.put_back(parts.read_buf);
            }
            wire
        }
        Err(upgraded) => Wire::new(TokioIo::new(upgraded)),
    }
}

/// The protocol's short name, for the record.
pub fn protocol(version: Version) -> &'static str {
    if version == Version::HTTP_2 { "h2" } else { "h1" }
}
