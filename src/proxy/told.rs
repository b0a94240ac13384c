//! A load balancer's word for who is behind it, from networks that the operator listed and no others.

use super::fault::Fault;
use super::live::Proxy;
use super::recorded::Entry;
use crate::base::peer::Peer;
use crate::base::wire::Wire;
use crate::front::proxy_protocol::{self, Error, Told};
use http::StatusCode;
use ipnet::IpNet;

/// Who is really on the other side: whoever a header tells of, where one is due. `None` where it is due and missing, or
/// tells nothing; then there is a record, and the connection is to be closed.
pub async fn peer(proxy: &Proxy, wire: &mut Wire, peer: Peer, networks: &[IpNet]) -> Option<Peer> {
    let Peer::Tcp(balancer) = peer else { return Some(peer) };
    let ip = balancer.ip().to_canonical();
    if !networks.iter().any(|network| network.contains(&ip)) {
        return Some(peer);
    }
    let head_time = proxy.live().config.limits.head_time;
    let message = wire.message(proxy_protocol::LONGEST, proxy_protocol::read);
    let why = match proxy.first(head_time, message).await {
        Some(Ok(Ok(Some(Told::Client(client))))) => return Some(Peer::Tcp(client)),
        Some(Ok(Ok(Some(Told::Own)))) => return Some(peer),
        Some(Ok(Err(error))) => error,
        // It ended, or nothing more came, before it was whole. Balancers that only look whether we listen do so.
        Some(Ok(Ok(None)) | Err(_)) | None => Error::Malformed,
    };
    let mut entry = Entry::begin(proxy);
    entry.record.peer = Some(peer.to_string().into());
    let mut fault = Fault::refused(StatusCode::BAD_REQUEST, "proxy_header_refused", why.to_string());
    entry.faulted(&mut fault);
    None
}
