//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`), as a pure reader: what a load balancer tells of
//! the client behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a header of version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// How a header of version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// Bytes in the longest line of version 1 (§2.1), its end included.
const LONGEST_LINE: usize = 107;
/// Bytes after the fixed part of version 2 that are put up with: addresses and what a balancer tells besides.
const LONGEST_REST: usize = 4096;
/// Bytes in the longest header.
pub const LONGEST: usize = SIGNATURE.len() + 4 + LONGEST_REST;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The connection is that of a client with this address.
    Client(SocketAddr),
    /// The connection is the balancer's own, such as a health check.
    Own,
}

/// Why a header tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none.
    #[error("the connection does not begin with a PROXY header")]
    Absent,
    /// It breaks off in a place where none may, or says what none can say.
    #[error("the PROXY header is malformed")]
    Malformed,
    /// It goes on for longer than any should.
    #[error("the PROXY header is too long")]
    TooLong,
    /// It tells no IPv4 or IPv6 address and a TCP port.
    #[error("the PROXY header tells of a client without an address")]
    Family,
}

/// Reads a header; `None` while more bytes are due. With it comes how many bytes it took.
///
/// # Errors
/// When it is none, or one that tells nothing.
pub fn read(seen: &[u8]) -> Result<Option<(Told, usize)>, Error> {
    if seen.starts_with(SIGNATURE) {
        return version_2(seen);
    }
    if seen.starts_with(WORD) {
        return version_1(seen);
    }
    if SIGNATURE.starts_with(seen) || WORD.starts_with(seen) {
        return Ok(None);
    }
    Err(Error::Absent)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n` (§2.1).
fn version_1(seen: &[u8]) -> Result<Option<(Told, usize)>, Error> {
    let line = seen.get(..LONGEST_LINE).unwrap_or(seen);
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        return if seen.len() < LONGEST_LINE {
            Ok(None)
        } else {
            Err(Error::TooLong)
        };
    };
    let line = line.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let fields: Vec<&str> = line.ok_or(Error::Malformed)?.split(' ').skip(1).collect();
    let client = match *fields.as_slice() {
        ["UNKNOWN", ..] => return Err(Error::Family),
        ["TCP4", source, destination, from, to] => {
            let (_, _) = (address::<Ipv4Addr>(destination)?, port(to)?);
            SocketAddr::new(IpAddr::V4(address(source)?), port(from)?)
        }
        ["TCP6", source, destination, from, to] => {
            let (_, _) = (address::<Ipv6Addr>(destination)?, port(to)?);
            SocketAddr::new(IpAddr::V6(address(source)?), port(from)?)
        }
        _ => return Err(Error::Malformed),
    };
    Ok(Some((Told::Client(client), end + 2)))
}

fn address<A: std::str::FromStr>(text: &str) -> Result<A, Error> {
    text.parse().map_err(|_| Error::Malformed)
}

fn port(text: &str) -> Result<u16, Error> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Error::Malformed)
}

/// The binary form (§2.2). What follows the addresses is passed over.
fn version_2(seen: &[u8]) -> Result<Option<(Told, usize)>, Error> {
    let Some(rest) = seen.get(SIGNATURE.len()..) else {
        return Ok(None);
    };
    let Some(([command, family, high, low], rest)) = rest.split_first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > LONGEST_REST {
        return Err(Error::TooLong);
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(None);
    };
    let told = match (command, family) {
        (0x20, _) => Told::Own,
        (0x21, 0x11) => {
            let (source, rest) = rest.split_first_chunk::<4>().ok_or(Error::Malformed)?;
            Told::Client(SocketAddr::new(Ipv4Addr::from(*source).into(), source_port(rest, 4)?))
        }
        (0x21, 0x21) => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(Error::Malformed)?;
            Told::Client(SocketAddr::new(Ipv6Addr::from(*source).into(), source_port(rest, 16)?))
        }
        (0x21, _) => return Err(Error::Family),
        _ => return Err(Error::Malformed),
    };
    Ok(Some((told, SIGNATURE.len() + 4 + length)))
}

/// The client's port, after the destination's address and before its port.
fn source_port(rest: &[u8], address: usize) -> Result<u16, Error> {
    match rest.get(address..) {
        Some([high, low, _, _, ..]) => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(Error::Malformed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn v4() -> Vec<u8> {
        binary(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb])
    }

    #[test]
    fn each_version_tells_the_clients_address_and_takes_its_own_bytes() {
        let mut rest = [0; 36];
        rest[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        rest[32..34].copy_from_slice(&56324_u16.to_be_bytes());
        let extra = [&v4()[16..], &[4, 0, 1, 9]].concat();
        for (header, told) in [
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".to_vec(),
                "192.0.2.1:56324",
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::2 56324 443\r\n".to_vec(),
                "[2001:db8::1]:56324",
            ),
            (v4(), "192.0.2.1:56324"),
            (binary(0x21, 0x11, &extra), "192.0.2.1:56324"),
            (binary(0x21, 0x21, &rest), "[2001:db8::1]:56324"),
        ] {
            for end in 0..header.len() {
                assert_eq!(read(&header[..end]), Ok(None), "{end} of {header:?}");
            }
            let told = Told::Client(told.parse().unwrap());
            assert_eq!(read(&[&header[..], b"GET"].concat()), Ok(Some((told, header.len()))));
        }
        assert_eq!(read(&binary(0x20, 0, &[])), Ok(Some((Told::Own, 16))));
        assert_eq!(read(&binary(0x20, 0x11, &[0; 12])), Ok(Some((Told::Own, 28))));
    }

    #[test]
    fn what_tells_nothing_is_refused() {
        let line = |line: &str| read(line.as_bytes());
        assert_eq!(line("GET / HTTP/1.1\r\n"), Err(Error::Absent));
        assert_eq!(line("PROXYX"), Err(Error::Absent));
        assert_eq!(line("PROXY UNKNOWN\r\n"), Err(Error::Family));
        assert_eq!(line(&format!("PROXY {}", "x".repeat(200))), Err(Error::TooLong));
        for bad in [
            "TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            "TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
            "TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
            "TCP4 2001:db8::1 192.0.2.2 56324 443\r\n",
            "TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
            "TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
            "TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
            "TCP4 0x7f.1 192.0.2.2 1 443\r\n",
            "UDP4 192.0.2.1 192.0.2.2 1 443\r\n",
            "\r\n",
        ] {
            assert_eq!(line(&format!("PROXY {bad}")), Err(Error::Malformed), "{bad}");
        }
        assert_eq!(read(&binary(0x21, 0, &[])), Err(Error::Family));
        assert_eq!(read(&binary(0x21, 0x31, &[0; 216])), Err(Error::Family));
        assert_eq!(read(&binary(0x21, 0x12, &[0; 12])), Err(Error::Family));
        assert_eq!(read(&binary(0x21, 0x11, &[0; 11])), Err(Error::Malformed));
        assert_eq!(read(&binary(0x21, 0x21, &[0; 12])), Err(Error::Malformed));
        assert_eq!(read(&binary(0x22, 0x11, &[0; 12])), Err(Error::Malformed));
        assert_eq!(read(&binary(0x11, 0x11, &[0; 12])), Err(Error::Malformed));
        assert_eq!(
            read(&[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat()),
            Err(Error::TooLong)
        );
    }
}
