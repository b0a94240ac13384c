//! A body as it comes from a stream of an HTTP/2 connection.

use super::body::BoxError;
use super::tasks::Tasks;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, response};
use http_body::{Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::runtime::Handle;

/// What a stream brings; the other side may send so much more as was taken (RFC 9113 §5.2).
#[derive(Debug)]
pub struct Received {
    /// There until it is let go of.
    stream: Option<RecvStream>,
    /// Bytes still to come, where the head says how many (RFC 9110 §8.6).
    left: Option<u64>,
    has_data: bool,
    /// Whether the answer has a body at all (RFC 9110 §6.4.1).
    has_body: bool,
    of: Arc<Streams>,
}

/// What the bodies of one connection share.
#[derive(Debug)]
pub struct Streams {
    /// Has what outlives an exchange.
    pub tasks: Tasks,
    cut: AtomicUsize,
}

impl Streams {
    /// None yet.
    pub fn new(tasks: &Tasks) -> Self {
        Self {
            tasks: tasks.clone(),
            cut: AtomicUsize::new(0),
        }
    }

    /// How many bodies were let go of before they had ended.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::Relaxed)
    }
}

/// How long the end of a stream may follow the last byte of what came on it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The stream was closed as if all was said, before all was.
#[derive(Debug, thiserror::Error)]
#[error("the stream ended {0} bytes early")]
struct Early(u64);

impl Received {
    /// The body that follows `head`, which answers a request by `method`; one of those `of` a connection.
    pub fn new(stream: RecvStream, head: &response::Parts, method: &Method, of: &Arc<Streams>) -> Self {
        let stated = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok());
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
        Self {
            stream: Some(stream),
            left: stated.and_then(|length| length.parse().ok()),
            has_data: true,
            has_body: *method != Method::HEAD && !bodiless.contains(&head.status),
            of: Arc::clone(of),
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
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        if this.has_data {
            match ready!(stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // What cannot be given back belongs to a stream that has ended.
                    let _ = stream.flow_control().release_capacity(bytes.len());
                    this.left = this.left.map(|left| left.saturating_sub(bytes.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => return Poll::Ready(this.failed(error)),
                None => this.has_data = false,
            }
        }
        Poll::Ready(match ready!(stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|fields| Ok(Frame::trailers(fields))),
            Err(error) => this.failed(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Whoever has as many bytes as the head stated, or wants none, does not ask for the end, which may come by itself and later.
/// Let go of before that, the stream would be reset: for many servers an attack, if it happens often, and what still
/// comes on it counts against the connection on our side too.
impl Drop for Received {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take().filter(|stream| !stream.is_end_stream()) else {
            return;
        };
        if self.has_body && self.left != Some(0) {
            self.of.cut.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Mostly it has come already.
        let end = poll_end(&mut stream, &mut Context::from_waker(Waker::noop()));
        if end.is_pending() && Handle::try_current().is_ok() {
            self.of.tasks.spawn_under(async move {
                let _ = tokio::time::timeout(PATIENCE, poll_fn(|cx| poll_end(&mut stream, cx))).await;
            });
        }
    }
}

/// Ready when the stream has ended, or more comes that nobody wants.
fn poll_end(stream: &mut RecvStream, cx: &mut Context<'_>) -> Poll<()> {
    while let Some(Ok(bytes)) = ready!(stream.poll_data(cx)) {
        if !bytes.is_empty() {
            break;
        }
    }
    Poll::Ready(())
}
