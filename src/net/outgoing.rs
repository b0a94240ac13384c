//! A request body on its way out, whose failure is kept: hyper tells of it over HTTP/1.1 alone, and once there is a
//! response not even then.

use crate::base::body::{Body, BoxError};
use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Why a request body failed, if it did.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<BoxError>>>);

/// What is told in the place of the error that is kept.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed")]
struct Kept;

struct Outgoing {
    body: Body,
    failure: Failure,
}

impl Failure {
    /// Keeps the failure of this request's body; `None` where there is no body to fail.
    pub(super) fn keep(request: &mut Request<Body>) -> Option<Self> {
        if matches!(request.body(), Body::Empty | Body::Full(_)) {
            return None;
        }
        let failure = Self::default();
        let body = std::mem::replace(request.body_mut(), Body::Empty);
        *request.body_mut() = Body::wrap(Outgoing {
            body,
            failure: failure.clone(),
        });
        Some(failure)
    }

    /// Takes the failure.
    pub(super) fn take(&self) -> Option<BoxError> {
        self.0.lock().take()
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                *this.failure.0.lock() = Some(error);
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
