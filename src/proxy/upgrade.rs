//! WebSockets: over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441) from the agent, over HTTP/1.1 to the
//! upstream: the handshake of both sides.

use super::fault::Fault;
use super::hygiene;
use super::splice::{Far, Splice};
use crate::base::ask::Ask;
use crate::base::body::Body;
use crate::config::model::RuleLimits;
use crate::inject::Armed;
use crate::inject::websocket::Rewriter;
use crate::net::Answer;
use crate::scrub::{self, websocket::Scrub};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A WebSocket the agent asked for.
pub struct Switch {
    agent: OnUpgrade,
    key: HeaderValue,
    http2: bool,
}

/// The fixed text of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Switch {
    /// Reads whether the request asks for a WebSocket. An extended CONNECT (RFC 8441 §4) becomes the
    /// GET that it stands for, so that rules speak of one method only.
    ///
    /// # Errors
    /// When an extended CONNECT asks for another protocol.
    pub fn asked<B>(request: &mut Request<B>) -> Result<Option<Self>, Fault> {
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
            opened,
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
        let switched = hyper::upgrade::on(&mut response);
        let upstream = opened.map_or(Far::Switching(switched), Far::Open);
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
            limits: RuleLimits::default(),
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
