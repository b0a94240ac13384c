//! What a signature says of the body: its hash, that of each of its chunks, or nothing.

use super::super::Error;
use super::super::arm::Armed;
use super::super::collect;
use super::checked::Checked;
use super::chunks::Chunks;
use super::{CONTENT_SHA256, PathStyle, SigV4};
use crate::base::ask::Scheme;
use crate::base::body::Body;
use crate::base::budget::Budget;
use crate::policy::Permitted;
use crate::sign::sigv4::{EMPTY_SHA256, SigningKey, sha256};
use http::header::HeaderMap;
use http_body::Body as _;
use std::time::Duration;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const CHUNKS_AND_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_AND_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// What is signed of a body.
#[derive(Debug)]
pub(super) enum Payload {
    /// Nothing, or nothing but what the client has in the body itself.
    Unsigned(&'static str),
    /// This hash, of a body that is at hand.
    Whole(String),
    /// This hash, which the body is held to as it streams.
    Promised(String),
    /// Each chunk; the word says whether there is a trailer.
    Chunks(&'static str),
}

impl Payload {
    /// What stands for the body in what is signed.
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Unsigned(word) | Self::Chunks(word) => word,
            Self::Whole(hash) | Self::Promised(hash) => hash,
        }
    }

    /// Has the body hold to what is signed of it.
    /// `key` signs its chunks, where there are some.
    pub(super) fn guard(self, permitted: &mut Permitted, key: Option<SigningKey>, signature: &str, memory: &Budget) {
        match (self, key) {
            (Self::Unsigned(_) | Self::Whole(_) | Self::Chunks(_), None) | (Self::Unsigned(_) | Self::Whole(_), _) => {}
            (Self::Promised(hash), _) => permitted.map_body(|body| Body::wrap(Checked::new(body, hash))),
            (Self::Chunks(word), Some(key)) => {
                let with_trailer = word == CHUNKS_AND_TRAILER;
                let chunks = |body| Chunks::new(body, key, signature.to_owned(), with_trailer, memory.clone());
                permitted.map_body(|body| Body::wrap(chunks(body)));
            }
        }
    }
}

/// What the agent's client says of its body, if anything.
pub(super) fn said(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut values = headers.get_all(CONTENT_SHA256).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| Error::Unsignable(NO_HASH))?;
            Ok(Some(text.trim().to_owned()))
        }
        (Some(_), Some(_)) => Err(Error::Unsignable("it has two `x-amz-content-sha256`")),
    }
}

const NO_HASH: &str = "its `x-amz-content-sha256` is neither a hash nor a way of signing that is known here";

/// Where the signature goes, and for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) style: PathStyle,
    /// In the query, and not in the head.
    pub(super) in_query: bool,
    /// For a set of regions, and not for one.
    pub(super) for_set: bool,
}

/// Decides what is signed, and collects the body where there is no other way.
pub(super) async fn of(
    permitted: &mut Permitted,
    spec: &SigV4,
    said: Option<String>,
    how: How,
    armed: &mut Armed,
    time: Duration,
) -> Result<Payload, Error> {
    let hash = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match said.as_deref() {
        Some(CHUNKS | CHUNKS_AND_TRAILER | UNSIGNED_AND_TRAILER) if armed.body.is_some() => {
            return Err(Error::Unsignable(
                "its body is in chunks, and something was swapped in it",
            ));
        }
        Some(CHUNKS | CHUNKS_AND_TRAILER) if how.for_set => {
            return Err(Error::Unsignable(
                "its chunks are signed, which cannot be done anew for a set of regions",
            ));
        }
        Some(CHUNKS) => return Ok(Payload::Chunks(CHUNKS)),
        Some(CHUNKS_AND_TRAILER) => return Ok(Payload::Chunks(CHUNKS_AND_TRAILER)),
        Some(UNSIGNED_AND_TRAILER) => return Ok(Payload::Unsigned(UNSIGNED_AND_TRAILER)),
        Some(UNSIGNED) => return Ok(Payload::Unsigned(UNSIGNED)),
        Some(text) if !hash(text) => return Err(Error::Unsignable(NO_HASH)),
        _ => {}
    }
    // A signed URL says nothing of the body, unless a header beside it does.
    let open = how.in_query && how.style == PathStyle::Key && said.is_none();
    if let Some(body) = armed.body.as_ref().filter(|_| !open) {
        return Ok(Payload::Whole(sha256(body)));
    }
    if permitted.body().is_end_stream() && !open {
        return Ok(Payload::Whole(EMPTY_SHA256.to_owned()));
    }
    if let Some(hash) = said {
        return Ok(Payload::Promised(hash.to_ascii_lowercase()));
    }
    let private = permitted.scheme() == Scheme::Https;
    if spec.unsigned || open || how.style == PathStyle::Key && private {
        return Ok(Payload::Unsigned(UNSIGNED));
    }
    let body = collect::signed(permitted, &armed.memory, time).await?;
    let hash = sha256(&body);
    armed.body = Some(body);
    Ok(Payload::Whole(hash))
}
