//! Names to addresses, once for each connection made.

use super::Error;
use crate::base::host::{Host, Target};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use tokio::sync::Semaphore;

/// Names that are asked after at one time. Each holds a thread of those that all blocking work of this process shares,
/// for as long as the resolver takes, even when nobody waits for the answer any more: a resolver that says nothing must
/// not take them all.
static ASKING: Semaphore = Semaphore::const_new(128);

/// Every address of `target`, as the system resolver has them.
///
/// # Errors
/// When the name has no address.
pub(super) async fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Error> {
    let name = match &target.host {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, target.port)]),
        Host::Name(name) => name,
    };
    // The trailing dot keeps the resolver from trying the machine's search domains.
    let absolute = if name.contains('.') {
        format!("{name}.")
    } else {
        name.to_string()
    };
    let failed = |e| Error::Resolve(target.clone(), e);
    let asking = ASKING.acquire().await.map_err(|e| failed(io::Error::other(e)))?;
    let port = target.port;
    let asked = tokio::task::spawn_blocking(move || {
        let _asking = asking;
        #[expect(clippy::disallowed_methods, reason = "the one place that resolves")]
        Ok((absolute.as_str(), port).to_socket_addrs()?.collect::<Vec<_>>())
    });
    let found = asked.await.unwrap_or_else(|e| Err(e.into())).map_err(failed)?;
    if found.is_empty() {
        let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        return Err(Error::Resolve(target.clone(), none));
    }
    Ok(found)
}
