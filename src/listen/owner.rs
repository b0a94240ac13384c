//! Whose process is on the other side of a loopback TCP connection, as the kernel's tables have it.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The uid that owns the other end of a connection from `peer` to `local`, both on this machine.
/// `None` where the tables do not have it.
///
/// The tables are read whole, some microseconds for each hundred sockets; so this is for listeners
/// of one command, not for busy ones.
pub fn uid(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    // A program with an IPv6 socket, as Java's are, reaches an IPv4 address by its mapped spelling.
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    look("/proc/self/net/tcp", peer, local).or_else(|| look("/proc/self/net/tcp6", mapped(peer), mapped(local)))
}

fn look(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let text = fs::read_to_string(table).ok()?;
    let (theirs, ours) = (spelled(peer), spelled(local));
    text.lines().skip(1).find_map(|line| row(line, &theirs, &ours))
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid …`, as proc(5) says.
fn row(line: &str, theirs: &str, ours: &str) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let is_it = fields.next()? == theirs && fields.next()? == ours;
    if is_it { fields.nth(4)?.parse().ok() } else { None }
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
        }
    }
}
