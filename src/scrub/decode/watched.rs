//! A compressed body that is looked through and passed on as it is.

use super::Decoder;
use crate::base::body::{Body, BoxError};
use crate::base::budget::Budget;
use crate::scrub::coding::{Coding, Unscrubbable};
use crate::scrub::needles::{Needles, headers};
use crate::scrub::stream::Scrubber;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

/// How many slices are decoded before other tasks get their turn.
const TURN: usize = 16;

/// How many pieces may wait behind a partial match.
const MAX_WAITING: usize = 256;

/// Passes on each piece once all the text in it is known to be clear, and fails on a hit.
///
/// The compressed bytes are searched too: names and comments in a gzip header and the like are plain text.
#[derive(Debug)]
pub(in crate::scrub) struct Watched {
    inner: Body,
    decoder: Decoder,
    input: Bytes,
    text: Search,
    raw: Search,
    /// Pieces that are decoded but not clear yet.
    waiting: VecDeque<Piece>,
    needles: Arc<[Arc<Needles>]>,
    trailers: Option<HeaderMap>,
    hits: Arc<AtomicU64>,
    /// Whether the decoder may have more to give.
    more: bool,
    ended: bool,
}

/// A piece and where it ends in both streams.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    raw_end: u64,
    text_end: u64,
}

/// A search without a replacement.
#[derive(Debug)]
struct Search {
    scrubber: Scrubber,
    seen: u64,
    cleared: VecDeque<Bytes>,
}

impl Search {
    fn new(needles: &[Arc<Needles>]) -> Self {
        Self {
            scrubber: Scrubber::new(needles),
            seen: 0,
            cleared: VecDeque::new(),
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.seen += bytes.len() as u64;
        self.scrubber.push(bytes, &mut self.cleared);
        self.cleared.clear();
    }

    fn end(&mut self) {
        self.scrubber.flush(&mut self.cleared);
        self.cleared.clear();
    }

    /// Up to where the stream is clear.
    fn clear_to(&self) -> u64 {
        self.seen.saturating_sub(self.scrubber.held() as u64)
    }
}

impl Watched {
    pub(in crate::scrub) fn new(
        inner: Body,
        coding: Coding,
        needles: &[Arc<Needles>],
        hits: &Arc<AtomicU64>,
        memory: &Budget,
    ) -> Self {
        Self {
            inner,
            decoder: Decoder::new(coding, memory),
            input: Bytes::new(),
            text: Search::new(needles),
            raw: Search::new(needles),
            waiting: VecDeque::new(),
            needles: needles.into(),
            trailers: None,
            hits: hits.clone(),
            more: false,
            ended: false,
        }
    }

    /// Takes a piece; it waits until it is clear.
    fn take(&mut self, bytes: Bytes) -> Result<(), Unscrubbable> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(Unscrubbable::Padding);
        }
        self.raw.push(bytes.clone());
        // Until it is decoded, nobody knows where its text ends.
        self.waiting.push_back(Piece {
            bytes: bytes.clone(),
            raw_end: self.raw.seen,
            text_end: u64::MAX,
        });
        (self.input, self.more) = (bytes, true);
        self.check()
    }

    /// Decodes one slice of the piece that was taken last.
    fn look(&mut self) -> Result<(), Unscrubbable> {
        let slice = self.decoder.step(&mut self.input)?;
        if slice.is_empty() {
            self.more = false;
            if let Some(piece) = self.waiting.back_mut() {
                piece.text_end = self.text.seen;
            }
        }
        self.text.push(slice);
        self.check()
    }

    fn end(&mut self) -> Result<(), Unscrubbable> {
        self.ended = true;
        self.raw.end();
        self.text.end();
        self.check()
    }

    fn check(&self) -> Result<(), Unscrubbable> {
        match self.raw.scrubber.hits() + self.text.scrubber.hits() {
            0 => Ok(()),
            hits => {
                self.hits.fetch_add(hits, Ordering::Relaxed);
                Err(Unscrubbable::Echoed)
            }
        }
    }

    fn clear_piece(&mut self) -> Option<Bytes> {
        let (raw, text) = (self.raw.clear_to(), self.text.clear_to());
        let clear = self
            .waiting
            .pop_front_if(|piece| piece.raw_end <= raw && piece.text_end <= text);
        clear.map(|piece| piece.bytes)
    }

    fn frame(&mut self, frame: Frame<Bytes>) -> Result<(), Unscrubbable> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => self.take(data),
            Err(frame) => {
                if let Ok(mut trailers) = frame.into_trailers() {
                    self.hits
                        .fetch_add(headers(&mut trailers, &self.needles), Ordering::Relaxed);
                    self.trailers = Some(trailers);
                }
                self.end()
            }
        }
    }

    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.waiting.clear();
        (self.ended, self.more, self.trailers) = (true, false, None);
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut slices = 0;
        loop {
            if let Some(bytes) = this.clear_piece() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let done = if this.more {
                slices += 1;
                if slices > TURN {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                this.look()
            } else if this.ended {
                let trailers = this.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            } else {
                match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => this.frame(frame),
                    Some(Err(error)) => return this.fail(error),
                    None => this.end(),
                }
            };
            if let Err(error) = done {
                return this.fail(error.into());
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.waiting.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let own = self.waiting.iter().map(|piece| piece.bytes.len() as u64).sum::<u64>();
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(own));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(own));
        }
        hint
    }
}
