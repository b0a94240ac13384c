//! Which addresses may be dialled. An address that passes becomes [`Routable`], and dialling takes
//! nothing else.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address the guard let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routable(SocketAddr);

impl Routable {
    /// The address.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl Routable {
    /// An address of a parent proxy: the operator named it, so there is nothing to judge.
    pub(super) fn parent(address: SocketAddr) -> Self {
        Self(address)
    }
}

/// Lets public addresses through, and those of networks that the operator allowed.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<IpNet>,
}

impl Guard {
    /// Allows `networks` beside what is public.
    pub fn new(networks: &[IpNet]) -> Self {
        Self {
            allowed: networks.to_vec(),
        }
    }

    /// Judges one address.
    ///
    /// # Errors
    /// The kind of address it is, when it may not be dialled.
    pub fn judge(&self, address: SocketAddr) -> Result<Routable, &'static str> {
        let ip = address.ip().to_canonical();
        let canonical = Routable(SocketAddr::new(ip, address.port()));
        match special(ip) {
            Some(kind) if !self.allowed.iter().any(|net| net.contains(&ip)) => Err(kind),
            _ => Ok(canonical),
        }
    }
}

/// What is special about an address (IANA special-purpose registries, RFC 6890), or `None` for a public one.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => "an address of \"this network\"",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (100, 64..=127, _) => "a carrier-grade NAT address",
        (127, ..) => "a loopback address",
        (169, 254, _) => "a link-local address, where cloud metadata services live",
        (192, 0, 0) => "a protocol-assignment address",
        (192, 88, 99) => "a 6to4 relay address",
        (198, 18..=19, _) => "a benchmarking address",
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, d, e, f, ..] = ip.segments();
    Some(match (a, b) {
        _ if ip.is_loopback() => "a loopback address",
        _ if ip.is_unspecified() => "the unspecified address",
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0) => "an IPv4-compatible address",
        (0x64, 0xff9b) => "a NAT64 address, which stands for an IPv4 address",
        (0x100, 0) if (c, d) == (0, 0) => "a discard-only address",
        (0x2001, 0) => "a Teredo address, which stands for an IPv4 address",
        (0x2001, 1..=0x1ff) => "a protocol-assignment address",
        (0x2002, _) => "a 6to4 address, which stands for an IPv4 address",
        (0x5f00, _) => "a segment-routing address",
        (0xfc00..=0xfdff, _) => "a unique local address",
        (0xfe80..=0xfebf, _) => "a link-local address",
        (0xfec0..=0xfeff, _) => "a site-local address",
        (0xff00..=0xffff, _) => "a multicast address",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_public_addresses_pass_unless_allowed() {
        let guard = Guard::default();
        for ip in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(guard.judge(SocketAddr::new(ip.parse().unwrap(), 443)).is_err(), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "2a00::1",
            // Documentation addresses lead nowhere, or to a gateway of this network's that hosts are mapped to.
            "203.0.113.80",
        ] {
            assert!(guard.judge(SocketAddr::new(ip.parse().unwrap(), 443)).is_ok(), "{ip}");
        }
        let guard = Guard::new(&["127.0.0.0/8".parse().unwrap()]);
        assert!(guard.judge("127.0.0.1:1".parse().unwrap()).is_ok());
        assert!(guard.judge("[::ffff:127.0.0.1]:1".parse().unwrap()).is_ok());
        assert!(guard.judge("10.0.0.1:1".parse().unwrap()).is_err());
    }
}
