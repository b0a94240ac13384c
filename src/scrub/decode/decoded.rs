//! A body without its content coding.

use super::Decoder;
use crate::base::body::{Body, BoxError};
use crate::base::budget::Budget;
use crate::scrub::coding::{Coding, Unscrubbable};
use bytes::Bytes;
use http_body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Decodes a body as it streams: what came in is given out before more is asked for.
#[derive(Debug)]
pub(in crate::scrub) struct Decoded {
    inner: Body,
    decoder: Decoder,
    input: Bytes,
    /// Whether the decoder may have more to give.
    more: bool,
    ended: bool,
}

impl Decoded {
    pub(in crate::scrub) fn new(inner: Body, coding: Coding, memory: &Budget) -> Self {
        Self {
            inner,
            decoder: Decoder::new(coding, memory),
            input: Bytes::new(),
            more: false,
            ended: false,
        }
    }

    /// The next slice, if the decoder has one.
    fn slice(&mut self) -> Option<Result<Bytes, Unscrubbable>> {
        if !self.more {
            return None;
        }
        match self.decoder.step(&mut self.input) {
            Ok(slice) if slice.is_empty() => {
                self.more = false;
                None
            }
            slice => Some(slice),
        }
    }

    fn fail(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        (self.ended, self.more) = (true, false);
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for Decoded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            match this.slice() {
                Some(Ok(slice)) => return Poll::Ready(Some(Ok(Frame::data(slice)))),
                Some(Err(error)) => return this.fail(error.into()),
                None if this.ended => return Poll::Ready(None),
                None => {}
            }
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return this.fail(error),
                None if this.decoder.may_end() => {
                    this.ended = true;
                    return Poll::Ready(None);
                }
                // Without the coding the agent could not tell that the end is missing.
                None => return this.fail(Unscrubbable::Truncated.into()),
            };
            match frame.into_data() {
                // zstd takes several steps without input for a stream that stands still.
                Ok(data) if data.is_empty() => {}
                Ok(data) => (this.input, this.more) = (data, true),
                Err(_) if !this.decoder.may_end() => return this.fail(Unscrubbable::Truncated.into()),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && !self.more
    }
}
