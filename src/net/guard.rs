//! Which addresses may be dialled. An address that passes becomes [`Routable`], and dialling takes
//! nothing else.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

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
    only: Option<IpAddr>,
}

impl Guard {
    /// Allows `networks` beside what is public.
    pub fn new(networks: &[IpNet]) -> Self {
        Self {
            allowed: networks.to_vec(),
            only: None,
        }
    }

    /// Lets this address through and no other: that of a service which Keyferry asks for itself, and agents never reach.
    pub(super) fn only(address: IpAddr) -> Self {
        Self {
            allowed: Vec::new(),
            only: Some(address),
        }
    }

    /// Judges one address. One that stands for another, as those of NAT64 do, must pass as both.
    ///
    /// # Errors
    /// The kind of address it is, when it may not be dialled.
    pub fn judge(&self, address: SocketAddr) -> Result<Routable, &'static str> {
        let ip = address.ip().to_canonical();
        self.pass(ip)?;
        if let Some(inner) = inner(ip) {
            self.pass(IpAddr::V4(inner))?;
        }
        Ok(Routable(SocketAddr::new(ip, address.port())))
    }

    fn pass(&self, ip: IpAddr) -> Result<(), &'static str> {
        if self.allowed.iter().any(|net| net.contains(&ip)) || self.only == Some(ip) {
            return Ok(());
        }
        if self.only.is_some() {
            return Err("another address than that of the service");
        }
        match special(ip) {
            Some(kind) => Err(kind),
            // A public address of our own leads to services that a firewall before us hides from everybody else.
            None if is_here(ip) => Err("an address of this machine"),
            None => Ok(()),
        }
    }
}

/// Whether an address is one of this machine's own interfaces, as they are now. Nothing is sent: connecting a datagram
/// socket only asks the kernel for the route, and to itself a machine goes from the very address, or over loopback.
pub fn is_here(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        _ if ip.is_unspecified() => return true,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let route = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    route().is_ok_and(|local| local.ip() == ip || local.ip().is_loopback())
}

/// What is special about an address, or `None` for one that is globally reachable: IANA's special-purpose registries
/// for IPv4 and IPv6 (RFC 6890, as of 2026), with multicast and what is not allocated at all.
///
/// Documentation addresses pass: no host is behind one, but some networks map hosts to a gateway there. The few
/// anycast services inside `192.0.0.0/24` and `2001::/23` that are globally reachable do not: none speaks HTTP.
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
        (0, 0) if (c, d, e, f) == (0, 0, 0xffff, 0) => "an IPv4-translated address",
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
        // RFC 5214 §6.1, with the bit for "global" or without.
        _ if matches!((e, f), (0 | 0x200, 0x5efe)) => "an ISATAP address, which stands for an IPv4 address",
        // IANA allocates global unicast from 2000::/3 alone.
        (0x2000..=0x3fff, _) => return None,
        _ => "an address that is not allocated",
    })
}

/// The IPv4 address that a translator on the way would make of an IPv6 one, where its place is known: NAT64's
/// well-known prefix (RFC 6052 §2.1) and 6to4 (RFC 3056 §2).
fn inner(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let (high, low) = match (a, b) {
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => (g, h),
        (0x2002, high) => (high, c),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn judged(guard: &Guard, ip: &str) -> Result<Routable, &'static str> {
        guard.judge(SocketAddr::new(ip.parse().unwrap(), 443))
    }

    #[test]
    fn only_public_addresses_pass_unless_allowed() {
        let guard = Guard::default();
        // The first and the last address of each range, and what is of note inside.
        for ip in [
            "0.0.0.0 0.0.0.1 0.255.255.255",
            "10.0.0.0 10.1.2.3 10.255.255.255",
            "100.64.0.0 100.100.100.200 100.127.255.255",
            "127.0.0.0 127.0.0.1 127.255.255.255",
            "169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255",
            "172.16.0.0 172.31.255.255",
            "192.0.0.0 192.0.0.8 192.0.0.9 192.0.0.170 192.0.0.192 192.0.0.255",
            "192.88.99.0 192.88.99.255",
            "192.168.0.0 192.168.255.255",
            "198.18.0.0 198.19.255.255",
            "224.0.0.0 224.0.0.1 239.255.255.255",
            "240.0.0.0 255.255.255.254 255.255.255.255",
            ":: ::1 ::2",
            "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::ffff:255.255.255.255",
            "::7f00:1 ::8.8.8.8 ::a9fe:a9fe",
            "::ffff:0:7f00:1 ::ffff:0:8.8.8.8 ::fffe:8.8.8.8 ::1:0:0:0",
            "64:ff9b:: 64:ff9b::7f00:1 64:ff9b::8.8.8.8 64:ff9b::ffff:ffff 64:ff9b::1:0:0",
            "64:ff9b:1:: 64:ff9b:1::7f00:1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 64:ff9b:2::",
            "64:: 100:: 100::1 100:0:0:1::1 100:1:: 200::",
            "2001:: 2001:0:7f00:1:: 2001:0:ffff:ffff:ffff:ffff:80ff:fffe",
            "2001:1::1 2001:2:: 2001:2:0:ffff:: 2001:3::1 2001:4:112::1 2001:10::1 2001:20::1 2001:30::1 2001:1ff::1",
            "2002:: 2002:7f00:1:: 2002:0808:0808::1 2002:ffff:ffff::",
            "2606:4700::5efe:7f00:1 2606:4700::200:5efe:7f00:1",
            "4000:: 5f00:: 5f00::1 8000:: e000:: fbff:: 1fff:ffff::",
            "fc00:: fc00::1 fd00:ec2::254 fdff:ffff::",
            "fe00:: fe7f:: fe80:: fe80::1 febf:: fec0:: fec0::1 feff::",
            "ff00:: ff02::1 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ]
        .into_iter()
        .flat_map(|line| line.split(' '))
        {
            assert!(judged(&guard, ip).is_err(), "{ip}");
        }
        for ip in [
            "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0",
            "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.88.98.255 192.88.100.0",
            "192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255",
            "::ffff:8.8.8.8 2001:200:: 2001:4860:4860::8888 2003:: 2606:4700::1 2620:fe::fe 2a00::1 3ffe::1",
            // Documentation addresses lead nowhere, or to a gateway of this network's that hosts are mapped to.
            "192.0.2.1 198.51.100.1 203.0.113.80 2001:db8::1 3fff::1",
        ]
        .into_iter()
        .flat_map(|line| line.split(' '))
        {
            assert!(judged(&guard, ip).is_ok(), "{ip}");
        }
    }

    #[test]
    fn an_allowed_network_lets_in_itself_and_nothing_behind_it() {
        let guard = Guard::new(&["127.0.0.0/8".parse().unwrap()]);
        assert!(judged(&guard, "127.0.0.1").is_ok());
        assert!(judged(&guard, "::ffff:127.0.0.1").is_ok());
        assert!(judged(&guard, "10.0.0.1").is_err());
        assert!(judged(&guard, "64:ff9b::7f00:1").is_err());
        // A network with NAT64 reaches the world through it, and not what is inside.
        let guard = Guard::new(&["64:ff9b::/96".parse().unwrap(), "2002::/16".parse().unwrap()]);
        for (ip, passes) in [
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b::169.254.169.254", false),
            ("64:ff9b::10.0.0.1", false),
            ("2002:808:808::1", true),
            ("2002:7f00:1::1", false),
            ("2002:a9fe:a9fe::1", false),
        ] {
            assert_eq!(judged(&guard, ip).is_ok(), passes, "{ip}");
        }
    }

    #[test]
    fn a_guard_for_one_address_passes_that_one_alone() {
        let guard = Guard::only("169.254.169.254".parse().unwrap());
        for (ip, passes) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("169.254.169.253", false),
            ("127.0.0.1", false),
            ("8.8.8.8", false),
            ("64:ff9b::169.254.169.254", false),
        ] {
            assert_eq!(judged(&guard, ip).is_ok(), passes, "{ip}");
        }
    }

    #[test]
    fn what_is_here_is_told_from_what_is_elsewhere() {
        for (ip, here) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("0.0.0.0", true),
            ("::", true),
            ("192.0.2.1", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(is_here(ip.parse().unwrap()), here, "{ip}");
        }
    }
}
