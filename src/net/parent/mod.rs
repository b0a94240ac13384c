//! Through a parent proxy: it is dialled, shown who we are, and asked for a way to the target. What
//! comes of it is a line like any other, on which TLS with the target is still verified by us.
//!
//! Plain HTTP goes by CONNECT too: so the parent's credential never travels with a request, and no
//! reply can hold it.

mod connect;
mod login;
mod socks;

pub use login::{Login, Logins, NoLogin};

use super::Error;
use super::client_certificate::Verdict;
use super::dial::Dialer;
use super::send::Times;
use super::tls::Tls;
use crate::base::host::Target;
use crate::base::wire::Wire;
use crate::config::parent::{Parent, Speaks};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a parent gave no way to the target. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection to it.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[source] Box<Error>),
    /// What it is to be shown cannot be had.
    #[error(transparent)]
    Login(#[from] NoLogin),
    /// It does not know us, by what it was shown.
    #[error("it does not accept the user and password of `parent_auth`, or wants some where none are configured")]
    Unknown,
    /// It will not.
    #[error("it refuses: {0}")]
    Refused(String),
    /// It would, but has no connection to the target itself.
    #[error("it has no connection to the target: {0}")]
    NoWay(String),
    /// What it says makes no sense.
    #[error("it is no proxy of this kind: {0}")]
    Garbage(&'static str),
    /// It closed, or the connection broke.
    #[error("it broke off: {0}")]
    Broke(#[from] io::Error),
}

/// Opens a way to `target` through `parent`.
pub(super) async fn open(
    dialer: &Dialer,
    tls: &Tls,
    logins: &Logins,
    (parent, target): (&Arc<Parent>, &Target),
    times: &mut Times,
) -> Result<Wire, Error> {
    let asked = dialer.asked_of_parent(target)?;
    let failed = |fault| Error::Parent {
        parent: Arc::clone(parent),
        target: target.clone(),
        fault,
    };
    let unreachable = |error| match error {
        // Of our own making, and no fault of the parent's.
        Error::Loop(_) | Error::Exhausted(..) => error,
        error => failed(Fault::Unreachable(Box::new(error))),
    };
    let tcp = dialer.dial_parent(&parent.address, times).await.map_err(unreachable)?;
    let login = match parent.login {
        Some(id) => Some(logins.of(id).await.map_err(|e| failed(e.into()))?),
        None => None,
    };
    let start = Instant::now();
    let way = Way {
        speaks: parent.speaks,
        asked: &asked,
        login: login.as_ref(),
    };
    let line = match parent.speaks {
        Speaks::Https => {
            let secured = tls
                .handshake(&parent.address, tcp, true, (None, &Verdict::default()))
                .await
                .map_err(unreachable)?;
            way.ask(secured).await
        }
        Speaks::Http | Speaks::Socks5 => way.ask(tcp).await,
    };
    times.connect += start.elapsed();
    line.map_err(failed)
}

/// What a parent is asked for, and how.
struct Way<'a> {
    speaks: Speaks,
    asked: &'a Target,
    login: Option<&'a Login>,
}

impl Way<'_> {
    async fn ask<S>(&self, mut stream: S) -> Result<Wire, Fault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let ahead = match self.speaks {
            Speaks::Http | Speaks::Https => connect::ask(&mut stream, self.asked, self.login).await?,
            Speaks::Socks5 => {
                socks::ask(&mut stream, self.asked, self.login).await?;
                Bytes::new()
            }
        };
        Ok(Wire::with_ahead(ahead, stream))
    }
}
