//! HTTP towards agents, every limit stated: the same on whatever connection a request comes.

use super::live::Proxy;
use crate::base::body::Body;
use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use crate::front::first::Version;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Header fields in one request. Browsers send some 30.
pub const MOST_HEADERS: usize = 128;

/// Serves requests until the agent is done, or Keyferry stops and those under way are finished.
///
/// `answer` is called as soon as a request's head is there, and what it returns is polled later.
///
/// # Errors
/// Whatever ended the connection otherwise.
pub async fn serve<F>(
    proxy: &Arc<Proxy>,
    wire: Wire,
    version: Version,
    answer: impl Fn(Request<Incoming>) -> F,
) -> Result<(), hyper::Error>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    if version == Version::Http2 {
        let connection = over_http2(proxy).serve_connection(TokioIo::new(wire), service);
        let mut connection = std::pin::pin!(connection);
        return tokio::select! {
            ended = connection.as_mut() => ended,
            () = proxy.tasks.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
    }
    let connection = over_http1(proxy)
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = proxy.tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

fn over_http1(proxy: &Proxy) -> http1::Builder {
    let live = proxy.live();
    let limits = &live.config.limits;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(MOST_HEADERS)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(64 * 1024));
    builder
}

fn over_http2(proxy: &Proxy) -> http2::Builder<Tasks> {
    let live = proxy.live();
    let limits = &live.config.limits;
    let mut builder = http2::Builder::new(proxy.tasks.clone());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30))
        .auto_date_header(false)
        .enable_connect_protocol()
        .max_concurrent_streams(limits.streams)
        // h2's own defaults against rapid reset (CVE-2023-44487) and its kin, written down.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_send_buf_size(512 * 1024);
    builder
}
