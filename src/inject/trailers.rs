//! Trailers of a request, without the fields that were injected into its head: a server that merges the two
//! would take the agent's value beside ours, or over it.

use crate::base::body::{Body, BoxError};
use bytes::Bytes;
use http::header::HeaderName;
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

struct Without {
    body: Body,
    names: Vec<HeaderName>,
}

/// Takes fields of these `names`, and of their aliases, out of the body's trailers.
pub(super) fn without(body: Body, names: impl Iterator<Item = HeaderName>) -> Body {
    // A body of our own has none.
    if body.is_end_stream() || matches!(body, Body::Full(_)) {
        return body;
    }
    let names: Vec<_> = names.collect();
    match names.is_empty() {
        true => body,
        false => Body::wrap(Without { body, names }),
    }
}

impl http_body::Body for Without {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            for name in &this.names {
                super::place::remove(trailers, name);
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
