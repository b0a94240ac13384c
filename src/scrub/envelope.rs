//! Message borders in gRPC, gRPC-Web and Connect streams.

use super::coding::Unscrubbable;
use http::{HeaderMap, header};

/// Follows the five-byte prefixes of length-prefixed messages.
///
/// A call may wait for one whole message before it sends the next, so a byte that is held back at the end of a
/// message would stop both sides for good: at a border everything is passed on.
#[derive(Debug, Default)]
pub(super) struct Envelopes {
    prefix: [u8; 5],
    have: usize,
    left: usize,
}

impl Envelopes {
    /// One for a body whose `Content-Type` has such messages.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
        let enveloped = kind.starts_with("application/grpc") && !kind.starts_with("application/grpc-web-text");
        (enveloped || kind.starts_with("application/connect+")).then(Self::default)
    }

    /// Walks over `piece` and says where in it the last message ends, 0 if none does.
    ///
    /// # Errors
    /// When a message is compressed, which nobody offered, or its flags are none that are known. A byte of a credential is
    /// no such flag, so no border can be put into one, where it would not be searched for.
    pub(super) fn walk(&mut self, piece: &[u8]) -> Result<usize, Unscrubbable> {
        let (mut at, mut border) = (0, 0);
        while at < piece.len() {
            if self.have < self.prefix.len() {
                let (Some(slot), Some(byte)) = (self.prefix.get_mut(self.have), piece.get(at)) else {
                    break;
                };
                *slot = *byte;
                self.have += 1;
                at += 1;
                self.left = self.length()?;
            } else {
                let step = self.left.min(piece.len() - at);
                self.left -= step;
                at += step;
            }
            if self.have == self.prefix.len() && self.left == 0 {
                self.have = 0;
                border = at;
            }
        }
        Ok(border)
    }

    /// The length in the prefix, once all of it is there.
    fn length(&self) -> Result<usize, Unscrubbable> {
        let [flags, length @ ..] = self.prefix;
        if flags & !(END_STREAM | TRAILERS) != 0 {
            return Err(Unscrubbable::CompressedMessage);
        }
        if self.have < self.prefix.len() {
            return Ok(0);
        }
        Ok(usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))
    }
}

/// The last message of a Connect stream.
const END_STREAM: u8 = 0x02;
/// The trailers of gRPC-Web.
const TRAILERS: u8 = 0x80;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn borders_are_found_however_the_stream_is_cut() {
        let stream = b"\0\0\0\0\x03abc\0\0\0\0\x00\0\0\0\x01\x00tail";
        for cut in 0..stream.len() {
            let mut walk = Envelopes::default();
            let first = walk.walk(&stream[..cut]).unwrap();
            let second = walk.walk(&stream[cut..]).unwrap();
            assert_eq!(
                first,
                if cut >= 13 {
                    13
                } else if cut >= 8 {
                    8
                } else {
                    0
                }
            );
            assert_eq!(second, 13_usize.saturating_sub(cut));
        }
    }

    #[test]
    fn a_compressed_message_is_refused() {
        assert!(Envelopes::default().walk(b"\x01\0\0\0\x03abc").is_err());
        assert!(Envelopes::default().walk(b"\x01").is_err(), "its first byte says it");
    }

    #[test]
    fn no_byte_of_a_credential_begins_a_message() {
        for byte in b' '..=b'~' {
            assert!(Envelopes::default().walk(&[byte]).is_err(), "{byte}");
        }
        for known in [0, END_STREAM, TRAILERS] {
            assert!(Envelopes::default().walk(&[known, 0, 0, 0, 0]).is_ok(), "{known}");
        }
    }
}
