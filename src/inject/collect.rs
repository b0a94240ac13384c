//! A request body held in memory, to look for a stand-in in it or to sign it: bounded in size, in time, and in how much is held
//! for all requests together.

use super::{Error, body};
use crate::base::body::Body;
use crate::base::budget::{Budget, Share};
use crate::policy::Permitted;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderValue};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;

/// What a body is collected for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    /// Bytes at most.
    limit: usize,
    /// How many of it there are at one time.
    copies: u64,
}

/// To swap a stand-in in it: the body as it came, and what it is changed to.
pub(super) const SEARCHED: Purpose = Purpose {
    limit: 1024 * 1024,
    copies: 2,
};

/// To sign it.
const SIGNED: Purpose = Purpose {
    limit: 16 * 1024 * 1024,
    copies: 1,
};

/// Collects the body, which has `time` to come. What it takes of `memory` is given back with the share.
pub(super) async fn whole(
    permitted: &mut Permitted,
    memory: &Budget,
    time: Duration,
    Purpose { limit, copies }: Purpose,
) -> Result<(Bytes, Share), Error> {
    let stated = permitted.body().size_hint().upper();
    let most = stated.map_or(limit as u64, |length| length.min(limit as u64));
    let taken = memory.take(most * copies).map_err(Error::Crowded)?;
    let collecting = Limited::new(permitted.take_body(), limit).collect();
    let collected = tokio::time::timeout(time, collecting).await;
    let collected = collected.map_err(|_| Error::Slow(time))?;
    let collected = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => body::Error::TooLarge { limit }.into(),
        false => Error::Collect(error),
    });
    Ok((collected?.to_bytes(), taken))
}

/// The whole body, to be signed; it then stands in the request again.
pub(super) async fn signed(permitted: &mut Permitted, memory: &Budget, time: Duration) -> Result<Bytes, Error> {
    let (body, taken) = whole(permitted, memory, time, SIGNED).await?;
    Ok(put(permitted, body, taken))
}

/// Has `bytes` sent as the body; they give back what they take with the share.
pub(super) fn put(permitted: &mut Permitted, bytes: Bytes, taken: Share) -> Bytes {
    let bytes = kept(bytes, taken);
    let headers = permitted.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    // The body is here: there is nothing left to be continued.
    headers.remove(EXPECT);
    permitted.map_body(|_| Body::full(bytes.clone()));
    bytes
}

/// The bytes, which give back what they take when the last of them is gone.
pub(super) fn kept(bytes: Bytes, taken: Share) -> Bytes {
    Bytes::from_owner(Kept { bytes, _taken: taken })
}

struct Kept {
    bytes: Bytes,
    _taken: Share,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
