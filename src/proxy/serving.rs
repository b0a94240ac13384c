//! HTTP towards agents, every limit stated, the same on whatever connection a request comes: what an agent may send,
//! how slowly, and what it may leave untaken.

use super::live::Proxy;
use crate::base::body::Body;
use crate::base::idle::unless_idle;
use crate::base::meter::End;
use crate::base::metered::Metered;
use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use crate::config::model::Limits;
use crate::front::first::Version;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of request bodies that one HTTP/2 connection may send ahead of whoever takes them (RFC 9113 §5.2), and one of
/// its streams. Agents are near, so this is far more than a round trip's worth.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
const STREAM_WINDOW: u32 = 512 * 1024;
/// Bytes of a reply that wait in one stream for the agent to take them.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams reset before they were looked at, at one time: `h2`'s own figure against rapid reset (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams we had to reset for what they sent, over a connection's life, against MadeYouReset (CVE-2025-8671): a
/// quarter of `h2`'s figure.
const ERROR_RESETS: usize = 256;
/// Between pings on an HTTP/2 connection, and for their answers: an agent that reads nothing, or is gone, is noticed.
const PING: Duration = Duration::from_secs(30);

/// Why a connection did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The protocol or the socket broke.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// Nothing moved for too long.
    #[error("nothing moved for too long")]
    Idle,
}

/// Serves requests until the agent is done or does nothing, or Keyferry stops and those under way are finished.
///
/// `answer` is called as soon as a request's head is there, and what it returns is polled later. That and the connection
/// are boxed: hyper moves them about, and their room is not to be held by a connection that idles, or that is a tunnel now.
///
/// # Errors
/// Whatever ended the connection otherwise.
pub async fn serve<F>(
    proxy: &Arc<Proxy>,
    wire: Wire,
    version: Version,
    answer: impl Fn(Request<Incoming>) -> F,
) -> Result<(), Ended>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        let answered = Box::pin(answer(request));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let live = proxy.live();
    let limits = &live.config.limits;
    if version == Version::Http2 {
        let wire = Metered::new(wire, End::Server, limits.head_time);
        let quiet = wire.quiet();
        let connection = over_http2(limits, &proxy.tasks).serve_connection(TokioIo::new(wire), service);
        let mut connection = Box::pin(connection);
        let enough = async {
            tokio::select! {
                () = proxy.leaving(&asked) => {}
                () = quiet.wait() => {}
            }
        };
        return Ok(tokio::select! {
            ended = connection.as_mut() => ended,
            () = enough => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }?);
    }
    let connection = over_http1(limits).serve_connection(TokioIo::new(wire), service);
    let mut connection = Box::pin(connection.with_upgrades());
    let served = pin!(async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = proxy.leaving(&asked) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    });
    let served = unless_idle(limits.exchange_idle(), served).await;
    Ok(served.ok_or(Ended::Idle)??)
}

fn over_http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(64 * 1024));
    builder
}

fn over_http2(limits: &Limits, tasks: &Tasks) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams {
        tasks: tasks.clone(),
        idle_time: limits.exchange_idle(),
    });
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .auto_date_header(false)
        .enable_connect_protocol()
        .max_concurrent_streams(u32::try_from(limits.streams).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// Runs the streams of one connection, each as a task that ends once nothing moves in it for too long: an agent that
/// makes no room for its answer, or an upstream that has no more to say.
#[derive(Clone)]
struct Streams {
    tasks: Tasks,
    idle_time: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let (idle_time, stream) = (self.idle_time, Box::pin(stream));
        self.tasks
            .spawn_under(async move { drop(unless_idle(idle_time, stream).await) });
    }
}
