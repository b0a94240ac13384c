//! The first bytes of a connection: what is spoken on it, and which host they name. Pure, and asked again with each
//! byte that comes, so that it cannot matter how they were split: not for what they say, nor for what it costs.

use super::socks;
pub use crate::base::meter::PREFACE;
use http::header::HOST;
use rustls::server::Acceptor;

/// Bytes in the longest ClientHello that rustls takes, in as many records as it may come in.
pub const LONGEST_HELLO: usize = 128 * 1024;

/// The content type of a TLS handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// Header fields in one request.
const MOST_FIELDS: usize = 128;

/// A version of HTTP, as far as it matters on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1 and before.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// TLS.
    Tls,
    /// HTTP in the clear.
    Http(Version),
    /// SOCKS, 5 or 4.
    Socks,
    /// Something else.
    Other,
}

/// What is spoken and which host is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// A whole ClientHello with the name in it. With ECH it is the outer name: the inner one is nobody's here.
    Tls(Option<String>),
    /// A TLS record that holds no ClientHello, and why.
    BadTls(String),
    /// A whole request head with the value of its `Host`.
    Http1(Option<String>),
    /// The preface of HTTP/2; each of its requests names a host for itself.
    Http2,
    /// Something else.
    Other,
}

/// What is spoken; `None` while that is open.
pub fn spoken(seen: &[u8]) -> Option<Spoken> {
    Some(match seen {
        [] => return None,
        [HANDSHAKE, ..] => Spoken::Tls,
        [socks::VERSION | socks::VERSION_4, ..] => Spoken::Socks,
        _ if seen.starts_with(PREFACE) => Spoken::Http(Version::Http2),
        _ if PREFACE.starts_with(seen) => return None,
        [b'A'..=b'Z', ..] => Spoken::Http(Version::Http1),
        _ => Spoken::Other,
    })
}

/// What is spoken and which host is named; `None` while more bytes are due.
pub fn read(seen: &[u8]) -> Option<First> {
    Reading::default().more(seen)
}

/// First bytes in the reading. What was read once is not read again for each byte after it, or a client could make work
/// that grows with the square of what it sends.
#[derive(Debug, Default)]
pub struct Reading {
    hello: Hello,
    read: usize,
}

/// A head as short as this may be read once more for each byte: junk is known as such at once.
const SHORT: usize = 256;

impl Reading {
    /// Takes all that came so far, of which it may have seen a part before; `None` while more is due.
    pub fn more(&mut self, seen: &[u8]) -> Option<First> {
        let came = seen.get(self.read..).unwrap_or_default();
        let decided = match spoken(seen)? {
            Spoken::Tls => self.hello.push(came),
            Spoken::Http(Version::Http1) if self.read < SHORT || came.contains(&b'\n') => head(lines(seen)),
            Spoken::Http(Version::Http1) => None,
            Spoken::Http(Version::Http2) => Some(First::Http2),
            Spoken::Socks | Spoken::Other => Some(First::Other),
        };
        self.read = seen.len();
        decided
    }
}

/// A ClientHello in the reading. It is read as the TLS library will that is to answer it, so that the two cannot find
/// two names.
#[derive(Default)]
pub struct Hello(Acceptor);

impl Hello {
    /// Takes what came since the last time; `None` while more is due.
    pub fn push(&mut self, came: &[u8]) -> Option<First> {
        let mut rest = came;
        while !rest.is_empty() {
            match self.0.read_tls(&mut rest) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Some(First::BadTls("the ClientHello is too long".to_owned())),
            }
            match self.0.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return Some(First::Tls(name));
                }
                Err((error, _)) => return Some(First::BadTls(error.to_string())),
            }
        }
        None
    }
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hello")
    }
}

/// What is read of a head: past a short beginning whole lines alone, of which there are at most as many as fields.
fn lines(seen: &[u8]) -> &[u8] {
    let whole = memchr::memrchr(b'\n', seen).map_or(0, |at| at + 1);
    seen.get(..whole.max(seen.len().min(SHORT))).unwrap_or(seen)
}

/// Reads an HTTP/1.1 head as far as its `Host`. With two of them either may be told here: each request is held to its
/// one `Host` later.
fn head(seen: &[u8]) -> Option<First> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(seen) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let host = request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(HOST.as_str()));
            Some(First::Http1(
                host.map(|field| String::from_utf8_lossy(field.value).into_owned()),
            ))
        }
        Err(_) => Some(First::Other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::Arc;

    /// The ClientHello that rustls sends, with `protocols` to make it long.
    fn client_hello(name: &str, protocols: usize) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = vec![vec![b'x'; 200]; protocols];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        sent
    }

    /// The same handshake bytes in records of `size` bytes each.
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let (mut messages, mut rest) = (Vec::new(), hello);
        while let [22, _, _, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            messages.extend_from_slice(&after[..length]);
            rest = &after[length..];
        }
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], part].concat()
        };
        messages.chunks(size).flat_map(record).collect()
    }

    fn named(name: &str) -> Option<First> {
        Some(First::Tls(Some(name.to_owned())))
    }

    #[test]
    fn a_hello_is_read_when_it_is_whole_however_it_is_split() {
        let short = client_hello("a.test", 0);
        let long = client_hello("a.test", 90);
        assert!(long.len() > 17 * 1024, "{}", long.len());
        for hello in [
            short.clone(),
            in_records(&short, 1),
            in_records(&short, 100),
            in_records(&long, 5000),
            long,
        ] {
            for end in (0..hello.len()).step_by(1 + hello.len() / 200) {
                assert_eq!(read(&hello[..end]), None, "{end} of {}", hello.len());
            }
            assert_eq!(read(&hello[..hello.len() - 1]), None);
            assert_eq!(read(&hello), named("a.test"));
            assert_eq!(read(&[&hello[..], b"more"].concat()), named("a.test"));
            assert_eq!(byte_by_byte(&hello), (named("a.test"), hello.len()));
        }
    }

    /// What bytes that come one at a time decide, and with how many of them.
    fn byte_by_byte(bytes: &[u8]) -> (Option<First>, usize) {
        let mut reading = Reading::default();
        let decided = (1..=bytes.len()).find_map(|end| Some((reading.more(&bytes[..end])?, end)));
        decided.map_or((None, bytes.len()), |(first, end)| (Some(first), end))
    }

    #[test]
    fn junk_is_found_in_the_same_place_however_it_comes() {
        let junk = [b"GET /", &[b'x'; 300][..], b"\0", &[b'y'; 50]].concat();
        assert_eq!(
            (read(&junk), byte_by_byte(&junk).0),
            (None, None),
            "the line has no end yet"
        );
        let line = [&junk[..], b"\r\n"].concat();
        assert_eq!(byte_by_byte(&line), (Some(First::Other), line.len()));
        assert_eq!(read(&line), Some(First::Other));
        assert_eq!(read(&[&line[..], b"more"].concat()), Some(First::Other));
        assert_eq!(byte_by_byte(b"GET /\0 and more").1, 6);
    }

    #[test]
    fn what_is_long_and_comes_byte_by_byte_costs_no_more_than_its_length() {
        let hello = in_records(&client_hello("a.test", 300), 16_000);
        assert!(hello.len() > 60_000, "{}", hello.len());
        let long_line = [
            b"GET / HTTP/1.1\r\nHost: a.test\r\nx: ",
            &[b'x'; 2_000_000][..],
            b"\r\n\r\n",
        ]
        .concat();
        let many_lines = [
            b"GET / HTTP/1.1\r\nHost: a.test\r\n",
            "x: y\r\n".repeat(100).as_bytes(),
            b"\r\n",
        ]
        .concat();
        let begun = std::time::Instant::now();
        assert_eq!(byte_by_byte(&hello), (named("a.test"), hello.len()));
        for head in [long_line, many_lines] {
            assert_eq!(
                byte_by_byte(&head),
                (Some(First::Http1(Some("a.test".to_owned()))), head.len())
            );
        }
        // Read anew for each byte, it would be hours.
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
    }

    #[test]
    fn an_address_is_no_name_and_junk_is_no_hello() {
        assert_eq!(read(&client_hello("192.0.2.1", 0)), Some(First::Tls(None)));
        for address in ["192.0.2.10", "[fd77::10]"] {
            let mut hello = client_hello("abcde.test", 0);
            let at = hello.windows(10).position(|ten| ten == b"abcde.test").unwrap();
            hello[at..at + 10].copy_from_slice(address.as_bytes());
            // The one is an address by RFC 6066 §3, which names none; the other nothing at all.
            let expected = address.starts_with('1');
            assert_eq!(
                read(&hello) == Some(First::Tls(None)),
                expected,
                "{address}: {:?}",
                read(&hello)
            );
            assert!(expected || matches!(read(&hello), Some(First::BadTls(_))));
        }
        let mut hello = client_hello("abcdef.test", 0);
        let at = hello.windows(6).position(|six| six == b"abcdef").unwrap();
        hello[at] = 0;
        assert!(matches!(read(&hello), Some(First::BadTls(_))), "{:?}", read(&hello));
        for junk in [
            &[22, 3, 1, 0, 5, 9, 9, 9, 9, 9][..],
            &[22; 40],
            &[22, 3, 1, 0xff, 0xff, 1],
        ] {
            assert!(matches!(read(junk), Some(First::BadTls(_))), "{:?}", read(junk));
        }
    }

    #[test]
    fn a_head_is_read_as_far_as_its_host() {
        let host = |text: &str| Some(First::Http1(Some(text.to_owned())));
        let head = b"GET / HTTP/1.1\r\nx: y\r\nhOST: a.test:80\r\n\r\nbody";
        for end in 0..head.len() - 5 {
            assert_eq!(read(&head[..end]), None, "{end}");
        }
        assert_eq!(read(head), host("a.test:80"));
        assert_eq!(read(b"GET / HTTP/1.0\r\n\r\n"), Some(First::Http1(None)));
        assert_eq!(read(&PREFACE[..20]), None);
        assert_eq!(read(PREFACE), Some(First::Http2));
        for other in [
            &b"SSH-2.0-x\r\n"[..],
            b"\x00",
            b"get / HTTP/1.1\r\n",
            b"\x05\x01",
            b"220 x\r\n",
        ] {
            assert_eq!(read(other), Some(First::Other), "{other:?}");
        }
    }
}
