//! A request body, counted and kept under the rule's cap, its trailers cleaned.

use super::hygiene;
use crate::base::body::{Body, BoxError};
use crate::base::tasks::Tasks;
use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// Counts what passes.
#[derive(Debug)]
pub struct Counted {
    body: Body,
    passed: Arc<AtomicU64>,
    drain: Option<Tasks>,
}

/// The request body went over the rule's cap.
#[derive(Debug, thiserror::Error)]
#[error("the request body is larger than the {0} bytes that the rule allows")]
pub struct TooLarge(pub u64);

impl Counted {
    /// Counts `body` into `passed`.
    pub fn new(body: Body, passed: Arc<AtomicU64>) -> Self {
        Self {
            body,
            passed,
            drain: None,
        }
    }

    /// Reads on for a little when nobody wants the body any more. In HTTP/2 an early answer would
    /// otherwise end the stream with a reset (RFC 9113 §8.1), which curl before 8 takes for a failure of
    /// the answer as well.
    pub fn drained_by(mut self, tasks: &Tasks) -> Self {
        self.drain = Some(tasks.clone());
        self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(tasks) = self.drain.take()
            && !self.body.is_end_stream()
        {
            tasks.spawn(drain(std::mem::replace(&mut self.body, Body::Empty)));
        }
    }
}

/// Lets go of a refused request whose body was not looked at.
pub fn let_go(request: Request<Incoming>, tasks: &Tasks) {
    if request.version() == Version::HTTP_2 && !request.body().is_end_stream() {
        tasks.spawn(drain(request.into_body().into()));
    }
}

/// What is read of a body that nobody wants, and for how long.
const DRAINED: usize = 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

async fn drain(mut body: Body) {
    let reading = async {
        let mut left = DRAINED;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(length.max(1));
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(mut frame))) = polled else {
            return polled;
        };
        if let Some(bytes) = frame.data_ref() {
            this.passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        } else if let Some(trailers) = frame.trailers_mut() {
            hygiene::trailers(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends a body with an error once it passes the cap.
#[derive(Debug)]
pub struct Capped {
    body: Body,
    cap: u64,
    left: u64,
}

impl Capped {
    /// Lets at most `cap` bytes of `body` pass.
    pub fn new(body: Body, cap: u64) -> Self {
        Self { body, cap, left: cap }
    }
}

impl http_body::Body for Capped {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            match this.left.checked_sub(bytes.len() as u64) {
                Some(left) => this.left = left,
                None => return Poll::Ready(Some(Err(Box::new(TooLarge(this.cap))))),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
