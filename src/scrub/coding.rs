//! What is done about `Content-Encoding`.
//!
//! A search needs the text. Asking for identity only would cost the way from the upstream several times the bytes, and
//! some upstreams compress unasked. So the request keeps those codings that can be decoded here, and a compressed
//! reply is
//!
//! - **decoded** and passed on without a coding where the agent offered to take the coding: identity is always
//!   acceptable to it (RFC 9110 §12.5.3), its way to the proxy is a local one, and a hit can be masked. Nothing is
//!   compressed again: it would cost the most processor time of the whole path, to save bytes on loopback;
//! - **watched** where the bytes must stay what they are: the agent did not offer the coding and so means to keep the
//!   stored bytes, or a digest over them goes along, or `no-transform` forbids to touch them. The text is decoded to
//!   look at it, the original bytes pass once their text is clear, and a hit cuts the body: it cannot be masked.
//!
//! `ETag` stays: the agent gives it back through the same proxy to the same origin, which must know it again
//! (`If-Match` compares strongly). Ranges of compressed bytes cannot be decoded, so a request with `Range` asks for
//! identity.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// A content coding that can be decoded here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// Which codings the agent offered to take, as [`ask`] found them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked(u8);

/// Why a reply cannot be searched, or may not be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unscrubbable {
    /// A coding nobody offered to take, or several on top of each other.
    #[error("the reply's `Content-Encoding: {0}` cannot be decoded to look for the credential")]
    Coding(String),
    /// A range of compressed bytes.
    #[error("the reply is a range of `Content-Encoding: {0}`, which cannot be decoded to look for the credential")]
    Range(String),
    /// A gRPC or Connect message is compressed though no compression was offered.
    #[error("a message of the reply is compressed though no compression was offered")]
    CompressedMessage,
    /// What the coding should be and the bytes disagree.
    #[error("the reply's body is no valid {0}")]
    Malformed(&'static str),
    /// The body ends inside the compressed stream.
    #[error("the reply's body ends before its compressed stream does")]
    Truncated,
    /// A decompression bomb.
    #[error("the reply's body expands more than {0} times; that is taken for a decompression bomb")]
    Bomb(u64),
    /// Nothing is left of the memory that bodies may take.
    #[error("there is no memory left to decode the reply with")]
    Busy,
    /// The credential stands in bytes that may not be changed.
    #[error("the credential came back inside a compressed body that may not be changed; the body was cut")]
    Echoed,
    /// Frames or pieces without content pile up behind a partial match.
    #[error("the reply piles up empty pieces behind what may become the credential")]
    Padding,
}

impl Unscrubbable {
    /// The stable code for the audit record and, where no byte was sent yet, for the agent.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Echoed => "credential_echoed",
            Self::Busy => "proxy_busy",
            _ => "response_not_scrubbable",
        }
    }
}

/// What to do with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    Plain,
    Decode(Coding),
    Watch(Coding),
}

/// What agents offer with these is nothing that is decoded here.
const UNSEARCHED: [HeaderName; 3] = [
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("connect-accept-encoding"),
    HeaderName::from_static("sec-websocket-extensions"),
];

/// Narrows what a request with a credential offers to take to what can be searched, and remembers what it offered.
///
/// Codings other than gzip, deflate, br and zstd go; so do WebSocket extensions (`permessage-deflate`) and the
/// message compression of gRPC and Connect. Without `Accept-Encoding`, none is added.
pub fn ask(headers: &mut HeaderMap) -> Asked {
    for name in &UNSEARCHED {
        headers.remove(name);
    }
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return Asked::default();
    }
    let (mut asked, mut kept) = (Asked::default(), Vec::new());
    let ranged = headers.contains_key(header::RANGE);
    for item in items(headers, &header::ACCEPT_ENCODING) {
        let (name, weight) = item.split_once(';').unwrap_or((&item, ""));
        let coding = Coding::named(name.trim());
        if let Some(coding) = coding.filter(|_| !ranged && !refused(weight)) {
            asked.0 |= coding.bit();
        }
        if !ranged && coding.is_some() || name.trim() == "identity" && !refused(weight) {
            kept.push(item.clone());
        }
    }
    let value = if asked.0 == 0 {
        "identity".to_owned()
    } else {
        kept.join(", ")
    };
    let value = HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("identity"));
    headers.insert(header::ACCEPT_ENCODING, value);
    asked
}

/// The same where memory to decode with is scarce: identity only.
pub fn ask_plainly(headers: &mut HeaderMap) -> Asked {
    ask(headers);
    if let Some(offered) = headers.get_mut(header::ACCEPT_ENCODING) {
        *offered = HeaderValue::from_static("identity");
    }
    Asked::default()
}

/// Whether the parameters say `q=0`.
fn refused(parameters: &str) -> bool {
    let weight = parameters.split(';').find_map(|p| p.trim().strip_prefix("q="));
    weight.is_some_and(|q| q.trim().parse() == Ok(0.0))
}

/// The comma-separated items of all lines of a header, in lower case.
fn items(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    let items = lines
        .flat_map(|line| line.split(','))
        .map(|item| item.trim().to_ascii_lowercase());
    items.filter(|item| !item.is_empty()).collect()
}

/// Decides for a reply.
pub(super) fn plan(status: StatusCode, headers: &HeaderMap, asked: Asked) -> Result<Plan, Unscrubbable> {
    if headers
        .get_all(header::CONTENT_ENCODING)
        .into_iter()
        .any(|line| line.to_str().is_err())
    {
        return Err(Unscrubbable::Coding("(not text)".to_owned()));
    }
    let mut codings = items(headers, &header::CONTENT_ENCODING);
    // Some S3 servers keep with an object that it came in chunks, which it no longer is; no client undoes it.
    codings.retain(|name| name != "identity" && name != "aws-chunked");
    let named = || codings.join(", ").chars().take(64).collect();
    let coding = match codings.as_slice() {
        [] => return Ok(Plan::Plain),
        [one] => Coding::named(one).ok_or_else(|| Unscrubbable::Coding(named()))?,
        _ => return Err(Unscrubbable::Coding(named())),
    };
    if status == StatusCode::PARTIAL_CONTENT {
        return Err(Unscrubbable::Range(named()));
    }
    let decode = asked.0 & coding.bit() != 0 && !must_stay(headers);
    Ok(if decode {
        Plan::Decode(coding)
    } else {
        Plan::Watch(coding)
    })
}

/// The one coding of a reply that is rewritten here; `None` without one.
pub(super) fn undone(status: StatusCode, headers: &HeaderMap) -> Result<Option<Coding>, Unscrubbable> {
    Ok(match plan(status, headers, Asked::default())? {
        Plan::Plain => None,
        Plan::Decode(coding) | Plan::Watch(coding) => Some(coding),
    })
}

/// Whether changed bytes would be noticed or are forbidden (RFC 9110 §7.7).
fn must_stay(headers: &HeaderMap) -> bool {
    let digest = |name: &HeaderName| {
        let name = name.as_str();
        DIGESTS.contains(&name) || name.starts_with("x-amz-checksum-")
    };
    headers.keys().any(digest)
        || items(headers, &header::CACHE_CONTROL)
            .iter()
            .any(|d| d == "no-transform")
}

const DIGESTS: [&str; 5] = ["content-digest", "repr-digest", "digest", "content-md5", "x-goog-hash"];

impl Coding {
    fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn what_is_asked_for_is_narrowed_to_what_can_be_decoded() {
        for (given, sent, offered) in [
            ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd", 15),
            ("GZIP;q=0.5, dcb, *;q=0.1", "gzip;q=0.5", 1),
            ("dcb, dcz", "identity", 0),
            ("*", "identity", 0),
            ("gzip;q=0", "identity", 0),
            ("br;q=0, gzip, identity;q=0", "br;q=0, gzip", 1),
            ("identity", "identity", 0),
        ] {
            let mut headers = map(&[("accept-encoding", given)]);
            assert_eq!(ask(&mut headers), Asked(offered), "{given}");
            assert_eq!(headers["accept-encoding"], sent, "{given}");
        }
        let mut ranged = map(&[("accept-encoding", "gzip"), ("range", "bytes=0-9")]);
        assert_eq!(
            (ask(&mut ranged), &ranged["accept-encoding"]),
            (Asked(0), &HeaderValue::from_static("identity"))
        );
        let mut silent = map(&[
            ("grpc-accept-encoding", "gzip"),
            ("sec-websocket-extensions", "permessage-deflate"),
        ]);
        assert_eq!((ask(&mut silent), silent.len()), (Asked(0), 0));
    }

    #[test]
    fn a_reply_is_decoded_watched_or_refused() {
        let plan = |pairs: &[_], asked| plan(StatusCode::OK, &map(pairs), Asked(asked));
        assert_eq!(plan(&[], 15), Ok(Plan::Plain));
        assert_eq!(plan(&[("content-encoding", "identity")], 15), Ok(Plan::Plain));
        assert_eq!(
            plan(&[("content-encoding", "x-gzip")], 15),
            Ok(Plan::Decode(Coding::Gzip))
        );
        assert_eq!(plan(&[("content-encoding", "br")], 1), Ok(Plan::Watch(Coding::Brotli)));
        let digest = [("content-encoding", "zstd"), ("x-amz-checksum-crc32", "AAAAAA==")];
        assert_eq!(plan(&digest, 15), Ok(Plan::Watch(Coding::Zstd)));
        let fixed = [("content-encoding", "gzip"), ("cache-control", "private, No-Transform")];
        assert_eq!(plan(&fixed, 15), Ok(Plan::Watch(Coding::Gzip)));
        assert!(plan(&[("content-encoding", "compress")], 15).is_err());
        assert!(plan(&[("content-encoding", "gzip, br")], 15).is_err());
        assert!(plan(&[("content-encoding", "gzip"), ("content-encoding", "gzip")], 15).is_err());
        let range = map(&[("content-encoding", "gzip")]);
        assert!(super::plan(StatusCode::PARTIAL_CONTENT, &range, Asked(15)).is_err());
    }
}
