//! The TLS that a listener itself speaks.

use crate::base::host::Host;
use crate::base::wire::Wire;
use crate::ca::authority::Authority;
use crate::ca::leaves::Leaves;
use crate::identity::Shown;
use crate::listen::bound::Local;
use anyhow::Result;
use rustls::server::Acceptor;
use std::sync::Arc;
use tokio_rustls::LazyConfigAcceptor;

/// The TLS of an HTTPS proxy.
#[derive(Debug, Clone)]
pub(super) struct OwnTls {
    /// What it is called by those that name no host.
    host: Host,
    /// Apart from those of the hosts that agents reach: here anybody may name anything.
    leaves: Arc<Leaves>,
}

/// Leaves kept for the names that agents know an HTTPS proxy by; one or two are in use.
const OWN_LEAVES: usize = 16;

impl OwnTls {
    pub(super) fn new(local: &Local, authority: &Arc<Authority>) -> Result<Self> {
        Ok(Self {
            host: own_host(local)?,
            leaves: Arc::new(Leaves::new(Arc::clone(authority), OWN_LEAVES)?),
        })
    }

    /// Shows a leaf of our own CA for whatever name the agent knows this proxy by: the agent
    /// itself judges whether that is the name it meant. Where agents are known by certificates, `asks` for one.
    pub(super) async fn handshake(&self, wire: Wire, asks: bool) -> std::io::Result<(Wire, Option<Shown>)> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), wire).await?;
        let named = start
            .client_hello()
            .server_name()
            .and_then(|name| Host::parse(name).ok());
        let host = named.as_ref().unwrap_or(&self.host);
        let config = if asks {
            self.leaves.server_config_asking(host).await
        } else {
            self.leaves.server_config(host).await
        };
        let stream = start.into_stream(config.map_err(std::io::Error::other)?).await?;
        let shown = Shown::new(stream.get_ref().1.peer_certificates());
        Ok((Wire::new(stream), shown))
    }
}

/// What a listener is called by those that connect to an address and so name no host.
fn own_host(local: &Local) -> Result<Host> {
    match local {
        Local::Tcp(address) if !address.ip().is_unspecified() => Ok(Host::from(address.ip())),
        Local::Tcp(_) | Local::Unix(_) | Local::Vsock(_) => Ok(Host::parse("localhost")?),
    }
}
