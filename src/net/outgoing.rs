//! A request body on its way out. Its failure is kept: hyper tells of it over HTTP/1.1 alone, and once there is a
//! response not even then. And it is known how it gets on: as long as pieces of it go out, an answer is not late, and
//! when they stop it is known who stopped.

use crate::base::body::{Body, BoxError};
use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What is known of a request body. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct Upload(Arc<State>);

#[derive(Debug)]
struct State {
    failure: Mutex<Option<BoxError>>,
    begun: Instant,
    /// When the last piece went out, in milliseconds after `begun`.
    moved: AtomicU64,
    /// Whether the upstream has taken all there was, and the agent has more to give.
    waiting: AtomicBool,
}

/// What is told in the place of the error that is kept.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed")]
struct Kept;

struct Outgoing {
    body: Body,
    upload: Upload,
}

impl Upload {
    /// Watches this request's body; `None` where there is no body to fail or to stop.
    pub(super) fn watch(request: &mut Request<Body>) -> Option<Self> {
        if matches!(request.body(), Body::Empty | Body::Full(_)) {
            return None;
        }
        let upload = Self(Arc::new(State {
            failure: Mutex::default(),
            begun: Instant::now(),
            moved: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
        }));
        let body = std::mem::replace(request.body_mut(), Body::Empty);
        *request.body_mut() = Body::wrap(Outgoing {
            body,
            upload: upload.clone(),
        });
        Some(upload)
    }

    /// Takes the failure, if it failed.
    pub(super) fn failure(&self) -> Option<BoxError> {
        self.0.failure.lock().take()
    }

    /// When it last got on.
    pub(super) fn moved(&self) -> Instant {
        self.0.begun + Duration::from_millis(self.0.moved.load(Ordering::Relaxed))
    }

    /// Whether it is the agent's turn.
    pub(super) fn waits_for_agent(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed)
    }

    fn polled<T>(&self, piece: &Poll<T>) {
        self.0.waiting.store(piece.is_pending(), Ordering::Relaxed);
        if piece.is_ready() {
            let after = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.0.moved.store(after, Ordering::Relaxed);
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.upload.polled(&polled);
        match polled {
            Poll::Ready(Some(Err(error))) => {
                *this.upload.0.failure.lock() = Some(error);
                Poll::Ready(Some(Err(Kept.into())))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
