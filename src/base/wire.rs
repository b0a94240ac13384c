//! A byte stream with its kind erased, and bytes already read put back in front of it.

use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Anything that reads and writes bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A byte stream: a socket, TLS on a socket, or a stream of an HTTP/2 connection; with bytes that
/// were read ahead handed out first.
pub struct Wire {
    ahead: BytesMut,
    stream: Box<dyn Stream>,
}

/// Bytes looked at in one read.
const LOOK: usize = 1024;

impl Wire {
    /// Wraps a stream.
    pub fn new(stream: impl Stream) -> Self {
        Self::with_ahead(Bytes::new(), stream)
    }

    /// Wraps a stream of which `ahead` was already read.
    pub fn with_ahead(ahead: Bytes, stream: impl Stream) -> Self {
        Self {
            // An empty piece may still hold the whole buffer that it was cut from.
            ahead: if ahead.is_empty() {
                BytesMut::new()
            } else {
                ahead.into()
            },
            stream: Box::new(stream),
        }
    }

    /// Puts `bytes` in front of what is still to be read.
    pub fn put_back(&mut self, bytes: Bytes) {
        let mut ahead = BytesMut::from(bytes);
        ahead.extend_from_slice(&self.ahead);
        self.ahead = ahead;
    }

    /// Reads until `decide` has seen enough, at most about `limit` bytes, and keeps everything for whoever reads
    /// next, also when this is dropped before it is done. `None` when the stream ends, or the limit is reached,
    /// without a decision.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn look<T>(&mut self, limit: usize, mut decide: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        loop {
            let found = decide(&self.ahead);
            if found.is_some() || self.ahead.len() >= limit {
                return Ok(found);
            }
            self.ahead.reserve(LOOK);
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads one message of at most `limit` bytes, of which `read` says how many it took; what came after it is put
    /// back. `None` when the stream ends, or the limit is reached, before it is whole.
    ///
    /// # Errors
    /// When the stream fails: as the outer result. When the message is none: as the inner.
    pub async fn message<T, E>(
        &mut self,
        limit: usize,
        read: impl Fn(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> io::Result<Result<Option<T>, E>> {
        let whole = self.look(limit, |seen| read(seen).transpose()).await?;
        Ok(whole.transpose().map(|found| {
            found.map(|(message, taken)| {
                self.ahead.advance(taken.min(self.ahead.len()));
                message
            })
        }))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            // Its memory is not kept for as long as the connection lives.
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("ahead", &self.ahead.len())
            .finish_non_exhaustive()
    }
}
