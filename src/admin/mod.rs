//! The operator's listener: metrics, health, status and the newest records.
//!
//! Nothing here can return a secret: this room cannot import the one that holds them. Each request
//! is a read, so nothing can be changed from here either.

mod answer;

use crate::audit::Log;
use crate::base::host::Host;
use crate::base::secret::IsToken;
use crate::base::tasks::Tasks;
use crate::metrics::Metrics;
use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// The operator's listener. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Admin {
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Arc<Metrics>,
    audit: Log,
    tasks: Tasks,
    /// Names under which a browser or program may ask, besides addresses and `localhost`.
    hosts: Vec<Host>,
    settings: ArcSwap<Settings>,
    ready: AtomicBool,
    started: Instant,
}

/// What a reload may change.
#[derive(Debug, Default)]
struct Settings {
    token: Option<IsToken>,
    status: Status,
}

/// What `/status` tells of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// A digest of the configuration, to tell whether two programs run the same.
    pub fingerprint: String,
    /// Names of the rules, in order.
    pub rules: Vec<Arc<str>>,
    /// Names of the agents.
    pub agents: Vec<Arc<str>>,
    /// Where agents connect.
    pub listen: Vec<String>,
}

impl Admin {
    /// Answers from these. Until [`update`](Self::update) is called it is not ready.
    pub fn new(metrics: Arc<Metrics>, audit: Log, hosts: Vec<Host>, tasks: Tasks) -> Self {
        Self {
            shared: Arc::new(Shared {
                metrics,
                audit,
                tasks,
                hosts,
                settings: ArcSwap::default(),
                ready: AtomicBool::new(false),
                started: Instant::now(),
            }),
        }
    }

    /// Takes up a configuration: what to tell, and the bearer token to want from now on. Without a
    /// token everyone who can connect is answered; the config allows that on loopback and unix
    /// sockets only.
    pub fn update(&self, status: Status, token: Option<IsToken>) {
        self.shared.settings.store(Arc::new(Settings { token, status }));
        self.shared.ready.store(true, Ordering::Release);
    }

    /// Answers the requests of one connection until it ends, is idle too long, or the program stops.
    pub async fn serve_connection<I>(&self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let reply = self.shared.answer(&request);
            async move { Ok::<_, std::convert::Infallible>(reply) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = self.shared.tasks.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the admin listener ended early");
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// For a request's head, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests;
