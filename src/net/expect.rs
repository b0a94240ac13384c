//! `Expect: 100-continue`, relayed end to end (RFC 9110 §10.1.1).
//!
//! hyper answers an agent's expectation when its body is first read, and as a client sends a body at
//! once. So the body is held back until the upstream itself says 100; only then is it read, and only
//! then is the agent told to continue. A final answer before that is passed on, and the body is never
//! asked for.

use crate::base::body::{Body, BoxError};
use bytes::Bytes;
use http::{Request, header};
use http_body::Frame;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Sleep;

/// The hold on a request body, open once the upstream said to continue.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    open: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

/// How long an upstream may leave an expectation unanswered: RFC 9110 §10.1.1 tells clients not to
/// wait for ever, for a server may not know the field. curl waits one second.
const PATIENCE: Duration = Duration::from_secs(2);

impl Gate {
    /// Holds the request's body back, if it expects to be told to continue.
    pub(super) fn install(request: &mut Request<Body>) -> Option<Self> {
        let expects = request.headers().get(header::EXPECT)?;
        if !expects.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return None;
        }
        let gate = Self(Arc::default());
        let body = std::mem::replace(request.body_mut(), Body::Empty);
        let held = HeldBack {
            gate: gate.clone(),
            patience: Box::pin(tokio::time::sleep(PATIENCE)),
            body,
        };
        *request.body_mut() = Body::wrap(held);
        Some(gate)
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// The upstream said to continue.
    pub(super) fn open(&self) {
        self.0.open.store(true, Ordering::Release);
        if let Some(waker) = self.0.waiting.lock().take() {
            waker.wake();
        }
    }
}

struct HeldBack {
    gate: Gate,
    patience: Pin<Box<Sleep>>,
    body: Body,
}

impl http_body::Body for HeldBack {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if !this.gate.is_open() {
            *this.gate.0.waiting.lock() = Some(cx.waker().clone());
            if !this.gate.is_open() {
                if this.patience.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.gate.open();
            }
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
