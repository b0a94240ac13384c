#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod coded;
mod framed;
mod plain;
mod spelled;

use super::*;
use crate::base::body::{Body, BoxError};
use crate::base::secret::Secret;
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
pub(super) const STAND_IN: &str = "ghp_AAAAaaaaBBBBbbbbCCCCccccDDDDdddd0000";

pub(super) fn needles(values: &[(&str, Option<&str>)]) -> Arc<Needles> {
    let secrets: Vec<_> = values
        .iter()
        .map(|(v, p)| (Secret::document(v.as_bytes().to_vec()).unwrap(), *p))
        .collect();
    Arc::new(Needles::new(secrets.iter().map(|(s, p)| (s, *p))))
}

/// A body of these pieces, and then perhaps trailers, and then perhaps an error.
pub(super) fn pieces(pieces: Vec<Bytes>, trailers: Option<HeaderMap>, error: bool) -> Body {
    let mut frames: Vec<Result<Frame<Bytes>, BoxError>> = pieces.into_iter().map(|p| Ok(Frame::data(p))).collect();
    frames.extend(trailers.map(|t| Ok(Frame::trailers(t))));
    if error {
        frames.push(Err("reset by peer".into()));
    }
    Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
}

/// What came out of a body: the data frames, the trailers, and the error that ended it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) frames: Vec<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) error: Option<String>,
}

impl Outcome {
    pub(super) fn data(&self) -> Vec<u8> {
        self.frames.concat()
    }
}

pub(super) fn drain(mut body: Body) -> Outcome {
    let mut out = Outcome::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => out.frames.push(data),
                Ok(Err(frame)) => out.trailers = frame.into_trailers().ok(),
                Err(error) => {
                    out.error = Some(error.to_string());
                    break;
                }
            }
        }
    });
    out
}

/// Scrubs `pieces` as a plain body: what came out, and the number of hits.
pub(super) fn scrub_pieces(list: Vec<Bytes>, sets: &[Arc<Needles>]) -> (Outcome, u64) {
    let hits = Arc::new(AtomicU64::new(0));
    let out = drain(body(pieces(list, None, false), sets, &hits));
    (out, hits.load(Ordering::Relaxed))
}

/// Cuts `whole` at `cuts`, which may be anything.
pub(super) fn cut(whole: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (whole.len() + 1)).collect();
    ends.extend([0, whole.len()]);
    ends.sort_unstable();
    ends.windows(2)
        .map(|w| Bytes::copy_from_slice(&whole[w[0]..w[1]]))
        .collect()
}
