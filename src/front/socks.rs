//! SOCKS5 (RFC 1928) with user name and password (RFC 1929), as pure readers. Each is given all bytes so far and
//! says what they are, that more are due, or that they are no such message. They consume what they name and no more.

use crate::base::host::{BadHost, Host, Target};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The version byte of SOCKS5: what tells it from HTTP and from TLS.
pub const VERSION: u8 = 5;
/// The version byte of SOCKS4 and 4a.
pub const VERSION_4: u8 = 4;
/// Bytes in the longest message: a user name and a password of 255 each.
pub const LONGEST: usize = 513;

/// A message with the bytes it took, or `None` while more are due.
pub type Part<T> = Result<Option<(T, usize)>, Error>;

/// How a client offers to be known (RFC 1928 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Methods {
    /// It would show nothing.
    pub nothing: bool,
    /// It would show a user name and a password.
    pub password: bool,
}

/// Why bytes are no SOCKS5 request for a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It names no agent and, before 4a, no host.
    #[error("this is SOCKS4; use SOCKS5, as socks5h://")]
    Version4,
    /// The text says why.
    #[error("{0}")]
    Malformed(&'static str),
    /// A command that opens no connection.
    #[error("SOCKS {0} is not forwarded: only CONNECT is")]
    Command(&'static str),
    /// An address of a kind that RFC 1928 §5 does not know.
    #[error("the SOCKS address is neither a name nor an IPv4 or IPv6 address")]
    AddressType,
    /// What it names is no host and port.
    #[error("{0}")]
    Host(#[from] BadHost),
}

/// The first message: the version and the methods offered.
///
/// # Errors
/// When it is no SOCKS5, or offers no method at all.
pub fn methods(seen: &[u8]) -> Part<Methods> {
    let mut rest = Cursor(seen);
    match rest.byte() {
        None => return Ok(None),
        Some(VERSION) => {}
        Some(VERSION_4) => return Err(Error::Version4),
        Some(_) => return Err(Error::Malformed("this listener speaks SOCKS5")),
    }
    let Some(methods) = rest.counted() else { return Ok(None) };
    if methods.is_empty() {
        return Err(Error::Malformed("the SOCKS client offers no way to be known"));
    }
    let offered = Methods {
        nothing: methods.contains(&0),
        password: methods.contains(&2),
    };
    Ok(Some((offered, rest.taken(seen))))
}

/// The password of a login (RFC 1929 §2). The user name says nothing: the token alone tells who it is.
///
/// # Errors
/// When it is of another version than 1.
pub fn password(seen: &[u8]) -> Part<Vec<u8>> {
    let mut rest = Cursor(seen);
    match rest.byte() {
        None => return Ok(None),
        Some(1) => {}
        Some(_) => return Err(Error::Malformed("the SOCKS login is not of version 1")),
    }
    let both = rest.counted().and_then(|_user| rest.counted());
    Ok(both.map(|password| (password.to_vec(), rest.taken(seen))))
}

/// Where a CONNECT leads (RFC 1928 §4).
///
/// # Errors
/// When it is another command, or names no host and port.
pub fn connect(seen: &[u8]) -> Part<Target> {
    let mut rest = Cursor(seen);
    let Some([version, command, reserved, kind]) = rest.array() else {
        return Ok(None);
    };
    if version != VERSION || reserved != 0 {
        return Err(Error::Malformed("the SOCKS request is not of version 5"));
    }
    let host = match kind {
        1 => rest
            .array()
            .map(|octets: [u8; 4]| Ok(Host::from(Ipv4Addr::from(octets)))),
        4 => rest
            .array()
            .map(|octets: [u8; 16]| Ok(Host::from(std::net::IpAddr::V6(Ipv6Addr::from(octets))))),
        // A NUL, a control or any other byte that no host has is refused there.
        3 => rest
            .counted()
            .map(|name| Host::parse(std::str::from_utf8(name).map_err(|_| BadHost::Character)?)),
        _ => return Err(Error::AddressType),
    };
    let (Some(host), Some(port)) = (host, rest.array().map(u16::from_be_bytes)) else {
        return Ok(None);
    };
    match command {
        1 => {}
        2 => return Err(Error::Command("BIND")),
        3 => return Err(Error::Command("UDP ASSOCIATE")),
        _ => return Err(Error::Command("that command")),
    }
    if port == 0 {
        return Err(BadHost::Port.into());
    }
    Ok(Some((Target::new(host?, port), rest.taken(seen))))
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// So many bytes as the first of them says.
    fn counted(&mut self) -> Option<&'a [u8]> {
        let count = usize::from(self.byte()?);
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn taken(&self, seen: &[u8]) -> usize {
        seen.len() - self.0.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// A request of `command` for an address of `kind`.
    fn asked(command: u8, kind: u8, address: &[u8], port: u16) -> Vec<u8> {
        [&[5, command, 0, kind], address, &port.to_be_bytes()].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        asked(1, 3, &[&[u8::try_from(name.len()).unwrap()], name].concat(), 443)
    }

    #[test]
    fn a_message_is_read_only_when_it_is_whole_and_takes_only_its_own_bytes() {
        let greeting = [5, 2, 0, 2, b'x'];
        let login = [1, 2, b'm', b'e', 3, b'k', b'e', b'y', b'x'];
        let request = [named(b"A.test."), b"x".to_vec()].concat();
        for end in 0..4 {
            assert_eq!(methods(&greeting[..end]), Ok(None));
        }
        for end in 0..8 {
            assert_eq!(password(&login[..end]), Ok(None));
        }
        for end in 0..request.len() - 1 {
            assert_eq!(connect(&request[..end]), Ok(None));
        }
        let both = Methods {
            nothing: true,
            password: true,
        };
        assert_eq!(methods(&greeting), Ok(Some((both, 4))));
        assert_eq!(password(&login), Ok(Some((b"key".to_vec(), 8))));
        let target = Target::parse("a.test:443", None).unwrap();
        assert_eq!(connect(&request), Ok(Some((target, request.len() - 1))));
    }

    #[test]
    fn addresses_and_names_lead_to_one_target() {
        let target = |bytes: &[u8]| connect(bytes).unwrap().unwrap().0.to_string();
        assert_eq!(target(&asked(1, 1, &[127, 0, 0, 1], 80)), "127.0.0.1:80");
        let v6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap();
        assert_eq!(target(&asked(1, 4, &v6.octets(), 443)), "[2001:db8::1]:443");
        let mapped = "::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap();
        assert_eq!(target(&asked(1, 4, &mapped.octets(), 443)), "10.0.0.1:443");
        assert_eq!(target(&named(b"0x7f.1")), "127.0.0.1:443");
    }

    #[test]
    fn what_opens_no_connection_is_refused() {
        assert_eq!(methods(&[4, 1]), Err(Error::Version4));
        assert!(matches!(methods(b"GET / HTTP/1.1"), Err(Error::Malformed(_))));
        assert!(matches!(methods(&[5, 0]), Err(Error::Malformed(_))));
        assert!(matches!(password(&[5, 0, 0]), Err(Error::Malformed(_))));
        let v4 = [127, 0, 0, 1];
        for command in [0, 2, 3, 9] {
            assert!(matches!(connect(&asked(command, 1, &v4, 80)), Err(Error::Command(_))));
        }
        assert_eq!(connect(&asked(1, 2, &v4, 80)), Err(Error::AddressType));
        assert_eq!(connect(&asked(1, 1, &v4, 0)), Err(Error::Host(BadHost::Port)));
        assert!(matches!(connect(&[5, 1, 1, 1]), Err(Error::Malformed(_))));
        for name in [
            &b""[..],
            b"evil.test\0.a.test",
            b"a.test:443",
            b"a b",
            b"a%2eb",
            b"u@a.test",
            b"\xff.test",
            b"a..test",
        ] {
            assert!(matches!(connect(&named(name)), Err(Error::Host(_))), "{name:?}");
        }
    }
}
