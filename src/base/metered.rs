//! An HTTP/2 connection whose other side is held to its pace: heads are finished in time, and frames are no flood.

use super::meter::{End, Meter};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// A stream on which HTTP/2 is spoken from the first byte, and what was seen of it.
pub struct Metered<S> {
    stream: S,
    meter: Meter,
    head_time: Duration,
    due: Pin<Box<Sleep>>,
    quiet: Quiet,
    /// When it was told that the connection is quiet.
    told: Option<Instant>,
}

/// Tells when an agent's connection has had no stream for so long that it may be closed. The connection breaks off by
/// itself if that is not done within the same time again.
#[derive(Debug, Clone, Default)]
pub struct Quiet(Arc<Notify>);

impl Quiet {
    /// Resolves once that is so.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

impl<S> Metered<S> {
    /// Meters `stream`, of which we are one `end`. The other side has `head_time` to finish a head that it began and,
    /// where it is the client, to begin the next.
    pub fn new(stream: S, end: End, head_time: Duration) -> Self {
        Self {
            stream,
            meter: Meter::new(end),
            head_time,
            due: Box::pin(tokio::time::sleep(head_time)),
            quiet: Quiet::default(),
            told: None,
        }
    }

    /// Tells when the connection is quiet.
    pub fn quiet(&self) -> Quiet {
        self.quiet.clone()
    }

    /// Fails when a head is late; tells when the connection is quiet, and fails when it stays so.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let (begun, quiet) = (self.meter.begun(), self.meter.quiet());
            self.told = self.told.filter(|_| quiet.is_some());
            // From when it was told: on a busy machine that can be late.
            let Some(since) = begun.or(self.told).or(quiet) else {
                return Poll::Pending;
            };
            let due = since + self.head_time;
            if self.due.deadline() != due {
                self.due.as_mut().reset(due);
            }
            ready!(self.due.as_mut().poll(cx));
            if Instant::now() < due {
                continue;
            }
            let late = |what| Poll::Ready(io::Error::new(ErrorKind::TimedOut, what));
            match (begun, self.told) {
                (Some(_), _) => return late("a head was not finished in time"),
                (None, Some(_)) => return late("no request came in time"),
                (None, None) => {
                    self.told = Some(Instant::now());
                    self.quiet.0.notify_one();
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_pending() {
            return this.poll_due(cx).map(Err);
        }
        let came = buf.filled_mut().get_mut(before..).unwrap_or_default();
        Poll::Ready(this.meter.received(came).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.meter.sent(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, pieces))?;
        let mut left = count;
        for piece in pieces {
            let taken = left.min(piece.len());
            this.meter.sent(piece.get(..taken).unwrap_or_default());
            left -= taken;
        }
        Poll::Ready(Ok(count))
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

impl<S> fmt::Debug for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered")
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]
    use super::*;
    use crate::base::meter::PREFACE;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    const TIME: Duration = Duration::from_secs(60);
    const HEAD: [u8; 9] = [0, 0, 1, 1, 4, 0, 0, 0, 1];
    const LAST: [u8; 9] = [0, 0, 0, 0, 1, 0, 0, 0, 1];

    /// A metered connection that is read all the time, its far side, and how it ended.
    fn reading() -> (DuplexStream, Quiet, tokio::task::JoinHandle<io::Result<u64>>) {
        let (near, far) = tokio::io::duplex(1024);
        let mut metered = Metered::new(near, End::Server, TIME);
        let quiet = metered.quiet();
        let read = tokio::spawn(async move { tokio::io::copy(&mut metered, &mut tokio::io::sink()).await });
        (far, quiet, read)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_whole_in_time_ends_the_connection() {
        for said in [
            &b""[..],
            &PREFACE[..10],
            &[PREFACE, &HEAD[..4]].concat(),
            &[PREFACE, &HEAD[..]].concat(),
        ] {
            let (mut far, _, read) = reading();
            let begun = Instant::now();
            far.write_all(said).await.unwrap();
            let error = read.await.unwrap().unwrap_err();
            assert_eq!(error.to_string(), "a head was not finished in time", "{said:?}");
            assert_eq!(begun.elapsed().as_secs(), 60);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_stream_is_told_of_and_then_ends() {
        let (mut far, quiet, read) = reading();
        let begun = Instant::now();
        far.write_all(PREFACE).await.unwrap();
        quiet.wait().await;
        assert_eq!(begun.elapsed().as_secs(), 60);
        let error = read.await.unwrap().unwrap_err();
        assert_eq!(
            (begun.elapsed().as_secs(), error.to_string().as_str()),
            (120, "no request came in time")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_answer_keeps_the_connection() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut metered = Metered::new(near, End::Server, TIME);
        let quiet = metered.quiet();
        far.write_all(&[PREFACE, &HEAD[..], b"x"].concat()).await.unwrap();
        metered.read_exact(&mut [0; 24 + 10]).await.unwrap();
        let waited = tokio::time::timeout(TIME * 100, metered.read_u8()).await;
        assert!(waited.is_err(), "{waited:?}");
        metered.write_all(&LAST).await.unwrap();
        let begun = Instant::now();
        let (error, ()) = tokio::join!(metered.read_u8(), quiet.wait());
        assert!(error.is_err());
        assert_eq!(begun.elapsed().as_secs(), 120);
    }
}
