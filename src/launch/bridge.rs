//! The bridge inside a wall: what connects to it on loopback is passed on to the proxy's socket outside. It knows neither
//! config nor CA, and starts no TLS, so that it runs in any image.

use crate::base::tasks::Tasks;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;

/// Where the proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// `unix:/run/keyferry/proxy/proxy.sock`.
    Unix(PathBuf),
}

/// Why there is no bridge.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address inside is taken, or cannot be had.
    #[error("the bridge cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// It is no place for a proxy.
    #[error("`{0}` is no place for a proxy; write `unix:/PATH`")]
    To(String),
}

/// Connections at one time; those beyond wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// How long a proxy that is being restarted may take to be there again.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);

/// A bridge that listens, and does not pass anything on yet.
#[derive(Debug)]
pub struct Bridge {
    listener: TcpListener,
    to: To,
}

impl Bridge {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn listen(address: SocketAddr, to: To) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| Error::Listen(address, error))?;
        Ok(Self { listener, to })
    }

    /// Passes connections on until the tasks are told to stop.
    pub async fn serve(self, tasks: Tasks) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = tasks.stopping() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((inside, _)) = accepted else {
                // Out of descriptors: only waiting helps.
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let to = self.to.clone();
            tasks.spawn(async move {
                let _slot = slot;
                if let Err(error) = pass(inside, &to).await {
                    tracing::warn!("the proxy at {to} cannot be reached: {error}; is Keyferry running?");
                }
            });
        }
    }
}

/// Passes bytes both ways; each side's end is passed on as an end.
async fn pass(mut inside: TcpStream, to: &To) -> std::io::Result<()> {
    let To::Unix(path) = to;
    inside.set_nodelay(true)?;
    let end = tokio::time::Instant::now() + PATIENCE;
    // Each connection looks the socket up anew: a proxy that was restarted has made another one.
    let mut outside = loop {
        match UnixStream::connect(path).await {
            Ok(outside) => break outside,
            Err(error) if tokio::time::Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    // However it ends, both sides are closed; there is nobody to tell.
    let _ = copy_bidirectional(&mut inside, &mut outside).await;
    Ok(())
}

impl FromStr for To {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            _ => Err(Error::To(text.to_owned())),
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Unix(path) = self;
        write!(f, "unix:{}", path.display())
    }
}
