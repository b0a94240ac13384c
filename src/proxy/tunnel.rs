//! Opaque tunnels: bytes passed unread once their TLS names the target, counted, and ended when a reload
//! forbids them.

use super::connection::Conn;
use super::fault::Fault;
use super::live::{Live, Proxy};
use super::named::{Misnamed, Named};
use super::recorded::Entry;
use crate::audit::{Outcome, Record};
use crate::base::paced::Paced;
use crate::base::wire::Wire;
use crate::net::{Line, Times};
use crate::policy::{Passage, Reach};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes in flight in each direction.
const BUFFER: usize = 32 * 1024;

/// Connects before the agent is told 200, so that a failure is an answer and not a broken tunnel.
///
/// # Errors
/// When no connection can be had.
pub async fn dial(live: &Live, passage: &Passage, record: &mut Record) -> Result<Line, Fault> {
    let mut times = Times::default();
    let dialled = live.upstream.tunnel(passage, &mut times).await;
    record.durations.dns = Some(times.dns);
    record.durations.connect = Some(times.connect);
    Ok(dialled?)
}

/// Passes bytes until both sides are done, one breaks, or a reload forbids it.
pub async fn run(proxy: &Proxy, wire: Wire, conn: &Conn, upstream: Line, passage: Passage, mut entry: Entry) {
    let _held = passage.held();
    let out = Arc::new(AtomicU64::new(0));
    let mut agent = Tally {
        io: Named::new(wire, &conn.target, proxy.live().config.limits.head_time),
        read: Arc::clone(&entry.bytes_in),
        written: Arc::clone(&out),
    };
    let mut upstream = Paced::new(upstream, proxy.live().config.limits.stall_time);
    let begun = Instant::now();
    entry.record.durations.first_byte = Some(begun - entry.start);
    let overtime = overtime(entry.start, passage.rule().limits.time);
    let mut reloads = proxy.reloads();
    let read = Arc::clone(&entry.bytes_in);
    let mut alert = false;
    {
        let copying = tokio::io::copy_bidirectional_with_sizes(&mut agent, &mut upstream, BUFFER, BUFFER);
        let mut copying = std::pin::pin!(copying);
        let idle = idle(proxy, &read, &out);
        let mut idle = std::pin::pin!(idle);
        let mut overtime = std::pin::pin!(overtime);
        loop {
            tokio::select! {
                () = overtime.as_mut() => {
                    entry.failed(Outcome::Failed, "exchange_timeout", Some(OVERTIME.into()));
                    break;
                }
                () = idle.as_mut() => {
                    entry.failed(Outcome::Failed, "idle", Some("no byte passed for too long".into()));
                    break;
                }
                ended = copying.as_mut() => {
                    match ended {
                        Ok(_) => entry.settle(),
                        Err(error) => match misnamed(&error) {
                            Some(why) => {
                                alert = !matches!(why, Misnamed::Plain);
                                entry.failed(Outcome::Denied, "misdirected_request", Some(why.to_string()));
                            }
                            None => entry.failed(Outcome::Failed, "tunnel_broke", Some(error.to_string())),
                        },
                    }
                    break;
                }
                changed = reloads.changed() => {
                    if changed.is_err() || !still_allowed(proxy, conn) {
                        entry.failed(Outcome::Denied, "closed_by_reload", Some("the rules no longer allow it".into()));
                        break;
                    }
                }
            }
        }
    }
    entry.record.bytes_out = out.load(Ordering::Relaxed);
    if alert {
        agent.io.alert().await;
    }
}

fn misnamed(error: &std::io::Error) -> Option<&Misnamed> {
    error.get_ref()?.downcast_ref()
}

/// What is told of a tunnel or WebSocket that stood longer than its rule's `time`.
pub const OVERTIME: &str = "it stood longer than the rule allows";

/// Resolves once `time` has passed since `start`; never without one.
pub async fn overtime(start: Instant, time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep_until((start + time).into()).await,
        None => std::future::pending().await,
    }
}

/// Resolves once neither count has moved for the idle time.
pub async fn idle(proxy: &Proxy, read: &AtomicU64, written: &AtomicU64) {
    let passed = || (read.load(Ordering::Relaxed), written.load(Ordering::Relaxed));
    loop {
        let before = passed();
        tokio::time::sleep(proxy.live().config.limits.idle_time).await;
        if passed() == before {
            return;
        }
    }
}

/// Whether the rules in force would grant this tunnel again.
pub fn still_allowed(proxy: &Proxy, conn: &Conn) -> bool {
    let live = proxy.live();
    let Ok(agent) = conn.agent(&live) else { return false };
    matches!(live.policy.reach(agent, &conn.target), Ok(Reach::Tunnel(_)))
}

/// Counts the bytes of one side.
pub struct Tally<T> {
    /// The side.
    pub io: T,
    /// Bytes read from it.
    pub read: Arc<AtomicU64>,
    /// Bytes written to it.
    pub written: Arc<AtomicU64>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Tally<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.read
            .fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tally<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.written.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T> std::fmt::Debug for Tally<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally")
            .field("read", &self.read)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
