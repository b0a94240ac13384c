//! A request body, counted and kept under the rule's cap, its trailers cleaned.

use super::hygiene;
use crate::base::body::{Body, BoxError};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Counts what passes.
#[derive(Debug)]
pub struct Counted {
    body: Body,
    passed: Arc<AtomicU64>,
}

/// The request body went over the rule's cap.
#[derive(Debug, thiserror::Error)]
#[error("the request body is larger than the {0} bytes that the rule allows")]
pub struct TooLarge(pub u64);

impl Counted {
    /// Counts `body` into `passed`.
    pub fn new(body: Body, passed: Arc<AtomicU64>) -> Self {
        Self { body, passed }
    }
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
