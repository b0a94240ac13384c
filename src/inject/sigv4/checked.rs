//! A body whose hash was signed before it came: its end is held back until it has been seen to have that hash.

use crate::base::body::{Body, BoxError};
use crate::sign::sigv4::hex;
use aws_lc_rs::digest;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body is not the one whose hash was stated.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body does not have the SHA-256 that `x-amz-content-sha256` states")]
pub struct Mismatch;

pub(super) struct Checked {
    body: Body,
    /// Of all that came; gone once it was compared.
    hash: Option<digest::Context>,
    expected: String,
    /// The last piece that came, and what came behind the whole of it.
    held: Option<Bytes>,
    trailers: Option<Frame<Bytes>>,
}

impl Checked {
    pub(super) fn new(body: Body, expected: String) -> Self {
        Self {
            body,
            hash: Some(digest::Context::new(&digest::SHA256)),
            expected,
            held: None,
            trailers: None,
        }
    }

    /// Compares, once.
    fn compare(&mut self) -> Result<(), Mismatch> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        if hex(hash.finish().as_ref()) == self.expected {
            Ok(())
        } else {
            Err(Mismatch)
        }
    }
}

impl http_body::Body for Checked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        while let Some(hash) = &mut this.hash {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        hash.update(&piece);
                        if let Some(before) = this.held.replace(piece) {
                            return Poll::Ready(Some(Ok(Frame::data(before))));
                        }
                    }
                    Err(trailers) => {
                        this.trailers = Some(trailers);
                        this.compare()?;
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.compare()?,
            }
        }
        let left = this.held.take().map(Frame::data).or_else(|| this.trailers.take());
        Poll::Ready(left.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.hash.is_none() && self.held.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, |piece| piece.len() as u64);
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}
