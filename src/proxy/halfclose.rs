//! An agent that has said all it will, and one that has gone: told apart on intercepted TLS.
//!
//! A close_notify ends one direction only (RFC 8446 §6.1), so an agent that sent one after a whole
//! request still gets its answer. hyper takes any end of input during an exchange as the agent gone,
//! so the end is held back until the exchange is over. A connection that breaks off without
//! close_notify is an error and passes at once: then the exchange is cancelled.
//!
//! Some clients send close_notify and then close altogether. Only sending something tells: a kernel
//! whose socket is closed answers with a reset. So while an end is held back, now and then a
//! KeyUpdate goes out (RFC 8446 §4.6.3), which means nothing to an agent that is still there. TLS 1.2
//! has nothing of the kind: there an end of input is the agent gone.

use crate::base::body::{Body, BoxError};
use crate::base::wire::Wire;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// Whether the end of input is to be held back. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Hold(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether an exchange is going on.
    busy: AtomicBool,
    held: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Hold {
    /// The request is whole: from now on an end of input is no reason to stop.
    pub fn begin(&self) {
        self.0.held.store(true, Ordering::Release);
        self.wake();
    }

    /// The exchange is over.
    pub fn end(&self) {
        self.0.busy.store(false, Ordering::Release);
        self.0.held.store(false, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.0.waiting.lock().take() {
            waker.wake();
        }
    }
}

/// Ends the hold when the exchange ends, however it does.
#[derive(Debug)]
pub struct Ends(Hold);

impl Ends {
    /// Begins the hold if the request is `whole` already; a [`Whole`] body begins it otherwise.
    pub fn after(hold: &Hold, whole: bool) -> Self {
        hold.0.busy.store(true, Ordering::Release);
        if whole {
            hold.begin();
        }
        Self(hold.clone())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// TLS towards an agent, whose end of input can be held back.
pub struct Patient {
    stream: TlsStream<Wire>,
    hold: Hold,
    ended: bool,
    grace: Option<Pin<Box<Sleep>>>,
    probe: Option<Pin<Box<Sleep>>>,
    wait: Duration,
}

/// How long the end may be seen before the request's own end is known: hyper reads ahead of whoever takes the body.
const GRACE: Duration = Duration::from_millis(200);
/// Before the second probe, a local agent's reset has come; each later wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// Between probes at last.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Patient {
    /// Holds back the end of `stream` while `hold` says so.
    pub fn new(stream: TlsStream<Wire>, hold: Hold) -> Self {
        Self {
            stream,
            hold,
            ended: false,
            grace: None,
            probe: None,
            wait: FIRST_WAIT,
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            *self.hold.0.waiting.lock() = Some(cx.waker().clone());
            if !self.hold.0.held.load(Ordering::Acquire) {
                if !self.hold.0.busy.load(Ordering::Acquire) {
                    return Poll::Ready(Ok(()));
                }
                let grace = self.grace.get_or_insert_with(|| Box::pin(tokio::time::sleep(GRACE)));
                return grace.as_mut().poll(cx).map(Ok);
            }
            if let Some(probe) = &mut self.probe {
                std::task::ready!(probe.as_mut().poll(cx));
            }
            if self.stream.get_mut().1.refresh_traffic_keys().is_err() {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(Err(gone)) = Pin::new(&mut self.stream).poll_flush(cx) {
                return Poll::Ready(Err(gone));
            }
            self.probe = Some(Box::pin(tokio::time::sleep(self.wait)));
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return self.poll_end(cx);
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.ended = true;
        self.poll_end(cx)
    }
}

impl AsyncWrite for Patient {
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

impl fmt::Debug for Patient {
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
        Self { body, hold }
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        // After trailers nothing comes, and not everyone asks again.
        let ended = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers(),
            _ => false,
        };
        if ended || http_body::Body::is_end_stream(&this.body) {
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
