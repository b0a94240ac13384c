//! WebSocket frames (RFC 6455 §5): their heads, masks and order. Extensions are never in use where these are read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before it.
    Continuation,
    /// The first of a text message.
    Text,
    /// The first of a binary message.
    Binary,
    /// The end of the connection.
    Close,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The masking key; frames from a client have one, frames from a server do not.
    pub mask: Option<[u8; 4]>,
    /// How many bytes follow.
    pub length: u64,
}

/// Why bytes are no WebSocket stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// RSV1 to RSV3 belong to extensions, and none was agreed on.
    #[error("a WebSocket frame uses an extension that was not agreed on")]
    Reserved,
    /// Opcodes 3 to 7 and 11 to 15.
    #[error("a WebSocket frame has the unknown opcode {0}")]
    Opcode(u8),
    /// A control frame is whole and at most 125 bytes long.
    #[error("a WebSocket control frame is fragmented or too long")]
    Control,
    /// The length is not in its shortest form or over 2^63.
    #[error("a WebSocket frame's length is malformed")]
    Length,
    /// A client must mask, a server must not.
    #[error("a WebSocket frame is masked though it should not be, or not masked though it should")]
    Mask,
    /// A continuation without a beginning, or a beginning inside a message.
    #[error("a WebSocket frame stands out of order")]
    Order,
}

impl Opcode {
    /// Whether it is a close, a ping or a pong, which may stand between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn read(bits: u8) -> Result<Self, BadFrame> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(BadFrame::Opcode(other)),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

impl Head {
    /// Reads a head from the front of `bytes`; `None` when more of them are needed.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn read(mut bytes: &[u8]) -> Result<Option<Self>, BadFrame> {
        let (Ok(first), Ok(second)) = (bytes.try_get_u8(), bytes.try_get_u8()) else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(BadFrame::Reserved);
        }
        let (fin, opcode) = (first & 0x80 != 0, Opcode::read(first & 0x0f)?);
        let short = u64::from(second & 0x7f);
        if opcode.is_control() && (!fin || short > 125) {
            return Err(BadFrame::Control);
        }
        let (length, least) = match short {
            126 => (bytes.try_get_u16().map(u64::from), 126),
            127 => (bytes.try_get_u64(), 1 << 16),
            short => (Ok(short), 0),
        };
        let Ok(length) = length else { return Ok(None) };
        if length < least || length > i64::MAX.unsigned_abs() {
            return Err(BadFrame::Length);
        }
        let mask = match second & 0x80 {
            0 => None,
            _ => match bytes.try_get_u32() {
                Ok(key) => Some(key.to_be_bytes()),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(Self {
            fin,
            opcode,
            mask,
            length,
        }))
    }

    /// Appends the head to `out`, its length in the shortest form.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(self.fin) << 7 | self.opcode.bits());
        let masked = u8::from(self.mask.is_some()) << 7;
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(length @ ..126), _) => out.put_u8(masked | length),
            (_, Ok(length)) => {
                out.put_u8(masked | 126);
                out.put_u16(length);
            }
            _ => {
                out.put_u8(masked | 127);
                out.put_u64(self.length);
            }
        }
        if let Some(key) = self.mask {
            out.put_slice(&key);
        }
    }
}

/// Masks or unmasks `bytes`, the first of which stands `offset` bytes into the payload.
pub fn mask(bytes: &mut [u8], mut key: [u8; 4], offset: u64) {
    key.rotate_left((offset % 4) as usize);
    for chunk in bytes.chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
}

/// Reads a stream of frames that comes in pieces: heads, and the payload between them as it comes.
#[derive(Debug, Default)]
pub struct Frames {
    head: BytesMut,
    current: Option<(Head, u64)>,
    /// What the message under way, or the last one, began with.
    message: Option<Opcode>,
    /// Whether a message is under way.
    inside: bool,
}

/// What comes next in a stream of frames.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame begins.
    Head(Head),
    /// More of a frame's payload, which stands `offset` bytes into it.
    Payload(Head, u64, Bytes),
    /// The frame has ended.
    End(Head),
}

impl Frames {
    /// The next step, taken off the front of `input`; `None` when more input is needed.
    ///
    /// # Errors
    /// When the stream is malformed or out of order. It must not be read on.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Step>, BadFrame> {
        let Some((head, seen)) = self.current else {
            return self.begin(input);
        };
        let left = head.length - seen;
        if left == 0 {
            self.current = None;
            return Ok(Some(Step::End(head)));
        }
        if input.is_empty() {
            return Ok(None);
        }
        let bytes = input.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
        self.current = Some((head, seen + bytes.len() as u64));
        Ok(Some(Step::Payload(head, seen, bytes)))
    }

    /// Whether the frames that are not control frames belong to a text message.
    pub fn in_text(&self) -> bool {
        self.message == Some(Opcode::Text)
    }

    fn begin(&mut self, input: &mut Bytes) -> Result<Option<Step>, BadFrame> {
        while !input.is_empty() {
            self.head.put_u8(input.get_u8());
            let Some(head) = Head::read(&self.head)? else { continue };
            self.head.clear();
            self.order(&head)?;
            self.current = Some((head, 0));
            return Ok(Some(Step::Head(head)));
        }
        Ok(None)
    }

    fn order(&mut self, head: &Head) -> Result<(), BadFrame> {
        if head.opcode.is_control() {
            return Ok(());
        }
        if (head.opcode == Opcode::Continuation) != self.inside {
            return Err(BadFrame::Order);
        }
        if !self.inside {
            self.message = Some(head.opcode);
        }
        self.inside = !head.fin;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_survive_writing_and_reading() {
        for length in [0, 1, 125, 126, 65_535, 65_536, i64::MAX.unsigned_abs()] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let head = Head {
                    fin: true,
                    opcode: Opcode::Binary,
                    mask,
                    length,
                };
                let mut bytes = BytesMut::new();
                head.write(&mut bytes);
                assert_eq!(Head::read(&bytes), Ok(Some(head)));
                for end in 0..bytes.len() {
                    assert_eq!(Head::read(&bytes[..end]), Ok(None));
                }
            }
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        for (bytes, error) in [
            (&[0xc1, 0][..], BadFrame::Reserved),
            (&[0x83, 0], BadFrame::Opcode(3)),
            (&[0x8b, 0], BadFrame::Opcode(11)),
            (&[0x09, 0], BadFrame::Control),
            (&[0x89, 126, 0, 126], BadFrame::Control),
            (&[0x82, 126, 0, 125], BadFrame::Length),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], BadFrame::Length),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], BadFrame::Length),
        ] {
            assert_eq!(Head::read(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn frames_out_of_order_are_refused() {
        for stream in [&[0x80, 0][..], &[0x01, 0, 0x81, 0], &[0x01, 0, 0x02, 0]] {
            let (mut frames, mut input) = (Frames::default(), Bytes::copy_from_slice(stream));
            let error = loop {
                match frames.next(&mut input) {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert_eq!(error, Err(BadFrame::Order), "{stream:?}");
        }
    }

    proptest! {
        #[test]
        fn masking_in_pieces_is_masking_the_whole(whole: Vec<u8>, key: [u8; 4], at: proptest::sample::Index) {
            let at = if whole.is_empty() { 0 } else { at.index(whole.len()) };
            let (mut once, mut pieces) = (whole.clone(), whole.clone());
            mask(&mut once, key, 0);
            let (first, second) = pieces.split_at_mut(at);
            mask(first, key, 0);
            mask(second, key, at as u64);
            prop_assert_eq!(&once, &pieces);
            mask(&mut once, key, 0);
            prop_assert_eq!(once, whole);
        }
    }
}
