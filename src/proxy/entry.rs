//! The proxy port: HTTP/1.1 and HTTP/2, CONNECT and absolute-form, and SOCKS5 by its first byte. Everything here treats the
//! other side as hostile and unknown.

use super::connection::{Caller, Conn};
use super::counted::let_go;
use super::fault::{Fault, chain};
use super::grant::{Onward, grant};
use super::live::Proxy;
use super::recorded::{Entry, Recorded};
use super::{serving, socks};
use crate::audit::Mode;
use crate::base::ask::Scheme;
use crate::base::body::Body;
use crate::base::wire::Wire;
use crate::front::first::{self, Spoken, Version};
use crate::{front, identity};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::sync::Arc;

/// A CONNECT's upgrade, and what its 200 leads to.
type Upgrade = (OnUpgrade, Onward);

/// Serves one connection on the proxy port. `wire` is past the listener's own TLS, if it has any.
pub async fn serve(proxy: Arc<Proxy>, mut wire: Wire, caller: Caller) {
    let _active = proxy.metrics.connected();
    let head_time = proxy.live().config.limits.head_time;
    let look = wire.look(first::PREFACE.len(), first::spoken);
    // Nothing, an error, or silence: there is nobody to answer.
    match proxy.first(head_time, look).await {
        Some(Ok(Some(Spoken::Socks))) => Box::pin(socks::converse(&proxy, wire, caller)).await,
        Some(Ok(Some(Spoken::Http(Version::Http2)))) => converse(&proxy, wire, caller, Version::Http2).await,
        // Whatever else it is, HTTP/1.1 has an answer for it.
        Some(Ok(Some(_))) => converse(&proxy, wire, caller, Version::Http1).await,
        None | Some(Err(_) | Ok(None)) => {}
    }
}

async fn converse(proxy: &Arc<Proxy>, wire: Wire, caller: Caller, version: Version) {
    // On HTTP/1.1 a granted CONNECT ends the requests; on HTTP/2 it is one stream of many.
    let onward = Arc::new(Mutex::new(None));
    let peer = caller.peer;
    let ended = serving::serve(proxy, wire, version, |request| {
        let (proxy, caller, onward) = (Arc::clone(proxy), caller.clone(), Arc::clone(&onward));
        async move {
            let (reply, next) = answer(&proxy, caller, request).await;
            match (next, version) {
                (Some(next), Version::Http2) => {
                    let tasks = proxy.tasks.clone();
                    tasks.spawn(async move { follow(&proxy, next).await });
                }
                (next, _) => *onward.lock() = next,
            }
            reply
        }
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!("connection from {peer}: {}", chain(&error));
    }
    let next = onward.lock().take();
    if let Some(next) = next {
        Box::pin(follow(proxy, next)).await;
    }
}

/// Answers one request on the proxy port.
async fn answer(
    proxy: &Arc<Proxy>,
    mut caller: Caller,
    mut request: Request<Incoming>,
) -> (Response<Body>, Option<Upgrade>) {
    caller.offered = identity::offer(request.headers());
    if request.method() != Method::CONNECT {
        return (absolute(proxy, caller, request).await, None);
    }
    let agent = Understands::by(&request);
    let mut entry = Entry::begin(proxy);
    entry.record.method = Some("CONNECT".into());
    let granted = match front::connect(&request) {
        Ok(target) => {
            let mut conn = Conn::new(caller, target, Scheme::Https, Mode::Intercept);
            conn.shares_socket = request.version() == http::Version::HTTP_2;
            grant(proxy, conn, &mut entry).await
        }
        Err(error) => Err(error.into()),
    };
    match granted {
        Ok(granted) => {
            let on = hyper::upgrade::on(&mut request);
            (Response::new(Body::Empty), Some((on, granted.with(proxy, entry))))
        }
        Err(fault) => (refuse(fault, entry, agent), None),
    }
}

/// Plain HTTP in absolute-form (RFC 9112 §3.2.2). Each request is a connection to its own target.
async fn absolute(proxy: &Arc<Proxy>, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let mut entry = Entry::begin(proxy);
    entry.record.method = Some(request.method().as_str().into());
    let target = match front::absolute(&request) {
        Ok(target) => target,
        Err(error) => {
            let agent = Understands::by(&request);
            let_go(request, &proxy.tasks);
            return refuse(error.into(), entry, agent);
        }
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
            http1: request.version() != http::Version::HTTP_2,
        }
    }
}

/// Turns a fault into a reply with its record.
pub fn refuse(mut fault: Fault, mut entry: Entry, agent: Understands) -> Response<Body> {
    entry.faulted(&mut fault);
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
async fn follow(proxy: &Arc<Proxy>, (on, onward): Upgrade) {
    match on.await {
        Ok(upgraded) => onward.run(proxy, wire_of(upgraded)).await,
        Err(_) => onward.abandoned(),
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
pub fn protocol(version: http::Version) -> &'static str {
    if version == http::Version::HTTP_2 { "h2" } else { "h1" }
}
