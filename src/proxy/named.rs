//! The agent's side of a tunnel: the first bytes are held until it is known which host their TLS names.
//! What the upstream says passes meanwhile, for a server may speak first.

use crate::base::host::{Host, Target};
use crate::base::wire::Wire;
use crate::front::first::{First, Hello, Spoken, spoken};
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

/// Ports on which TLS with a name in its hello is due. On any other a protocol may go without; but if a
/// hello names a host there, it must be the target too.
const HTTPS: [u16; 2] = [443, 8443];
/// Bytes read at a time while the hello is not whole.
const CHUNK: usize = 4096;
/// A fatal alert in the clear: `unrecognized_name` (RFC 6066 §3, RFC 8446 §5.1 and §6).
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
/// How long the agent may take to hear it.
const ALERT_TIME: Duration = Duration::from_secs(1);

/// Why nothing of the agent's may pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misnamed {
    /// The hello is for another host.
    #[error("the TLS hello names {0}, but this tunnel leads to {1}")]
    Other(String, Target),
    /// There is no name where one is due.
    #[error("the TLS hello names no host, and on this port one is due")]
    Nameless,
    /// No TLS where it is due.
    #[error("no TLS is spoken, and on this port it is due")]
    Plain,
    /// A TLS record, and no hello in it.
    #[error("the TLS hello cannot be read: {0}")]
    Unreadable(String),
    /// Nothing, or half a hello.
    #[error("no whole TLS hello came in time")]
    Late,
}

/// A wire whose first bytes are looked at.
pub(super) struct Named {
    wire: Wire,
    look: Option<Look>,
}

struct Look {
    target: Target,
    hello: Hello,
    seen: BytesMut,
    /// Where a hello is due.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Named {
    /// Holds the bytes of `wire` until they name `target`. Where TLS is due, that may take `time`.
    pub(super) fn new(wire: Wire, target: &Target, time: Duration) -> Self {
        let due = HTTPS.contains(&target.port);
        Self {
            wire,
            look: Some(Look {
                target: target.clone(),
                hello: Hello::default(),
                seen: BytesMut::new(),
                deadline: due.then(|| Box::pin(tokio::time::sleep(time))),
            }),
        }
    }

    /// Tells the agent in TLS' own words that it named the wrong host.
    pub(super) async fn alert(&mut self) {
        let telling = async {
            let _ = self.wire.write_all(ALERT).await;
            let _ = self.wire.shutdown().await;
        };
        let _ = tokio::time::timeout(ALERT_TIME, telling).await;
    }
}

impl Look {
    /// Whether all may pass, once that is known.
    fn judge(&mut self, came: &[u8]) -> Option<Result<(), Misnamed>> {
        let due = self.deadline.is_some();
        match spoken(&self.seen)? {
            Spoken::Tls => match self.hello.push(came)? {
                First::Tls(Some(name)) if Host::parse(&name).as_ref() == Ok(&self.target.host) => Some(Ok(())),
                First::Tls(Some(name)) => Some(Err(Misnamed::Other(name, self.target.clone()))),
                // An address is no name a hello could hold (RFC 6066 §3).
                First::Tls(None) if due && self.target.host.name().is_some() => Some(Err(Misnamed::Nameless)),
                First::Tls(None) => Some(Ok(())),
                First::BadTls(why) => Some(Err(Misnamed::Unreadable(why))),
                First::Http1(_) | First::Http2 | First::Other => None,
            },
            _ if due => Some(Err(Misnamed::Plain)),
            _ => Some(Ok(())),
        }
    }

    fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            if Pin::new(&mut *wire).poll_read(cx, &mut chunk)?.is_pending() {
                if let Some(deadline) = &mut self.deadline {
                    ready!(deadline.as_mut().poll(cx));
                    return Poll::Ready(Err(io::Error::other(Misnamed::Late)));
                }
                return Poll::Pending;
            }
            let came = chunk.filled();
            if came.is_empty() {
                // An end before anything was said harms nobody; half a hello leads nowhere.
                let nothing = self.seen.is_empty();
                return Poll::Ready(if nothing {
                    Ok(())
                } else {
                    Err(io::Error::other(Misnamed::Late))
                });
            }
            self.seen.extend_from_slice(came);
            if let Some(judged) = self.judge(came) {
                wire.put_back(std::mem::take(&mut self.seen).freeze());
                return Poll::Ready(judged.map_err(io::Error::other));
            }
        }
    }
}

impl AsyncRead for Named {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(look) = &mut this.look {
            ready!(look.poll(&mut this.wire, cx))?;
            this.look = None;
        }
        Pin::new(&mut this.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Named {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Named").finish_non_exhaustive()
    }
}
