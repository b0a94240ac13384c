//! An agent that has said all it will, and one that has gone: told apart on intercepted TLS.
//!
//! A close_notify ends one direction only (RFC 8446 §6.1), so an agent that sent one after a whole
//! request still gets its answer. hyper takes any end of input during an exchange as the agent gone,
//! so the end is held back until the exchange is over. A connection that breaks off without
//! close_notify is an error and passes at once: then the exchange is cancelled.

use crate::base::body::{Body, BoxError};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether the end of input is to be held back. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Hold(Arc<State>);

#[derive(Debug, Default)]
struct State {
    held: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Hold {
    /// The request is whole: from now on an end of input is no reason to stop.
    pub fn begin(&self) {
        self.0.held.store(true, Ordering::Release);
    }

    /// The exchange is over.
    pub fn end(&self) {
        self.0.held.store(false, Ordering::Release);
        if let Some(waker) = self.0.waiting.lock().take() {
            waker.wake();
        }
    }
}

/// Ends the hold when the exchange ends, however it does.
#[derive(Debug)]
pub struct Ends(pub Hold);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A stream whose end of input can be held back.
pub struct Patient<T> {
    stream: T,
    hold: Hold,
    ended: bool,
}

impl<T> Patient<T> {
    /// Holds back the end of `stream` while `hold` says so.
    pub fn new(stream: T, hold: Hold) -> Self {
        Self {
            stream,
            hold,
            ended: false,
        }
    }

    fn end(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.hold.0.held.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        *self.hold.0.waiting.lock() = Some(cx.waker().clone());
        if self.hold.0.held.load(Ordering::Acquire) {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return self.end(cx);
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.ended = true;
        self.end(cx)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<T> fmt::Debug for Patient<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patient")
            .field("hold", &self.hold)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// A request body that begins the hold once it is whole.
#[derive(Debug)]
pub struct Whole {
    body: Body,
    hold: Hold,
}

impl Whole {
    /// Watches `body` for its end.
    pub fn new(body: Body, hold: Hold) -> Self {
        if http_body::Body::is_end_stream(&body) {
            hold.begin();
        }
        Self { body, hold }
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || http_body::Body::is_end_stream(&this.body) {
            this.hold.begin();
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
