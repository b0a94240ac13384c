//! A body that is scrubbed as it streams.

use super::envelope::Envelopes;
use super::needles::{Needles, headers};
use super::stream::Scrubber;
use crate::base::body::{Body, BoxError};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

/// Masks every spelling in a body without a content coding and in its trailers, and adds what it finds to `hits`.
///
/// Nothing is held back but what may become a spelling; lengths stay; an error passes through, so that what is cut
/// short upstream is cut short here. Without needles the body is returned as it is.
pub fn body(body: Body, needles: &[Arc<Needles>], hits: &Arc<AtomicU64>) -> Body {
    scrubbed(body, needles, hits, None)
}

pub(super) fn scrubbed(
    body: Body,
    needles: &[Arc<Needles>],
    hits: &Arc<AtomicU64>,
    envelopes: Option<Envelopes>,
) -> Body {
    if needles.iter().all(|n| n.is_empty()) || body.is_end_stream() {
        return body;
    }
    Body::wrap(Scrubbed {
        inner: body,
        scrubber: Scrubber::new(needles),
        needles: needles.into(),
        envelopes,
        ready: VecDeque::new(),
        trailers: None,
        ended: false,
        counted: 0,
        hits: hits.clone(),
    })
}

struct Scrubbed {
    inner: Body,
    scrubber: Scrubber,
    needles: Arc<[Arc<Needles>]>,
    envelopes: Option<Envelopes>,
    ready: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    ended: bool,
    counted: u64,
    hits: Arc<AtomicU64>,
}

impl Scrubbed {
    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), BoxError> {
        match frame.into_data() {
            Ok(piece) => self.data(piece)?,
            Err(frame) => {
                self.scrubber.flush(&mut self.ready);
                if let Ok(mut trailers) = frame.into_trailers() {
                    self.hits
                        .fetch_add(headers(&mut trailers, &self.needles), Ordering::Relaxed);
                    self.trailers = Some(trailers);
                }
            }
        }
        self.count();
        Ok(())
    }

    fn data(&mut self, mut piece: Bytes) -> Result<(), BoxError> {
        if let Some(envelopes) = &mut self.envelopes {
            let border = envelopes.walk(&piece)?;
            if border > 0 {
                self.scrubber.push_end(piece.split_to(border), &mut self.ready);
            }
        }
        if self.inner.is_end_stream() {
            self.scrubber.push_end(piece, &mut self.ready);
        } else {
            self.scrubber.push(piece, &mut self.ready);
        }
        Ok(())
    }

    /// Tells the record what is new, so that it is right even if the body is dropped in the middle.
    fn count(&mut self) {
        let hits = self.scrubber.hits();
        self.hits.fetch_add(hits - self.counted, Ordering::Relaxed);
        self.counted = hits;
    }
}

impl http_body::Body for Scrubbed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if let Some(trailers) = this.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let taken = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => this.take(frame),
                Some(Err(error)) => Err(error),
                None => {
                    this.ended = true;
                    this.scrubber.flush(&mut this.ready);
                    this.count();
                    Ok(())
                }
            };
            if let Err(error) = taken {
                // What is held back may be the beginning of a credential: it goes down with the stream.
                this.ended = true;
                this.ready.clear();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let empty = self.ready.is_empty() && self.trailers.is_none() && self.scrubber.held() == 0;
        empty && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let own = (self.ready.iter().map(Bytes::len).sum::<usize>() + self.scrubber.held()) as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(own));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(own));
        }
        hint
    }
}
