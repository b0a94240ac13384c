//! Host names and targets, brought to one spelling before anything compares them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A host in its one canonical spelling: a lower-case ASCII name without trailing dot, or an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name: lower case, A-labels, no trailing dot, at most 253 octets (RFC 1035 §2.3.4).
    Name(Arc<str>),
    /// An address; a v4-mapped IPv6 address is held as IPv4.
    Ip(IpAddr),
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// Nothing there.
    #[error("the host is empty")]
    Empty,
    /// A byte that belongs in no host: controls, space, `%`, `@`, `/`, `\` and their kin.
    #[error("the host holds a character that no host name has")]
    Character,
    /// An empty label, one over 63 octets, or a name over 253.
    #[error("the host name has an empty or overlong label")]
    Label,
    /// Looks like an address but is none, or IDNA refuses it.
    #[error("the host is neither a valid name nor a valid address")]
    Invalid,
    /// The port is missing where one is due, or is no number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl Host {
    /// Reads a host as a client may write it: any case, one trailing dot, IDNA, every IPv4
    /// spelling the WHATWG URL standard knows, IPv6 with or without brackets.
    ///
    /// # Errors
    /// When it holds a character no host has, an empty or overlong label, or is otherwise invalid.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Err(BadHost::Empty);
        }
        if let Some(name) = plain_name(text) {
            return Ok(name);
        }
        if text
            .bytes()
            .any(|b| b <= b' ' || b == 0x7f || b"%@/\\?#<>^|`{}\"".contains(&b))
        {
            return Err(BadHost::Character);
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Some(v6) = bare.or_else(|| text.contains(':').then_some(text)) {
            let address: Ipv6Addr = v6.parse().map_err(|_| BadHost::Invalid)?;
            return Ok(Self::from(IpAddr::V6(address)));
        }
        match url::Host::parse(text).map_err(|_| BadHost::Invalid)? {
            url::Host::Ipv4(address) => Ok(Self::Ip(address.into())),
            url::Host::Ipv6(address) => Ok(Self::from(IpAddr::V6(address))),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                check_labels(name)?;
                Ok(Self::Name(name.into()))
            }
        }
    }

    /// The name, when it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// The address, when it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }
}

/// The common case without allocation beyond the name itself: ASCII letters, digits, `-`, `_` and
/// dots, with a last label that cannot be read as a number.
fn plain_name(text: &str) -> Option<Host> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let last = text.rsplit('.').next()?;
    let numeric = last.as_bytes().first().is_none_or(u8::is_ascii_digit);
    let encoded = |label: &str| label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    if !text.bytes().all(ascii) || numeric || text.split('.').any(encoded) {
        return None;
    }
    check_labels(text).ok()?;
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(Host::Name(text.to_ascii_lowercase().into()));
    }
    Some(Host::Name(text.into()))
}

fn check_labels(name: &str) -> Result<(), BadHost> {
    if name.is_empty() || name.len() > 253 || name.split('.').any(|l| l.is_empty() || l.len() > 63) {
        return Err(BadHost::Label);
    }
    Ok(())
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl From<Ipv4Addr> for Host {
    fn from(ip: Ipv4Addr) -> Self {
        Self::Ip(ip.into())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the agent asked to go. Never resolved, never trusted.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The host, in its canonical spelling.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

impl Target {
    /// Joins a host and a port.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Reads `host:port` or `host`; without a port `default_port` stands, and where that is `None`
    /// (a CONNECT, RFC 9110 §9.3.6) the port must be there. User information is refused.
    ///
    /// # Errors
    /// When the host is no host, or the port no port.
    pub fn parse(authority: &str, default_port: Option<u16>) -> Result<Self, BadHost> {
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None => default_port.ok_or(BadHost::Port)?,
        };
        Ok(Self::new(Host::parse(host)?, port))
    }
}

/// Splits `host[:port]`, leaving an IPv6 address in its brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), BadHost> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(BadHost::Invalid)?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(BadHost::Invalid),
        };
    }
    match authority.split_once(':') {
        // A bare IPv6 address in an authority is ambiguous (RFC 3986 §3.2.2): refused.
        Some((_, port)) if port.contains(':') => Err(BadHost::Invalid),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

pub(super) fn parse_port(text: &str) -> Result<u16, BadHost> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { text.parse().unwrap_or(0) } else { 0 };
    if port == 0 { Err(BadHost::Port) } else { Ok(port) }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_host_becomes_one() {
        for (text, canonical) in [
            ("ALLOWED.test", "allowed.test"),
            ("allowed.test.", "allowed.test"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("xN--bcher-kva.example", "xn--bcher-kva.example"),
            ("a_b.test", "a_b.test"),
            ("2130706433", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("①②⑦.0.0.1", "127.0.0.1"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("::1", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(
                Host::parse(text).map(|h| h.to_string()),
                Ok(canonical.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_no_host_can_be_is_refused() {
        let long_label = format!("{}.test", "a".repeat(64));
        let long_name = vec!["abcdefg"; 33].join(".");
        for text in [
            "",
            ".",
            "a..b",
            "15..",
            "15.\u{3002}",
            "xN--ea.test",
            ".a",
            "a b",
            "a\0b",
            "a%2eb",
            "a@b",
            "a/b",
            "a\\b",
            "a\tb",
            "[fe80::1%25lo]",
            "[::1",
            "1.2.3.4.5",
            "256.1.1.1",
            "a.0x",
            "0x7g.1",
            &long_label,
            &long_name,
        ] {
            assert!(Host::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_target_needs_a_port_unless_there_is_a_default() {
        assert_eq!(Target::parse("a.test", None), Err(BadHost::Port));
        assert_eq!(Target::parse("a.test", Some(443)).map(|t| t.port), Ok(443));
        for bad in [
            "a.test:",
            "a.test:0",
            "a.test:65536",
            "a.test:+5",
            "a.test:4 3",
            "u@a.test:1",
            "::1:443",
            "[::1]443",
        ] {
            assert!(Target::parse(bad, Some(443)).is_err(), "{bad}");
        }
        assert_eq!(
            Target::parse("[::1]:443", None).map(|t| t.to_string()),
            Ok("[::1]:443".into())
        );
    }
}
