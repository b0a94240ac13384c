//! WebSocket frames on their way to the agent.

use super::needles::Needles;
use super::stream::Scrubber;
use crate::base::frame::{BadFrame, Frames, Head, Step};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// Masks credentials in the messages that a server sends, text and binary, across its fragments.
///
/// Lengths stay, so heads do too. Held back is only what may become a spelling, and never past the end of a
/// message. `permessage-deflate` must not have been agreed on; [`super::ask`] sees to that. Without needles, all bytes
/// pass unread.
#[derive(Debug)]
pub struct Scrub {
    needles: Vec<Arc<Needles>>,
    scrubber: Scrubber,
    frames: Frames,
    /// The control frame that is being collected.
    control: BytesMut,
    /// Payload of messages that is clear.
    cleared: VecDeque<Bytes>,
    /// What goes out, in order.
    queue: VecDeque<Part>,
    /// How many bytes of heads and control frames wait behind what is held back.
    waiting: usize,
    masked_in_control: u64,
}

/// A part of the outgoing stream.
#[derive(Debug)]
enum Part {
    /// A head or a whole control frame.
    Ready(BytesMut),
    /// As many bytes of cleared payload.
    Payload(usize),
}

/// How many bytes of heads and control frames may wait behind a partial match.
const MAX_WAITING: usize = 64 * 1024;

/// Why the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server does not speak the protocol.
    #[error(transparent)]
    Frame(#[from] BadFrame),
    /// Empty fragments or control frames pile up inside a message.
    #[error("the WebSocket server piles up frames behind what may become the credential")]
    Padding,
}

impl Scrub {
    /// One for a new connection.
    pub fn new(needles: &[Arc<Needles>]) -> Self {
        Self {
            needles: needles.iter().filter(|n| !n.is_empty()).cloned().collect(),
            scrubber: Scrubber::new(needles),
            frames: Frames::default(),
            control: BytesMut::new(),
            cleared: VecDeque::new(),
            queue: VecDeque::new(),
            waiting: 0,
            masked_in_control: 0,
        }
    }

    /// How often a credential was masked so far.
    pub fn hits(&self) -> u64 {
        self.scrubber.hits() + self.masked_in_control
    }

    /// Takes what the server sent and appends to `out` what may go to the agent.
    ///
    /// # Errors
    /// When the server breaks the protocol; then close the connection, `out` included.
    pub fn push(&mut self, mut input: Bytes, out: &mut BytesMut) -> Result<(), Error> {
        if self.needles.is_empty() {
            // No credential went out, so extensions may be in use, and the frames are nobody's business.
            out.extend_from_slice(&input);
            return Ok(());
        }
        while let Some(step) = self.frames.next(&mut input)? {
            match step {
                Step::Head(head) => self.head(&head)?,
                Step::Payload(_, _, bytes) => self.payload(bytes),
                Step::End(head) => self.end(&head),
            }
            if self.waiting > MAX_WAITING {
                return Err(Error::Padding);
            }
            self.drain(out);
        }
        Ok(())
    }

    fn head(&mut self, head: &Head) -> Result<(), Error> {
        if head.mask.is_some() {
            return Err(BadFrame::Mask.into());
        }
        let mut bytes = BytesMut::with_capacity(16);
        head.write(&mut bytes);
        if head.opcode.is_control() {
            self.control = bytes;
        } else {
            self.ready(bytes);
        }
        Ok(())
    }

    fn payload(&mut self, bytes: Bytes) {
        // A control frame stands by itself, so it is collected (125 bytes at most) and masked at its end.
        if !self.control.is_empty() {
            self.control.extend_from_slice(&bytes);
            return;
        }
        match self.queue.back_mut() {
            Some(Part::Payload(length)) => *length += bytes.len(),
            _ => self.queue.push_back(Part::Payload(bytes.len())),
        }
        self.scrubber.push(bytes, &mut self.cleared);
    }

    fn end(&mut self, head: &Head) {
        if head.opcode.is_control() {
            let mut frame = std::mem::take(&mut self.control);
            // Its head is two bytes, of which the length may well be a letter of the credential.
            let payload = frame.get_mut(2..).unwrap_or_default();
            for needles in &self.needles {
                self.masked_in_control += needles.mask(payload);
            }
            self.ready(frame);
        } else if head.fin {
            self.scrubber.flush(&mut self.cleared);
        }
    }

    fn ready(&mut self, bytes: BytesMut) {
        self.waiting += bytes.len();
        self.queue.push_back(Part::Ready(bytes));
    }

    /// Appends to `out` all that is in front of what is held back.
    fn drain(&mut self, out: &mut BytesMut) {
        while let Some(part) = self.queue.front_mut() {
            let done = match part {
                Part::Ready(bytes) => {
                    self.waiting -= bytes.len();
                    out.extend_from_slice(bytes);
                    true
                }
                Part::Payload(left) => {
                    take(&mut self.cleared, left, out);
                    *left == 0
                }
            };
            if !done {
                return;
            }
            self.queue.pop_front();
        }
    }
}

/// Moves up to `left` bytes of cleared payload to `out`.
fn take(cleared: &mut VecDeque<Bytes>, left: &mut usize, out: &mut BytesMut) {
    while let Some(front) = cleared.front_mut().filter(|_| *left > 0) {
        let piece = front.split_to(front.len().min(*left));
        *left -= piece.len();
        out.extend_from_slice(&piece);
        if front.is_empty() {
            cleared.pop_front();
        }
    }
}
