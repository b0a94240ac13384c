//! WebSockets: over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441) from the agent, over HTTP/1.1 to the
//! upstream; then frames in both directions, with stand-ins swapped and traces masked on the way.

use super::connection::Conn;
use super::entry::wire_of;
use super::fault::Fault;
use super::hygiene;
use super::live::Proxy;
use super::recorded::Entry;
use super::tunnel::{Tally, idle};
use crate::audit::Outcome;
use crate::base::ask::Ask;
use crate::base::body::Body;
use crate::config::model::Action;
use crate::inject::strays;
use crate::inject::websocket::Rewriter;
use crate::inject::{Armed, Misplaced};
use crate::net::{Answer, Lease};
use crate::scrub::{self, websocket::Scrub};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A WebSocket the agent asked for.
pub struct Switch {
    agent: OnUpgrade,
    key: HeaderValue,
    http2: bool,
}

/// A WebSocket both sides agreed on, still to be passed.
pub struct Splice {
    agent: OnUpgrade,
    upstream: OnUpgrade,
    ask: Ask,
    /// Looks for stand-ins where none is swapped.
    messages: Option<strays::Messages>,
    outward: Option<Rewriter>,
    inward: Scrub,
    hits: Arc<AtomicU64>,
    _lease: Lease,
}

/// Bytes read from one side at a time.
const BUFFER: usize = 16 * 1024;
/// How long a direction may take to end after the other one was cut.
const LINGER: Duration = Duration::from_secs(1);
/// The fixed text of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Switch {
    /// Reads whether the request asks for a WebSocket. An extended CONNECT (RFC 8441 §4) becomes the
    /// GET that it stands for, so that rules speak of one method only.
    ///
    /// # Errors
    /// When an extended CONNECT asks for another protocol.
    pub fn asked(request: &mut Request<Incoming>) -> Result<Option<Self>, Fault> {
        let protocol = request
            .extensions()
            .get::<hyper::ext::Protocol>()
            .map(|p| p.as_str().to_owned());
        if let Some(protocol) = protocol {
            if protocol != "websocket" {
                let told = format!("extended CONNECT for `{protocol}` is not forwarded; `websocket` is");
                return Err(Fault::refused(StatusCode::NOT_IMPLEMENTED, "method_refused", told));
            }
            let agent = hyper::upgrade::on(&mut *request);
            request.extensions_mut().remove::<hyper::ext::Protocol>();
            *request.method_mut() = Method::GET;
            return Ok(Some(Self {
                agent,
                key: fresh_key(),
                http2: true,
            }));
        }
        if !hygiene::wants_websocket(request.method(), request.version(), request.headers()) {
            return Ok(None);
        }
        let key = request.headers().get(SEC_WEBSOCKET_KEY).cloned();
        let missing = || {
            Fault::refused(
                StatusCode::BAD_REQUEST,
                "malformed_request",
                "a WebSocket needs Sec-WebSocket-Key",
            )
        };
        let key = key.ok_or_else(missing)?;
        Ok(Some(Self {
            agent: hyper::upgrade::on(request),
            key,
            http2: false,
        }))
    }

    /// Whether the upstream agreed: 101 over HTTP/1.1, any 2xx over HTTP/2 (RFC 8441 §5).
    pub fn is_agreed(answer: &Answer) -> bool {
        let status = answer.response.status();
        if answer.times.http2 {
            status.is_success()
        } else {
            status == StatusCode::SWITCHING_PROTOCOLS
        }
    }

    /// Makes the request the HTTP/1.1 handshake it is for the upstream.
    pub fn dress(&self, parts: &mut Parts) {
        let headers = &mut parts.headers;
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if self.http2 {
            headers.insert(SEC_WEBSOCKET_KEY, self.key.clone());
            headers
                .entry(SEC_WEBSOCKET_VERSION)
                .or_insert(HeaderValue::from_static("13"));
        }
    }

    /// Checks the upstream's 101 and makes the agent's.
    ///
    /// # Errors
    /// When the upstream did not answer this handshake, or chose an extension nobody offered.
    pub fn agree(
        self,
        answer: Answer,
        mut armed: Armed,
        ask: Ask,
        hits: &Arc<AtomicU64>,
    ) -> Result<(Response<Body>, Splice), Fault> {
        let Answer {
            mut response,
            lease,
            times,
        } = answer;
        let wrong = |cause: &str| {
            let told = "the upstream did not answer the WebSocket handshake";
            Fault::broken(StatusCode::BAD_GATEWAY, "upstream_protocol", told, cause)
        };
        let headers = response.headers();
        // Over HTTP/2 there is no key, and so no answer to it.
        if !times.http2
            && headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes) != Some(accept_of(&self.key).as_bytes())
        {
            return Err(wrong("Sec-WebSocket-Accept does not answer the key"));
        }
        if !armed.needles.is_empty() && headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err(wrong("it chose an extension that was not offered"));
        }
        // What an extension has compressed cannot be read.
        let messages = armed
            .messages
            .take_if(|_| !headers.contains_key(SEC_WEBSOCKET_EXTENSIONS));
        let upstream = hyper::upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        hygiene::response(&mut parts.headers);
        let found = scrub::headers(&mut parts.headers, &armed.needles);
        hits.fetch_add(found, Ordering::Relaxed);
        let mut reply = Response::new(Body::Empty);
        *reply.headers_mut() = parts.headers;
        self.seal(&mut reply);
        let splice = Splice {
            agent: self.agent,
            upstream,
            ask,
            messages,
            outward: outward(&armed)?,
            inward: Scrub::new(&armed.needles),
            hits: Arc::clone(hits),
            _lease: lease,
        };
        Ok((reply, splice))
    }

    /// 101 over HTTP/1.1; 200 over HTTP/2, where key and accept have no meaning (RFC 8441 §5).
    fn seal(&self, reply: &mut Response<Body>) {
        if self.http2 {
            reply.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            return;
        }
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        if let Ok(accept) = HeaderValue::try_from(accept_of(&self.key)) {
            reply.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        reply
            .headers_mut()
            .insert(UPGRADE, HeaderValue::from_static("websocket"));
        reply
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

impl Splice {
    /// Passes frames until both sides are done, one breaks, or a reload forbids it.
    pub async fn run(self, proxy: &Proxy, conn: &Conn, mut entry: Entry) {
        let (agent, upstream) = match tokio::try_join!(self.agent, self.upstream) {
            Ok((agent, upstream)) => (wire_of(agent), hyper_util::rt::TokioIo::new(upstream)),
            Err(error) => return entry.failed(Outcome::Failed, "agent_gone", Some(error.to_string())),
        };
        let out = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&entry.bytes_in);
        let tallied = Tally {
            io: agent,
            read: Arc::clone(&entry.bytes_in),
            written: Arc::clone(&out),
        };
        let (from_agent, to_agent) = tokio::io::split(tallied);
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        let (mut messages, mut outward, mut inward) = (self.messages, self.outward, self.inward);
        let passing = both(
            pump(from_agent, to_upstream, |read, write| {
                if let Some(messages) = &mut messages {
                    messages.look(read.clone()).map_err(io::Error::other)?;
                }
                match &mut outward {
                    Some(rewriter) => rewriter.push(read, write).map(drop).map_err(io::Error::other),
                    None => {
                        write.extend_from_slice(&read);
                        Ok(())
                    }
                }
            }),
            pump(from_upstream, to_agent, |read, write| {
                inward.push(read, write).map_err(io::Error::other)
            }),
        );
        tokio::select! {
            ended = passing => match ended {
                Ok(_) => entry.settle(),
                Err(error) => {
                    let (outcome, code) = blame(&error);
                    entry.failed(outcome, code, Some(error.to_string()));
                }
            },
            () = idle(proxy, &read, &out) => {
                entry.failed(Outcome::Failed, "idle", Some("no byte passed for too long".into()));
            }
            () = forbidden(proxy, conn, &self.ask) => {
                entry.failed(Outcome::Denied, "closed_by_reload", Some("the rules no longer allow it".into()));
            }
        }
        entry.record.bytes_out = out.load(Ordering::Relaxed);
        self.hits.fetch_add(inward.hits(), Ordering::Relaxed);
    }
}

/// Resolves once a reload forbids what `ask` was allowed.
async fn forbidden(proxy: &Proxy, conn: &Conn, ask: &Ask) {
    let mut reloads = proxy.reloads();
    while reloads.changed().await.is_ok() {
        let live = proxy.live();
        let judged = conn
            .agent(&live)
            .ok()
            .and_then(|agent| live.policy.explain(agent, ask).ok());
        if !judged.is_some_and(|(_, rule)| matches!(rule.action, Action::Intercept { .. })) {
            return;
        }
    }
    std::future::pending().await
}

/// Tells a stand-in that was stopped from a connection that broke.
fn blame(error: &io::Error) -> (Outcome, &'static str) {
    use crate::inject::websocket::Error;
    let stopped = error.get_ref().is_some_and(|inner| {
        let swapping = inner.downcast_ref::<Error>();
        inner.is::<Misplaced>() || matches!(swapping, Some(Error::Misplaced | Error::Repeated))
    });
    if stopped {
        (Outcome::Denied, "placeholder_misplaced")
    } else {
        (Outcome::Failed, "websocket_broke")
    }
}

/// What swaps stand-ins in messages from the agent, if the rule says so.
fn outward(armed: &Armed) -> Result<Option<Rewriter>, Fault> {
    if armed.websocket.is_empty() {
        return Ok(None);
    }
    let swaps = armed.websocket.iter().map(|m| (&*m.stand_in, &m.held.secret));
    let broken = |e| {
        let told = "the placeholder cannot be swapped in messages";
        Fault::broken(StatusCode::BAD_GATEWAY, "credential_unfit", told, e)
    };
    Rewriter::new(swaps).map(Some).map_err(broken)
}

/// Waits for both directions. Once one came to its end, it is no failure that the other is cut: after the
/// closing handshake (RFC 6455 §7.1.1) whoever is first closes the connection.
async fn both(a: impl Future<Output = io::Result<()>>, b: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let (a, b) = (std::pin::pin!(a), std::pin::pin!(b));
    match futures_util::future::select(a, b).await {
        Either::Left((first, rest)) => settle(first, rest).await,
        Either::Right((first, rest)) => settle(first, rest).await,
    }
}

async fn settle(first: io::Result<()>, rest: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    match first {
        Ok(()) => {
            let _ = rest.await;
            Ok(())
        }
        // The other side may have closed with its end still on the way to us.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            let rest = tokio::time::timeout(LINGER, rest).await;
            if matches!(rest, Ok(Ok(()))) { Ok(()) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

/// Reads, filters and writes until the end, which is passed on as an end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut filter: impl FnMut(Bytes, &mut BytesMut) -> io::Result<()>,
) -> io::Result<()> {
    let (mut read, mut write) = (BytesMut::new(), BytesMut::new());
    loop {
        write.clear();
        read.reserve(BUFFER);
        if from.read_buf(&mut read).await? == 0 {
            return to.shutdown().await;
        }
        filter(read.split().freeze(), &mut write)?;
        if !write.is_empty() {
            to.write_all(&write).await?;
            to.flush().await?;
        }
    }
}

/// 16 random bytes (RFC 6455 §4.1).
fn fresh_key() -> HeaderValue {
    let mut nonce = [0; 16];
    // Without randomness there is no TLS either; a fixed key only weakens protection against caches.
    let _ = aws_lc_rs::rand::fill(&mut nonce);
    HeaderValue::try_from(STANDARD.encode(nonce)).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// What the key must be answered with (RFC 6455 §4.2.2).
fn accept_of(key: &HeaderValue) -> String {
    let text = [key.as_bytes().trim_ascii(), GUID].concat();
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text))
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switch")
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Splice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splice").field("ask", &self.ask).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_standard_says() {
        // The example of RFC 6455 §1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_of(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
