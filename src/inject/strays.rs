//! Stand-ins in what streams out: a request's body, and WebSocket messages from the agent. One that stands outside its
//! own place ends the exchange before it has gone out whole.

use super::StandIns;
use crate::base::body::{Body, BoxError};
use crate::base::frame::{self, Frames, Step};
use crate::base::ids::SecretId;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A stand-in where it has no business.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the placeholder of `{name}` stands in {place}, where it is not swapped")]
pub struct Misplaced {
    /// The credential.
    pub name: Arc<str>,
    /// Where it was seen.
    pub place: String,
}

/// Looks for stand-ins in a stream of pieces, across any cut.
#[derive(Debug)]
struct Search {
    stand_ins: Arc<StandIns>,
    /// Those that are swapped here, and so are looked after by whoever swaps them.
    swapped: Vec<SecretId>,
    /// The end of what came before: one byte less than the longest stand-in has.
    tail: Vec<u8>,
}

impl Search {
    fn new(stand_ins: Arc<StandIns>, swapped: Vec<SecretId>) -> Self {
        Self {
            stand_ins,
            swapped,
            tail: Vec::new(),
        }
    }

    /// Takes the next piece, and tells the first stand-in that it holds or completes.
    fn push(&mut self, piece: &[u8]) -> Option<SecretId> {
        let keep = self.stand_ins.longest().saturating_sub(1);
        let begin = piece.get(..piece.len().min(keep)).unwrap_or_default();
        let across = if self.tail.is_empty() {
            None
        } else {
            self.tail.extend_from_slice(begin);
            self.find(&self.tail)
        };
        let found = across.or_else(|| self.find(piece));
        if piece.len() >= keep {
            self.tail.clear();
            self.tail
                .extend_from_slice(piece.get(piece.len() - keep..).unwrap_or_default());
        } else {
            if self.tail.is_empty() {
                self.tail.extend_from_slice(piece);
            }
            self.tail.drain(..self.tail.len().saturating_sub(keep));
        }
        found
    }

    fn find(&self, bytes: &[u8]) -> Option<SecretId> {
        self.stand_ins.all_in(bytes).find(|id| !self.swapped.contains(id))
    }

    /// Looks through a piece of a message, or through a `whole` one that stands by itself between the pieces of another.
    fn message(&mut self, payload: &[u8], whole: bool) -> Result<(), Misplaced> {
        let found = if whole { self.find(payload) } else { self.push(payload) };
        found.map_or(Ok(()), |id| Err(self.misplaced(id, "a WebSocket message")))
    }

    fn misplaced(&self, id: SecretId, place: &str) -> Misplaced {
        Misplaced {
            name: self.stand_ins.name(id),
            place: place.to_owned(),
        }
    }
}

/// A request body in which no stand-in may stand.
#[derive(Debug)]
struct Searched {
    body: Body,
    search: Search,
}

/// Ends `body` with [`Misplaced`] where a stand-in stands in it.
pub(super) fn body(body: Body, stand_ins: &Arc<StandIns>) -> Body {
    if body.is_end_stream() || stand_ins.longest() == 0 {
        return body;
    }
    let search = Search::new(Arc::clone(stand_ins), Vec::new());
    Body::wrap(Searched { body, search })
}

impl http_body::Body for Searched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = &polled else {
            return polled;
        };
        let (found, place) = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(bytes), _) => (this.search.push(bytes), "the request body"),
            (None, Some(trailers)) => {
                let mut values = trailers.values();
                (
                    values.find_map(|value| this.search.find(value.as_bytes())),
                    "the trailers",
                )
            }
            (None, None) => return polled,
        };
        match found {
            Some(id) => Poll::Ready(Some(Err(this.search.misplaced(id, place).into()))),
            None => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The messages of one WebSocket, from the agent, in which no stand-in may stand.
pub struct Messages {
    searches: Vec<Search>,
    /// Absent once what comes is no WebSocket stream: then the other side will make nothing of it either.
    frames: Option<Frames>,
    payload: Vec<u8>,
}

impl Messages {
    /// Looks for all of `stand_ins` but those of `swapped`, and for all of `others`.
    pub(super) fn new(stand_ins: &Arc<StandIns>, swapped: Vec<SecretId>, others: &Arc<StandIns>) -> Self {
        let searches = [
            Search::new(Arc::clone(stand_ins), swapped),
            Search::new(Arc::clone(others), Vec::new()),
        ];
        Self {
            searches: searches
                .into_iter()
                .filter(|search| search.stand_ins.longest() > 0)
                .collect(),
            frames: Some(Frames::default()),
            payload: Vec::new(),
        }
    }

    /// Looks through more of what the agent sends.
    ///
    /// # Errors
    /// When a stand-in stands in it. Then it must not go out.
    pub fn look(&mut self, mut input: Bytes) -> Result<(), Misplaced> {
        while let Some(frames) = &mut self.frames {
            match frames.next(&mut input) {
                Ok(Some(Step::Payload(head, offset, bytes))) => {
                    self.payload.clear();
                    self.payload.extend_from_slice(&bytes);
                    frame::mask(&mut self.payload, head.mask.unwrap_or_default(), offset);
                    let whole = head.opcode.is_control();
                    self.searches
                        .iter_mut()
                        .try_for_each(|search| search.message(&self.payload, whole))?;
                }
                Ok(Some(Step::End(head))) if head.fin && !head.opcode.is_control() => {
                    self.searches.iter_mut().for_each(|search| search.tail.clear());
                }
                Ok(Some(Step::Head(_) | Step::End(_))) => {}
                Ok(None) => break,
                Err(_) => self.frames = None,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    const HELD: &str = "sk-test-0011223344";
    const OTHER: &str = "tok_9";

    fn stand_ins() -> Arc<StandIns> {
        Arc::new(StandIns::new(
            Vec::new(),
            vec![Some(HELD.into()), None, Some(OTHER.into())],
        ))
    }

    fn first(pieces: &[&[u8]], swapped: Vec<SecretId>) -> Option<SecretId> {
        let mut search = Search::new(stand_ins(), swapped);
        pieces.iter().find_map(|piece| search.push(piece))
    }

    proptest! {
        #[test]
        fn a_stand_in_is_seen_across_any_cut(before in "[a-z0-9-]{0,40}", after in "[a-z]{0,40}", cuts in proptest::collection::vec(0_usize..100, 0..8)) {
            let text = format!("{before}{HELD}{after}").into_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text[from..cut]);
                from = cut;
            }
            prop_assert_eq!(first(&pieces, Vec::new()), Some(SecretId(0)));
            prop_assert_eq!(first(&pieces, vec![SecretId(0)]), None);
        }

        #[test]
        fn pieces_that_only_look_like_one_pass(pieces in proptest::collection::vec("(sk-test-|001122|334|tok_|[a-z]){0,3}", 0..12)) {
            let whole = pieces.concat();
            let pieces: Vec<_> = pieces.iter().map(String::as_bytes).collect();
            prop_assert_eq!(first(&pieces, Vec::new()).is_some(), whole.contains(HELD) || whole.contains(OTHER));
        }
    }
}
