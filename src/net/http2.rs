//! HTTP/2 connections to upstreams, spoken with `h2` itself: an exchange opens its stream and is woken by it, where
//! hyper's client would have two tasks in between.

use super::stream::{Answered, Begun, Failed};
use crate::base::body::Body;
use crate::base::gathered::gathered;
use crate::base::meter::End;
use crate::base::metered::Metered;
use crate::base::paced::Paced;
use crate::base::received::Streams;
use crate::base::tasks::Tasks;
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use http::Request;
use http::uri::Authority;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// An HTTP/2 connection and how many of its streams are in use. It ends when it is let go of and its last stream has.
pub(super) struct Shared {
    streams: SendRequest<Bytes>,
    /// Whom it leads to, as its requests name it.
    authority: Authority,
    state: Arc<State>,
    /// Streams that were given up before they were answered.
    given_up: AtomicUsize,
    /// How many of those the other side has taken off its queue: it has answered a later stream.
    taken: AtomicUsize,
    of: Arc<Streams>,
}

/// What the task that runs a connection knows of its streams, and they of it.
#[derive(Debug, Default)]
struct State {
    in_use: AtomicUsize,
    /// Whether no stream can be opened any more.
    closed: AtomicBool,
}

/// A stream's place on a shared connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    on: Arc<Shared>,
    /// Streams given up on the connection before this one was opened.
    given_up: usize,
    answered: bool,
}

/// What a connection is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long the other side may take nothing of what is sent.
    pub(super) stall_time: Duration,
    /// How long it may take for a head that it began.
    pub(super) head_time: Duration,
    /// Bytes of a head.
    pub(super) head_bytes: usize,
}

/// Streams that may be reset on one connection while the other side has not got to them. Servers take many for an attack
/// and end the connection, with all that is on it (CVE-2023-44487; h2, which is behind many, at 20), so the next requests
/// go elsewhere until it has.
const MOST_GIVEN_UP: usize = 8;
/// Between pings on a connection with open streams, so that a dead one is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes an upstream may send ahead on one stream (RFC 9113 §5.2).
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes an upstream may send ahead on one connection. h2 also bounds small DATA frames by it: too
/// small a window would end event streams that a slow agent holds up.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes of a request body that wait in one stream for the upstream to take them.
const SEND_BUFFER: usize = 1024 * 1024;
/// Streams that are opened before the other side has said how many it takes (RFC 9113 §6.5.2 recommends no fewer).
const FIRST_STREAMS: usize = 100;
/// Streams that may be reset for what came on them, over a connection's life.
const ERROR_RESETS: usize = 1_024;
/// Bodies that agents may cut over a connection's life. What is under way on them then must not count as such errors,
/// which would end the connection for all who share it, so they are remembered.
const MOST_CUT: usize = 1_024;
/// For how long: nothing is under way for longer.
const CUT_TIME: Duration = Duration::from_secs(30);
/// How often it is looked whether the other side's SETTINGS have come.
const SETTINGS_LOOK: Duration = Duration::from_millis(20);

/// Begins HTTP/2 on `stream`; a task of `tasks` runs it.
///
/// # Errors
/// When the stream breaks at once.
pub(super) async fn connect<S>(
    stream: S,
    authority: Authority,
    bounds: Bounds,
    tasks: &Tasks,
) -> Result<Arc<Shared>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = Metered::new(Paced::new(stream, bounds.stall_time), End::Client, bounds.head_time);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(FIRST_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(MOST_CUT)
        .reset_stream_duration(CUT_TIME)
        .max_local_error_reset_streams(Some(ERROR_RESETS));
    let (streams, connection) = builder.handshake(stream).await?;
    let state = Arc::new(State::default());
    tasks.spawn(drive(connection, Closes(Arc::clone(&state))));
    Ok(Arc::new(Shared {
        streams,
        authority,
        state,
        given_up: AtomicUsize::new(0),
        taken: AtomicUsize::new(0),
        of: Arc::new(Streams::new(tasks)),
    }))
}

/// Runs the connection until it ends, or is dead. Boxed first, as each future around it would have room for it twice.
fn drive<S>(connection: Connection<S, Bytes>, closes: Closes) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Box::pin(connection);
    let pings = connection.ping_pong();
    async move {
        tokio::select! {
            biased;
            _ = gathered(connection) => {}
            () = unanswered(pings, &closes.0.in_use) => {}
        }
    }
}

/// Notes, however its task ends, that a connection has.
struct Closes(Arc<State>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
    }
}

/// Resolves when a ping is not answered in time. It is asked only while somebody waits.
async fn unanswered(pings: Option<PingPong>, in_use: &AtomicUsize) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        if in_use.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let ponged = tokio::time::timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await;
        if !matches!(ponged, Ok(Ok(_))) {
            return;
        }
    }
}

impl Shared {
    /// Whether no stream is to be opened any more: it ended, the other side is about to end it (RFC 9113 §6.8), or as many
    /// bodies were cut as are remembered.
    pub(super) fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire) || self.of.cut() >= MOST_CUT
    }

    /// How many streams are in use.
    pub(super) fn in_use(&self) -> usize {
        self.state.in_use.load(Ordering::Acquire)
    }

    /// Takes a place, unless the other side's limit on streams is reached, or it may lose patience.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.is_strained() {
            return None;
        }
        let most = self.streams.current_max_send_streams();
        let enter = |streams: usize| (streams < most).then_some(streams + 1);
        let in_use = &self.state.in_use;
        in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok()?;
        Some(Place {
            on: Arc::clone(self),
            given_up: self.given_up.load(Ordering::Relaxed),
            answered: false,
        })
    }

    /// Whether one more stream given up might be one too many.
    fn is_strained(&self) -> bool {
        let given_up = self.given_up.load(Ordering::Relaxed);
        given_up.saturating_sub(self.taken.load(Ordering::Relaxed)) >= MOST_GIVEN_UP
    }

    /// Whether it takes no stream, and has none left that could show it to be well.
    pub(super) fn is_done_for(&self) -> bool {
        self.is_strained() && self.in_use() == 0
    }
}

impl Place {
    /// Sends the request on a stream of its own, and waits for the head of the response.
    ///
    /// # Errors
    /// When no stream could be opened, or it broke.
    pub(super) async fn send(&mut self, request: Box<Request<Body>>) -> Result<Answered, Failed> {
        let begun = Begun::open(&self.on.streams, request);
        if matches!(begun, Err(Failed::Unsent(..))) {
            self.on.state.closed.store(true, Ordering::Release);
        }
        let answered = begun?.head(&self.on.of).await?;
        // Streams are taken up in the order of their opening, so the other side has seen those given up before.
        self.answered = true;
        self.on.taken.fetch_max(self.given_up, Ordering::Relaxed);
        Ok(answered)
    }

    /// Whom the connection leads to.
    pub(super) fn authority(&self) -> &Authority {
        &self.on.authority
    }

    /// Whether the other side takes extended CONNECT (RFC 8441 §3), once it has said so or `patience` has passed.
    pub(super) async fn takes_extended_connect(&self, patience: Duration) -> bool {
        let said = async {
            while !self.on.streams.is_extended_connect_protocol_enabled() {
                tokio::time::sleep(SETTINGS_LOOK).await;
            }
        };
        tokio::time::timeout(patience, said).await.is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.answered {
            self.on.given_up.fetch_add(1, Ordering::Relaxed);
        }
        self.on.state.in_use.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
