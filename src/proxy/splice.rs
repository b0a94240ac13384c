//! A WebSocket both sides agreed on: bytes in both directions, with stand-ins swapped and traces masked on the way.

use super::connection::Conn;
use super::counted::TooLarge;
use super::entry::wire_of;
use super::live::Proxy;
use super::recorded::{Cut, Entry};
use super::tunnel::{OVERTIME, Tally, idle, overtime};
use crate::audit::Outcome;
use crate::base::ask::Ask;
use crate::base::wire::Wire;
use crate::config::model::{Action, RuleLimits};
use crate::inject::websocket::Rewriter;
use crate::inject::{Misplaced, strays};
use crate::net::Lease;
use crate::scrub::websocket::Scrub;
use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use hyper::upgrade::OnUpgrade;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A WebSocket both sides agreed on, still to be passed.
pub struct Splice {
    pub(super) agent: OnUpgrade,
    pub(super) upstream: Far,
    pub(super) ask: Ask,
    /// Looks for stand-ins where none is swapped.
    pub(super) messages: Option<strays::Messages>,
    pub(super) outward: Option<Rewriter>,
    pub(super) inward: Scrub,
    pub(super) hits: Arc<AtomicU64>,
    pub(super) limits: RuleLimits,
    pub(super) _lease: Lease,
}

/// The upstream's side of it.
pub(super) enum Far {
    /// Over HTTP/1.1, once hyper has let go of the connection.
    Switching(OnUpgrade),
    /// Over HTTP/2, a stream of its own.
    Open(Wire),
}

impl Far {
    async fn open(self) -> hyper::Result<Wire> {
        match self {
            Self::Switching(switched) => switched.await.map(wire_of),
            Self::Open(wire) => Ok(wire),
        }
    }
}

/// Bytes read from one side at a time.
const BUFFER: usize = 16 * 1024;
/// How long a direction may take to end after the other one was cut; on a busy machine one second is too little.
const LINGER: Duration = Duration::from_secs(10);

impl Splice {
    /// Holds it to the rule's caps: those on bodies are for the bytes of each direction.
    pub fn within(self, limits: RuleLimits) -> Self {
        Self { limits, ..self }
    }

    /// Passes frames until both sides are done, one breaks, a cap is reached, or a reload forbids it.
    pub async fn run(self, proxy: &Proxy, conn: &Conn, mut entry: Entry) {
        let (agent, upstream) = match tokio::try_join!(self.agent, self.upstream.open()) {
            Ok((agent, upstream)) => (wire_of(agent), upstream),
            Err(error) => return entry.failed(Outcome::Failed, "agent_gone", Some(error.to_string())),
        };
        let out = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&entry.bytes_in);
        let tallied = Tally {
            io: agent,
            read: Arc::clone(&entry.bytes_in),
            written: Arc::clone(&out),
        };
        let (from_agent, to_agent) = tokio::io::split(tallied);
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        let (mut messages, mut outward, mut inward) = (self.messages, self.outward, self.inward);
        let (time, caps) = (self.limits.time, (self.limits.request_body, self.limits.response_body));
        let (mut sent, mut received) = (Cap(caps.0), Cap(caps.1));
        let passing = both(
            pump(from_agent, to_upstream, |read, write| {
                sent.take(read.len(), caps.0.map(TooLarge))?;
                if let Some(messages) = &mut messages {
                    messages.look(read.clone()).map_err(io::Error::other)?;
                }
                let Some(rewriter) = &mut outward else {
                    write.extend_from_slice(&read);
                    return Ok(());
                };
                rewriter.push(read, write).map(drop).map_err(io::Error::other)
            }),
            pump(from_upstream, to_agent, |read, write| {
                received.take(read.len(), Some(Cut::TooLarge))?;
                inward.push(read, write).map_err(io::Error::other)
            }),
        );
        let start = entry.start;
        let cut = async {
            tokio::select! {
                () = overtime(start, time) => (Outcome::Failed, "exchange_timeout", OVERTIME),
                () = idle(proxy, &read, &out) => (Outcome::Failed, "idle", "no byte passed for too long"),
                () = forbidden(proxy, conn, &self.ask) => {
                    (Outcome::Denied, "closed_by_reload", "the rules no longer allow it")
                }
            }
        };
        tokio::select! {
            ended = passing => match ended {
                Ok(_) => entry.settle(),
                Err(error) => {
                    let (outcome, code) = blame(&error);
                    entry.failed(outcome, code, Some(error.to_string()));
                }
            },
            (outcome, code, why) = cut => entry.failed(outcome, code, Some(why.to_owned())),
        }
        entry.record.bytes_out = out.load(Ordering::Relaxed);
        self.hits.fetch_add(inward.hits(), Ordering::Relaxed);
    }
}

/// What is left of a cap on the bytes of one direction.
struct Cap(Option<u64>);

impl Cap {
    /// Takes so many bytes, or fails with `why`.
    fn take<E>(&mut self, bytes: usize, why: Option<E>) -> io::Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let (Some(left), Some(why)) = (&mut self.0, why) else {
            return Ok(());
        };
        *left = left.checked_sub(bytes as u64).ok_or_else(|| io::Error::other(why))?;
        Ok(())
    }
}

/// Resolves once a reload forbids what `ask` was allowed.
async fn forbidden(proxy: &Proxy, conn: &Conn, ask: &Ask) {
    let mut reloads = proxy.reloads();
    while reloads.changed().await.is_ok() {
        let live = proxy.live();
        let judged = conn
            .agent(&live)
            .ok()
            .and_then(|agent| live.policy.explain(agent, ask).ok());
        if !judged.is_some_and(|(_, rule)| matches!(rule.action, Action::Intercept { .. })) {
            return;
        }
    }
    std::future::pending().await
}

/// Tells a stand-in that was stopped from a connection that broke.
fn blame(error: &io::Error) -> (Outcome, &'static str) {
    use crate::inject::websocket::Error;
    let stopped = error.get_ref().is_some_and(|inner| {
        let swapping = inner.downcast_ref::<Error>();
        inner.is::<Misplaced>() || matches!(swapping, Some(Error::Misplaced | Error::Repeated))
    });
    let inner = error.get_ref();
    if stopped {
        (Outcome::Denied, "placeholder_misplaced")
    } else if inner.is_some_and(|inner| inner.is::<TooLarge>()) {
        (Outcome::Denied, "body_too_large")
    } else if inner.is_some_and(|inner| inner.is::<Cut>()) {
        (Outcome::Failed, "response_too_large")
    } else {
        (Outcome::Failed, "websocket_broke")
    }
}

/// Waits for both directions. Once one came to its end, it is no failure that the other is cut: after the
/// closing handshake (RFC 6455 §7.1.1) whoever is first closes the connection.
async fn both(a: impl Future<Output = io::Result<()>>, b: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let (a, b) = (std::pin::pin!(a), std::pin::pin!(b));
    match futures_util::future::select(a, b).await {
        Either::Left((first, rest)) => settle(first, rest).await,
        Either::Right((first, rest)) => settle(first, rest).await,
    }
}

async fn settle(first: io::Result<()>, rest: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    match first {
        Ok(()) => {
            let _ = rest.await;
            Ok(())
        }
        // The other side may have closed with its end still on the way to us.
        Err(error) if is_gone(&error) => {
            let rest = tokio::time::timeout(LINGER, rest).await;
            if matches!(rest, Ok(Ok(()))) { Ok(()) } else { Err(error) }
        }
        Err(error) => Err(error),
    }
}

/// Whether the other side has closed the connection.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Reads, filters and writes until the end, which is passed on as an end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut filter: impl FnMut(Bytes, &mut BytesMut) -> io::Result<()>,
) -> io::Result<()> {
    let (mut read, mut write) = (BytesMut::new(), BytesMut::new());
    loop {
        write.clear();
        read.reserve(BUFFER);
        if from.read_buf(&mut read).await? == 0 {
            return match to.shutdown().await {
                // Whoever has closed already needs no end passed on.
                Err(error) if is_gone(&error) => Ok(()),
                ended => ended,
            };
        }
        filter(read.split().freeze(), &mut write)?;
        if !write.is_empty() {
            to.write_all(&write).await?;
            to.flush().await?;
        }
    }
}

impl std::fmt::Debug for Splice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Splice").field("ask", &self.ask).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// Has closed, so that what is written to it breaks.
    struct Gone;

    impl AsyncWrite for Gone {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
    }

    fn as_it_is(read: Bytes, write: &mut BytesMut) -> io::Result<()> {
        write.extend_from_slice(&read);
        Ok(())
    }

    #[tokio::test]
    async fn who_has_closed_needs_no_end_but_what_is_said_to_them_is_lost() {
        assert!(pump(&b""[..], Gone, as_it_is).await.is_ok());
        assert!(pump(&b"said"[..], Gone, as_it_is).await.is_err());
        // Both sides closed after the closing handshake, before the end of either was passed on.
        let both_gone = both(pump(&b""[..], Gone, as_it_is), pump(&b"\x88\x00"[..], Gone, as_it_is));
        assert!(both_gone.await.is_ok());
    }
}
