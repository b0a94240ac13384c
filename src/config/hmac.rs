//! A keyed hash over a template of the request (RFC 2104), as meant: what is signed, and where the signature goes.

use crate::base::ids::SecretId;
use http::HeaderName;

/// Whose signature, over what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hmac {
    /// The key.
    pub key: SecretId,
    /// How the key is written.
    pub key_form: Form,
    /// The hash.
    pub hash: Hash,
    /// What is signed.
    pub signed: Vec<Piece>,
    /// How the signature is written: hex or base64.
    pub form: Form,
    /// How a time is written.
    pub clock: Clock,
    /// The headers that it fills.
    pub headers: Vec<(HeaderName, Vec<Piece>)>,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Text,
    /// In hexadecimal digits, lower case.
    Hex,
    /// In base64 with padding (RFC 4648 §4).
    Base64,
}

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, which some services still ask for.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// `2026-01-31T23:59:59.000Z` (RFC 3339).
    Rfc3339,
}

/// One piece of what is signed, or of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Written as it stands.
    Text(String),
    /// A secret.
    Secret(SecretId),
    /// The method.
    Method,
    /// The path, without the query.
    Path,
    /// What stands behind the `?`.
    Query,
    /// Both, as they are sent.
    PathAndQuery,
    /// The host, as the request names it.
    Host,
    /// The time.
    Timestamp,
    /// 128 random bits, in hexadecimal digits.
    Nonce,
    /// A header of the agent's; nothing where it sends none.
    Header(HeaderName),
    /// A hash of the body.
    BodyHash(Hash, Form),
    /// The body. Last of all: it may hold anything, and so what stood behind it could be taken for a part of it.
    Body,
    /// The signature itself.
    Signature,
}

impl Hmac {
    /// The secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = SecretId> + '_ {
        let named = self.pieces().filter_map(|piece| match piece {
            Piece::Secret(id) => Some(*id),
            _ => None,
        });
        std::iter::once(self.key).chain(named)
    }

    /// Whether the whole body must be at hand.
    pub fn needs_body(&self) -> bool {
        self.pieces()
            .any(|piece| matches!(piece, Piece::Body | Piece::BodyHash(..)))
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let headers = self.headers.iter().flat_map(|(_, pieces)| pieces);
        self.signed.iter().chain(headers)
    }
}
