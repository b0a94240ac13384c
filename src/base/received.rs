//! A body as it comes from a stream of an HTTP/2 connection.

use super::body::BoxError;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What a stream brings; the other side may send so much more as was taken (RFC 9113 §5.2).
#[derive(Debug)]
pub struct Received {
    stream: RecvStream,
    /// Bytes still to come, where the head says how many (RFC 9110 §8.6).
    left: Option<u64>,
    has_data: bool,
}

/// The stream was closed as if all was said, before all was.
#[derive(Debug, thiserror::Error)]
#[error("the stream ended {0} bytes early")]
struct Early(u64);

impl Received {
    /// The body that follows a head with these `headers`.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let stated = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        Self {
            stream,
            left: stated.and_then(|length| length.parse().ok()),
            has_data: true,
        }
    }

    /// Tells a reset that follows a whole message, as of a server that needs no more of the request (RFC 9113 §8.1), from
    /// one that cuts it.
    fn failed(&self, error: h2::Error) -> Option<Result<Frame<Bytes>, BoxError>> {
        match (error.reason(), self.left) {
            (Some(Reason::NO_ERROR), None | Some(0)) => None,
            (Some(Reason::NO_ERROR), Some(left)) => Some(Err(Early(left).into())),
            _ => Some(Err(error.into())),
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.has_data {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // What cannot be given back belongs to a stream that has ended.
                    let _ = this.stream.flow_control().release_capacity(bytes.len());
                    this.left = this.left.map(|left| left.saturating_sub(bytes.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => return Poll::Ready(this.failed(error)),
                None => this.has_data = false,
            }
        }
        Poll::Ready(match ready!(this.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|fields| Ok(Frame::trailers(fields))),
            Err(error) => this.failed(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
