//! The one body type of the data path, without a box where none is needed.

use super::received::Received;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Any error, for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A message body: streamed, with back pressure, never collected.
pub enum Body {
    /// No bytes.
    Empty,
    /// A few bytes of our own; `None` once they are sent.
    Full(Option<Bytes>),
    /// As it comes from a connection.
    Incoming(hyper::body::Incoming),
    /// As it comes from a stream of an upstream's HTTP/2 connection.
    Received(Received),
    /// Wrapped: counted, limited, scrubbed.
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// Bytes of our own.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()))
    }

    /// Wraps any other body.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        Self::Boxed(UnsyncBoxBody::new(body))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Received(body) => Pin::new(body).poll_frame(cx),
            Self::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Incoming(body) => body.is_end_stream(),
            Self::Received(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Incoming(body) => body.size_hint(),
            Self::Received(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

impl From<hyper::body::Incoming> for Body {
    fn from(body: hyper::body::Incoming) -> Self {
        Self::Incoming(body)
    }
}

impl From<Received> for Body {
    fn from(body: Received) -> Self {
        Self::Received(body)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Body::Empty",
            Self::Full(_) => "Body::Full",
            Self::Incoming(_) => "Body::Incoming",
            Self::Received(_) => "Body::Received",
            Self::Boxed(_) => "Body::Boxed",
        })
    }
}
