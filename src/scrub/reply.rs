//! The whole of a reply in one call.

use super::body::scrubbed;
use super::coding::{Asked, Plan, Unscrubbable, plan, undone};
use super::decode::{Decoded, Watched};
use super::envelope::Envelopes;
use super::needles::{Needles, headers};
use crate::base::body::Body;
use crate::base::budget::Budget;
use http::header;
use http::response::Parts;
use http_body::Body as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Scrubs head, body and trailers of a reply, and adds to `hits` each time that a credential is found.
///
/// What decoding takes is taken from `memory`. `asked` is what [`super::ask`] returned for the request. A reply that is
/// decoded loses its `Content-Encoding` and `Content-Length`; in all others every length stays. Frames after an upgrade are for [`super::websocket`].
///
/// # Errors
/// When the body is coded in a way that cannot be looked into; then it must not be passed on. Later the body itself
/// fails, with an [`Unscrubbable`] as its error.
pub fn reply(
    parts: &mut Parts,
    body: Body,
    needles: &[Arc<Needles>],
    asked: Asked,
    hits: &Arc<AtomicU64>,
    memory: &Budget,
) -> Result<Body, Unscrubbable> {
    if needles.iter().all(|n| n.is_empty()) {
        return Ok(body);
    }
    hits.fetch_add(
        headers(&mut parts.headers, needles) + reason(parts, needles),
        Ordering::Relaxed,
    );
    let envelopes = Envelopes::of(&parts.headers);
    let plan = match plan(parts.status, &parts.headers, asked) {
        // HEAD, 204, 304: the headers tell of a body that does not come.
        Err(_) if body.is_end_stream() => Plan::Plain,
        plan => plan?,
    };
    Ok(match plan {
        Plan::Plain => scrubbed(body, needles, hits, envelopes),
        // Its messages may be compressed once more.
        Plan::Watch(_) if envelopes.is_some() && !body.is_end_stream() => return Err(Unscrubbable::CompressedMessage),
        Plan::Watch(coding) if !body.is_end_stream() => Body::wrap(Watched::new(body, coding, needles, hits, memory)),
        Plan::Watch(_) => body,
        Plan::Decode(coding) => {
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            if body.is_end_stream() {
                return Ok(body);
            }
            scrubbed(Body::wrap(Decoded::new(body, coding, memory)), needles, hits, envelopes)
        }
    })
}

/// The body of a reply without its coding, for who rewrites the reply whole. What decoding takes is taken from `memory`.
///
/// # Errors
/// When it is coded in a way that cannot be undone. Later the body itself fails, with an [`Unscrubbable`] as its error.
pub fn decoded(parts: &mut Parts, body: Body, memory: &Budget) -> Result<Body, Unscrubbable> {
    if body.is_end_stream() {
        return Ok(body);
    }
    let coding = undone(parts.status, &parts.headers)?;
    parts.headers.remove(header::CONTENT_ENCODING);
    Ok(match coding {
        Some(coding) => Body::wrap(Decoded::new(body, coding, memory)),
        None => body,
    })
}

/// Drops an HTTP/1 reason phrase that holds a credential; the standard one is sent in its place.
fn reason(parts: &mut Parts, needles: &[Arc<Needles>]) -> u64 {
    let Some(phrase) = parts.extensions.get::<hyper::ext::ReasonPhrase>() else {
        return 0;
    };
    if !needles.iter().any(|n| n.found_in(phrase.as_bytes())) {
        return 0;
    }
    parts.extensions.remove::<hyper::ext::ReasonPhrase>();
    1
}
