//! `keyferry bridge`: from a TCP port inside a sandbox to Keyferry's unix or vsock socket outside. It reads nothing
//! of what passes, and starts no TLS, no config and no CA.

use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use crate::config::model::{Bind, Limits};
use crate::listen::bound::Local;
use crate::listen::{Accepted, Bound, serve};
use anyhow::Result;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_vsock::{VsockAddr, VsockStream};

/// Where the proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Far {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `vsock:CID:PORT`; the host is CID 2.
    Vsock {
        /// The machine.
        cid: u32,
        /// Its port.
        port: u32,
    },
}

/// Why a text says not where the proxy is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a unix socket nor a vsock address: write `unix:/run/keyferry/proxy.sock` or `vsock:2:8080`; \
     a proxy on TCP needs no bridge, as clients reach it by `HTTPS_PROXY`"
)]
pub struct BadFar(String);

/// Bytes in flight in each direction.
const BUFFER: usize = 32 * 1024;
/// How long a connection waits for a proxy that is being restarted.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

impl FromStr for Far {
    type Err = BadFar;

    fn from_str(text: &str) -> Result<Self, BadFar> {
        let bad = || BadFar(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let numbers = text.strip_prefix("vsock:").and_then(|rest| rest.split_once(':'));
        let (cid, port) = numbers.ok_or_else(bad)?;
        match (cid.parse(), port.parse()) {
            (Ok(cid), Ok(port)) => Ok(Self::Vsock { cid, port }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

impl Far {
    async fn connect(&self) -> io::Result<Wire> {
        Ok(match self {
            Self::Unix(path) => Wire::new(UnixStream::connect(path).await?),
            Self::Vsock { cid, port } => Wire::new(VsockStream::connect(VsockAddr::new(*cid, *port)).await?),
        })
    }

    /// Connects, and waits for a proxy that is not there yet.
    ///
    /// # Errors
    /// When it is not there in time, or may not be reached.
    pub async fn reach(&self) -> io::Result<Wire> {
        let end = Instant::now() + PATIENCE;
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        while Instant::now() < end {
            match tokio::time::timeout_at(end, self.connect()).await {
                Ok(Err(e)) if may_pass(&e) => last = e,
                Ok(done) => return done,
                Err(_) => break,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(last)
    }
}

/// What a proxy that is being started looks like: no file, nobody behind it, a queue that is full.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(
        error.kind(),
        E::NotFound | E::ConnectionRefused | E::ConnectionReset | E::WouldBlock | E::TimedOut
    )
}

/// A bridge that is bound, and not yet open.
#[derive(Debug)]
pub struct Bridge {
    bound: Bound,
    far: Arc<Far>,
}

impl Bridge {
    /// Binds the near side.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn bind(near: &Bind, far: Far) -> Result<Self> {
        Ok(Self {
            bound: Bound::bind(near, None)?,
            far: Arc::new(far),
        })
    }

    /// Where it listens.
    pub fn local(&self) -> &Local {
        self.bound.local()
    }

    /// Passes connections, at most so many at one time, until the tasks are told to stop. Each is a connection of its
    /// own to the proxy, so that the proxy may be restarted meanwhile.
    pub fn open(self, connections: usize, tasks: &Tasks) {
        let far = self.far;
        let each = move |near: Accepted| pass(near.wire, Arc::clone(&far));
        let slots = Arc::new(Semaphore::new(connections));
        let stall_time = Limits::default().stall_time;
        tasks.spawn(serve(Arc::new(self.bound), slots, tasks.clone(), stall_time, each));
    }
}

/// Passes bytes both ways, and each end as an end; a side that does not read holds up the other.
async fn pass(mut near: Wire, far: Arc<Far>) {
    match far.reach().await {
        Ok(mut wire) => {
            if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut near, &mut wire, BUFFER, BUFFER).await {
                tracing::debug!("a connection to {far} broke: {error}");
            }
        }
        Err(error) => tracing::warn!("no connection to {far}: {}", told(&error)),
    }
}

/// What the system says, and what it means here.
pub fn told(error: &io::Error) -> String {
    let meaning = match error.kind() {
        io::ErrorKind::NotFound => "; is the socket mounted into the sandbox?",
        io::ErrorKind::ConnectionRefused => "; is Keyferry running?",
        io::ErrorKind::PermissionDenied => "; the listener's `mode` says who may connect",
        _ => "",
    };
    format!("{error}{meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_leads_to_a_unix_socket_or_a_machine() {
        for (text, far) in [
            ("unix:/run/p.sock", Some(Far::Unix("/run/p.sock".into()))),
            ("vsock:2:8080", Some(Far::Vsock { cid: 2, port: 8080 })),
            ("unix:", None),
            ("vsock:8080", None),
            ("vsock:2:-1", None),
            ("vsock:2:8080:1", None),
            ("tcp:127.0.0.1:8080", None),
            ("127.0.0.1:8080", None),
        ] {
            assert_eq!(text.parse().ok(), far, "{text}");
        }
    }
}
