//! One accept loop for every listener: a slot first, then the connection, then a task of its own.

use super::bound::{Bound, Original, Socket};
use crate::base::paced::Paced;
use crate::base::peer::Peer;
use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A connection as accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its bytes.
    pub wire: Wire,
    /// Who is on the other side.
    pub peer: Peer,
    /// Where it was going, on a listener that takes redirected connections.
    pub original: Option<Original>,
}

/// Accepts until the tasks are told to stop. At most as many connections as `slots` holds are
/// served at one time; those beyond wait in the kernel's queue. Each has `stall_time` to take what is sent to it.
pub async fn serve<F>(
    bound: Arc<Bound>,
    slots: Arc<Semaphore>,
    tasks: Tasks,
    stall_time: Duration,
    each: impl Fn(Accepted) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut trouble = Trouble::default();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((slot, accept(&bound, stall_time, &mut trouble).await))
        };
        let (slot, accepted) = tokio::select! {
            () = tasks.stopping() => return,
            next = next => match next {
                Some(next) => next,
                None => return,
            },
        };
        let connection = each(accepted);
        tasks.spawn(async move {
            let _slot = slot; // given back however the connection ends
            connection.await;
        });
    }
}

/// Accepts one connection; whatever can pass is waited out, for the loop must not end.
async fn accept(bound: &Bound, stall_time: Duration, trouble: &mut Trouble) -> Accepted {
    loop {
        match try_accept(bound, stall_time).await {
            Ok(accepted) => {
                trouble.over();
                return accepted;
            }
            // The other side left before it was accepted: the next one may be fine.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            // Out of descriptors or memory: only waiting helps.
            Err(e) => {
                trouble.told(&e);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// Trouble that comes and goes is told of no more often than this.
const SILENCE: Duration = Duration::from_secs(60);

/// Whether connections can be accepted, told when it changes and not for each try.
#[derive(Debug, Default)]
struct Trouble {
    now: bool,
    last: Option<Instant>,
}

impl Trouble {
    fn told(&mut self, error: &io::Error) {
        if !self.now && self.last.is_none_or(|last| last.elapsed() >= SILENCE) {
            tracing::warn!(
                "cannot accept connections: {error}; those that come wait until there is room, \
                which more file descriptors (`ulimit -n`, `LimitNOFILE`) would give"
            );
            self.last = Some(Instant::now());
        }
        self.now = true;
    }

    fn over(&mut self) {
        if std::mem::replace(&mut self.now, false) {
            tracing::debug!("connections are accepted again");
        }
    }
}

async fn try_accept(bound: &Bound, stall_time: Duration) -> io::Result<Accepted> {
    match &bound.socket {
        Socket::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Accepted {
                original: bound.original(&stream),
                wire: Wire::new(Paced::new(stream, stall_time)),
                peer: Peer::Tcp(address),
            })
        }
        Socket::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok(Accepted {
                wire: Wire::new(Paced::new(stream, stall_time)),
                peer: Peer::Unix { uid },
                original: None,
            })
        }
        Socket::Vsock(listener) => {
            let (stream, address) = listener.accept().await?;
            Ok(Accepted {
                wire: Wire::new(stream),
                peer: Peer::Vsock { cid: address.cid() },
                original: None,
            })
        }
    }
}
