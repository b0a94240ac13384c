//! What the targets share.

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use keyferry::base::body::{Body, BoxError};

/// Cuts `whole` into pieces at `cuts`, which may be anything.
pub fn cut(whole: &[u8], cuts: &[u16]) -> Vec<Bytes> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (whole.len() + 1)).collect();
    ends.extend([0, whole.len()]);
    ends.sort_unstable();
    ends.windows(2)
        .map(|pair| Bytes::copy_from_slice(&whole[pair[0]..pair[1]]))
        .collect()
}

/// A body that comes in these pieces.
pub fn streamed(pieces: Vec<Bytes>) -> Body {
    let frames = pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
    Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
}

/// All of a body that waits for nobody, and whether it ended as it should.
pub fn drained(mut body: Body) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        match body.frame().now_or_never() {
            // It only gives others their turn.
            None => {}
            Some(None) => return (all, true),
            Some(Some(Ok(frame))) => all.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Some(Some(Err(_))) => return (all, false),
        }
    }
}

/// Whether `part` stands in `whole`.
pub fn holds(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}
