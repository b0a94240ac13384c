//! The placeholder in text messages that the agent sends over a WebSocket.

#[cfg(test)]
mod tests;

use super::body::json_text;
use crate::base::frame::{self, BadFrame, Frames, Head, Opcode, Step};
use crate::base::secret::Secret;
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use zeroize::Zeroizing;

/// The most bytes of one frame that are collected. A longer frame goes out in fragments of this size, which RFC 6455
/// §5.4 allows anybody on the way.
pub const MAX_COLLECTED: usize = 1024 * 1024;

/// Swaps placeholders in the text messages of one connection, each at most once a message.
///
/// A frame keeps its borders, but for a placeholder that is cut by one (its beginning moves to the next frame) and for
/// frames beyond [`MAX_COLLECTED`]. Masking keys are made afresh. In a message that begins with a brace or a bracket
/// the credential is written as JSON writes it. Control frames pass at once.
pub struct Rewriter {
    swaps: Vec<Swap>,
    frames: Frames,
    /// The payload of the frame under way, unmasked, behind what the frame before it left.
    collected: BytesMut,
    /// The control frame under way, as it came.
    control: BytesMut,
    /// Whether a frame of the message under way went out already.
    begun: bool,
    /// Whether the message under way is JSON, once that is known.
    json: Option<bool>,
}

struct Swap {
    find: String,
    plain: Zeroizing<Vec<u8>>,
    json: Zeroizing<Vec<u8>>,
    /// Whether the message under way has had it.
    done: bool,
}

/// Why the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The agent does not speak the protocol.
    #[error(transparent)]
    Frame(#[from] BadFrame),
    /// A placeholder stands in a binary message or a control frame.
    #[error("a placeholder stands in a WebSocket message that is not text, where it is not swapped")]
    Misplaced,
    /// A message has the same placeholder again.
    #[error("a WebSocket message has the same placeholder twice; it is swapped once at most")]
    Repeated,
    /// Text messages are UTF-8.
    #[error("the credential is not UTF-8 and cannot stand in a WebSocket text message")]
    NotText,
    /// The system has no random bytes for a masking key.
    #[error("no random bytes for a WebSocket masking key")]
    NoRandom,
}

impl Error {
    /// The close code (RFC 6455 §7.4.1) to tell the agent.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Frame(_) => 1002,
            Self::Misplaced | Self::Repeated => 1008,
            Self::NotText | Self::NoRandom => 1011,
        }
    }
}

impl Rewriter {
    /// One for a new connection: each placeholder with the credential that takes its place.
    ///
    /// # Errors
    /// When a credential is not text.
    pub fn new<'a>(swaps: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Result<Self, Error> {
        let swap = |(find, secret): (&str, &Secret)| {
            let json = secret.expose(json_text).map_err(|_| Error::NotText)?;
            let plain = Zeroizing::new(secret.expose(<[u8]>::to_vec));
            Ok(Swap {
                find: find.to_owned(),
                plain,
                json: Zeroizing::new(json),
                done: false,
            })
        };
        let swaps: Result<Vec<_>, Error> = swaps
            .into_iter()
            .filter(|(find, _)| !find.is_empty())
            .map(swap)
            .collect();
        Ok(Self {
            swaps: swaps?,
            frames: Frames::default(),
            collected: BytesMut::new(),
            control: BytesMut::new(),
            begun: false,
            json: None,
        })
    }

    /// Takes what the agent sent, appends to `out` what may go to the server, and says how many placeholders it swapped.
    ///
    /// # Errors
    /// When the agent breaks the protocol or a placeholder stands where it may not. Then close the connection.
    pub fn push(&mut self, mut input: Bytes, out: &mut BytesMut) -> Result<u64, Error> {
        let mut swapped = 0;
        while let Some(step) = self.frames.next(&mut input)? {
            swapped += match step {
                Step::Head(head) if head.mask.is_none() => return Err(BadFrame::Mask.into()),
                Step::Head(_) => 0,
                Step::Payload(head, offset, bytes) => self.payload(&head, offset, &bytes, out)?,
                Step::End(head) if head.opcode.is_control() => self.control(&head, out)?,
                Step::End(head) => self.emit(head.fin, out)?,
            };
        }
        Ok(swapped)
    }

    fn payload(&mut self, head: &Head, offset: u64, bytes: &[u8], out: &mut BytesMut) -> Result<u64, Error> {
        let key = head.mask.unwrap_or_default();
        let to = if head.opcode.is_control() {
            &mut self.control
        } else {
            &mut self.collected
        };
        let before = to.len();
        to.extend_from_slice(bytes);
        frame::mask(to.get_mut(before..).unwrap_or_default(), key, offset);
        // The last fragment of a frame is left for its end, which knows whether the message ends too.
        if self.collected.len() > MAX_COLLECTED {
            self.emit(false, out)
        } else {
            Ok(0)
        }
    }

    fn control(&mut self, head: &Head, out: &mut BytesMut) -> Result<u64, Error> {
        let payload = std::mem::take(&mut self.control);
        if self
            .swaps
            .iter()
            .any(|swap| memchr::memmem::find(&payload, swap.find.as_bytes()).is_some())
        {
            return Err(Error::Misplaced);
        }
        write(head.fin, head.opcode, &payload, out)?;
        Ok(0)
    }

    /// Sends on what is collected of the message under way, less what may become a placeholder.
    fn emit(&mut self, fin: bool, out: &mut BytesMut) -> Result<u64, Error> {
        let mut text = std::mem::take(&mut self.collected);
        self.json = self.json.or_else(|| {
            text.iter()
                .find(|b| !b.is_ascii_whitespace())
                .map(|b| b"{[".contains(b))
        });
        let mut payload = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut swapped = 0;
        while let Some((at, which)) = self.find(&text) {
            if !self.frames.in_text() {
                return Err(Error::Misplaced);
            }
            let Some(swap) = self.swaps.get_mut(which) else { break };
            if std::mem::replace(&mut swap.done, true) {
                return Err(Error::Repeated);
            }
            payload.extend_from_slice(&text.split_to(at));
            payload.extend_from_slice(if self.json == Some(true) {
                &swap.json
            } else {
                &swap.plain
            });
            text.advance(swap.find.len());
            swapped += 1;
        }
        if !fin {
            self.collected = text.split_off(text.len() - self.unfinished(&text));
        }
        payload.extend_from_slice(&text);
        if fin || !payload.is_empty() {
            write(fin, self.opcode(), &payload, out)?;
            self.begun = !fin;
        }
        if fin {
            self.json = None;
            self.swaps.iter_mut().for_each(|swap| swap.done = false);
        }
        Ok(swapped)
    }

    /// Which opcode the next frame of the message under way has.
    fn opcode(&self) -> Opcode {
        match (self.begun, self.frames.in_text()) {
            (true, _) => Opcode::Continuation,
            (false, true) => Opcode::Text,
            (false, false) => Opcode::Binary,
        }
    }

    /// The first placeholder, and where it stands.
    fn find(&self, text: &[u8]) -> Option<(usize, usize)> {
        let found = self.swaps.iter().zip(0..);
        found
            .filter_map(|(swap, which)| Some((memchr::memmem::find(text, swap.find.as_bytes())?, which)))
            .min()
    }

    /// How many bytes at the end of `text` may be the beginning of a placeholder.
    fn unfinished(&self, text: &[u8]) -> usize {
        let longest = self.swaps.iter().map(|swap| swap.find.len()).max().unwrap_or(1);
        let begins = |tail: &[u8]| self.swaps.iter().any(|swap| swap.find.as_bytes().starts_with(tail));
        let lengths = (1..longest.min(text.len() + 1)).rev();
        lengths
            .into_iter()
            .find(|n| text.get(text.len() - n..).is_some_and(begins))
            .unwrap_or(0)
    }
}

/// Appends one frame to `out`, masked with a fresh key.
fn write(fin: bool, opcode: Opcode, payload: &[u8], out: &mut BytesMut) -> Result<(), Error> {
    let mut key = [0; 4];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| Error::NoRandom)?;
    Head {
        fin,
        opcode,
        mask: Some(key),
        length: payload.len() as u64,
    }
    .write(out);
    let before = out.len();
    out.extend_from_slice(payload);
    frame::mask(out.get_mut(before..).unwrap_or_default(), key, 0);
    Ok(())
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewriter")
            .field("placeholders", &self.swaps.len())
            .finish_non_exhaustive()
    }
}
