//! Names to addresses, once for each connection made.

use super::Error;
use crate::base::host::{Host, Target};
use std::net::SocketAddr;

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
    #[expect(clippy::disallowed_methods, reason = "the one place that resolves")]
    let found = tokio::net::lookup_host((absolute.as_str(), target.port)).await;
    let found: Vec<SocketAddr> = found.map_err(|e| Error::Resolve(target.clone(), e))?.collect();
    if found.is_empty() {
        let none = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        return Err(Error::Resolve(target.clone(), none));
    }
    Ok(found)
}
