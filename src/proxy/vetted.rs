//! What an agent says first in an opaque tunnel: a TLS hello in it must name the tunnel's own host, or the tunnel would
//! reach another one at the same address.

use crate::base::host::{Host, Target};
use crate::front::first::{self, First, Spoken};
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One side of a tunnel, of which the first bytes are held back until it is clear that they may pass. Nothing is held
/// back the other way.
#[derive(Debug)]
pub struct Vetted<T> {
    io: T,
    target: Target,
    seen: BytesMut,
    open: bool,
}

/// The hello names another host than the tunnel's.
#[derive(Debug, thiserror::Error)]
#[error("the TLS hello names {named}, but this tunnel leads to {target}")]
pub struct Misnamed {
    named: String,
    target: Target,
}

impl<T> Vetted<T> {
    /// Watches what `io` says in a tunnel to `target`.
    pub fn new(io: T, target: Target) -> Self {
        Self {
            io,
            // By its address anything may be reached that is there.
            open: target.host.name().is_none(),
            target,
            seen: BytesMut::new(),
        }
    }

    /// Whether what was seen may pass, if that is clear by now.
    fn judge(&self) -> io::Result<bool> {
        match first::spoken(&self.seen) {
            None => return Ok(self.seen.len() >= first::PREFACE.len()),
            Some(Spoken::Tls) => {}
            Some(_) => return Ok(true),
        }
        match first::read(&self.seen) {
            None => Ok(self.seen.len() >= first::LONGEST_HELLO),
            Some(First::Tls(Some(named))) if Host::parse(&named).as_ref() != Ok(&self.target.host) => {
                let target = self.target.clone();
                Err(io::Error::other(Misnamed { named, target }))
            }
            Some(_) => Ok(true),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Vetted<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.open {
            let mut chunk = [0; 1024];
            let mut more = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut more))?;
            this.seen.extend_from_slice(more.filled());
            this.open = more.filled().is_empty() || this.judge()?;
        }
        if this.seen.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let count = this.seen.len().min(buf.remaining());
        buf.put_slice(this.seen.get(..count).unwrap_or_default());
        this.seen.advance(count);
        if this.seen.is_empty() {
            this.seen = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Vetted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
