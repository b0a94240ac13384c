//! Scrubbing of a stream of pieces, without any I/O.

use super::needles::{Needles, Next};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Scrubs a stream of bytes that comes in pieces, for several [`Needles`] one after the other.
///
/// Pieces in which nothing is found are passed on as they are, without a copy. Held back is only what may become
/// a spelling, which is less than the longest one.
#[derive(Debug)]
pub(super) struct Scrubber {
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    needles: Arc<Needles>,
    held: Bytes,
    hits: u64,
}

impl Scrubber {
    pub(super) fn new(needles: &[Arc<Needles>]) -> Self {
        let stage = |n: &Arc<Needles>| Stage {
            needles: n.clone(),
            held: Bytes::new(),
            hits: 0,
        };
        Self {
            stages: needles.iter().filter(|n| !n.is_empty()).map(stage).collect(),
        }
    }

    /// How many spellings were found so far.
    pub(super) fn hits(&self) -> u64 {
        self.stages.iter().map(|stage| stage.hits).sum()
    }

    /// How many bytes are held back.
    pub(super) fn held(&self) -> usize {
        self.stages.iter().map(|stage| stage.held.len()).sum()
    }

    /// Takes the next piece and appends to `out` what is clear.
    pub(super) fn push(&mut self, piece: Bytes, out: &mut VecDeque<Bytes>) {
        push_through(&mut self.stages, piece, out);
    }

    /// Takes a piece that ends where a message ends, so that nothing is held back after it.
    pub(super) fn push_end(&mut self, piece: Bytes, out: &mut VecDeque<Bytes>) {
        if let [only] = self.stages.as_mut_slice() {
            return only.push(piece, true, out);
        }
        self.push(piece, out);
        self.flush(out);
    }

    /// Appends what is held back: nothing more belongs to it.
    pub(super) fn flush(&mut self, out: &mut VecDeque<Bytes>) {
        let mut stages = self.stages.as_mut_slice();
        while let Some((stage, later)) = stages.split_first_mut() {
            let mut cleared = VecDeque::new();
            stage.push(Bytes::new(), true, &mut cleared);
            for piece in cleared {
                push_through(later, piece, out);
            }
            stages = later;
        }
    }
}

fn push_through(stages: &mut [Stage], piece: Bytes, out: &mut VecDeque<Bytes>) {
    match stages {
        [] if piece.is_empty() => {}
        [] => out.push_back(piece),
        [only] => only.push(piece, false, out),
        [stage, later @ ..] => {
            let mut cleared = VecDeque::new();
            stage.push(piece, false, &mut cleared);
            for piece in cleared {
                push_through(later, piece, out);
            }
        }
    }
}

impl Stage {
    /// With `last`, nothing that follows belongs to this piece, and nothing is held back.
    fn push(&mut self, mut piece: Bytes, last: bool, out: &mut VecDeque<Bytes>) {
        if !self.held.is_empty() {
            self.join(&mut piece, last, out);
        }
        if !piece.is_empty() {
            self.clear(piece, last, out);
        }
    }

    /// Decides on what is held back, together with as much of the piece as that takes.
    fn join(&mut self, piece: &mut Bytes, last: bool, out: &mut VecDeque<Bytes>) {
        let held = std::mem::take(&mut self.held);
        let taken = piece.len().min(self.needles.longest());
        let mut joined = BytesMut::with_capacity(held.len() + taken);
        joined.extend_from_slice(&held);
        joined.extend_from_slice(piece.get(..taken).unwrap_or_default());
        if taken == piece.len() {
            piece.clear();
            return self.clear(joined.freeze(), last, out);
        }
        let mut at = 0;
        while let Next::Hit { start, put } = self.needles.next(&joined, at, false) {
            // One that begins in the piece is found there again, without a copy.
            if start >= held.len() {
                break;
            }
            at = overwrite(&mut joined, start, put);
            self.hits += 1;
        }
        let decided = at.max(held.len());
        joined.truncate(decided);
        out.push_back(joined.freeze());
        piece.advance(decided - held.len());
    }

    /// Passes on all of `piece` but a live end.
    fn clear(&mut self, mut piece: Bytes, last: bool, out: &mut VecDeque<Bytes>) {
        let mut at = 0;
        loop {
            match self.needles.next(&piece, at, last) {
                Next::Hit { start, put } => {
                    let mut own = BytesMut::from(std::mem::take(&mut piece));
                    at = overwrite(&mut own, start, put);
                    piece = own.freeze();
                    self.hits += 1;
                }
                Next::Live(start) => {
                    self.held = piece.split_off(start);
                    break;
                }
                Next::Clean => break,
            }
        }
        if !piece.is_empty() {
            out.push_back(piece);
        }
    }
}

/// Puts the mask in its place and says where it ends.
fn overwrite(bytes: &mut [u8], start: usize, put: &[u8]) -> usize {
    let end = start + put.len();
    if let Some(found) = bytes.get_mut(start..end) {
        found.copy_from_slice(put);
    }
    end
}
