//! Whose process is on the other side of a loopback TCP connection, as the kernel's tables have it.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// A connection's end, as those tables have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    uid: u32,
    inode: u64,
}

/// The uid that owns the other end of a connection from `peer` to `local`, both on this machine.
/// `None` where the tables do not have it.
///
/// The tables are read whole, some microseconds for each hundred sockets; so this is for listeners
/// of one command, not for busy ones.
pub fn uid(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    end(peer, local).map(|end| end.uid)
}

/// Whether a connection from `peer` that was going to `original` is one that this very process made, and some
/// firewall brought back to it.
pub fn is_own(peer: SocketAddr, original: SocketAddr) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    let Some(End { inode, .. }) = end(peer, original).filter(|end| end.uid == ours) else {
        return false;
    };
    let name = format!("socket:[{inode}]");
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.as_os_str() == name.as_str())
}

fn end(peer: SocketAddr, local: SocketAddr) -> Option<End> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    // A program with an IPv6 socket, as Java's are, reaches an IPv4 address by its mapped spelling.
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    look("/proc/self/net/tcp", plain(peer), plain(local))
        .or_else(|| look("/proc/self/net/tcp6", mapped(peer), mapped(local)))
}

fn look(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<End> {
    let text = fs::read_to_string(table).ok()?;
    let (theirs, ours) = (spelled(peer), spelled(local));
    text.lines().skip(1).find_map(|line| row(line, &theirs, &ours))
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode …`, as proc(5) says.
fn row(line: &str, theirs: &str, ours: &str) -> Option<End> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != theirs || fields.next()? != ours {
        return None;
    }
    let uid = fields.nth(4)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(End { uid, inode })
}

/// The address as those tables spell it: 32-bit words in the machine's byte order, in hex.
fn spelled(address: SocketAddr) -> String {
    let words = |octets: &[u8]| -> String {
        let chunks = octets
            .chunks_exact(4)
            .filter_map(|chunk| <[u8; 4]>::try_from(chunk).ok());
        chunks
            .map(|chunk| format!("{:08X}", u32::from_ne_bytes(chunk)))
            .collect()
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{ip}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_owner_of_a_connection_is_found_and_of_none_is_not() {
        for (bind, reach) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("127.0.0.1:0", "::ffff:127.0.0.1"),
        ] {
            let listener = TcpListener::bind(bind).unwrap();
            let local = listener.local_addr().unwrap();
            let reach: IpAddr = reach.parse().unwrap();
            let _ours = std::net::TcpStream::connect((reach, local.port())).unwrap();
            let (_theirs, peer) = listener.accept().unwrap();
            assert_eq!(uid(peer, local), Some(rustix::process::getuid().as_raw()), "{bind}");
            assert_eq!(uid(local, local), None);
            assert!(is_own(peer, local), "this process made it: {bind}");
            assert!(!is_own(local, local));
        }
    }
}
