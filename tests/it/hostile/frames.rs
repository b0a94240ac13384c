//! HTTP/2 by hand: frames and literal header fields, so that anything can be said (RFC 9113, RFC 7541 §6.2.2).

use crate::rig::soon;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, whole.
    Answered(u16, Vec<u8>),
    /// Reset with this code.
    Reset(u32),
    /// The connection was ended.
    Gone,
}

impl Outcome {
    /// The answer's status; 0 without an answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Answered(status, _) => *status,
            _ => 0,
        }
    }

    /// Whether it came to nothing.
    pub fn is_refused(&self) -> bool {
        !(200..400).contains(&self.status())
    }
}

/// A connection spoken by hand.
pub struct Frames<I> {
    io: I,
    buffer: Vec<u8>,
    answers: HashMap<u32, (u16, Vec<u8>)>,
    /// Streams that came to an end.
    ended: HashMap<u32, Outcome>,
    gone: bool,
    /// All that was received.
    pub heard: Vec<u8>,
}

/// A frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields, each literal, never indexed, not Huffman-coded.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name.as_bytes());
        text(&mut block, value.as_bytes());
    }
    block
}

fn text(block: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(text);
}

impl<I: AsyncRead + AsyncWrite + Unpin> Frames<I> {
    /// Greets, and asks for answers without a dynamic table (RFC 9113 §3.4, §6.5.2).
    pub async fn greet(io: I) -> Self {
        let mut frames = Self {
            io,
            buffer: Vec::new(),
            answers: HashMap::new(),
            ended: HashMap::new(),
            gone: false,
            heard: Vec::new(),
        };
        let table = [0, 1, 0, 0, 0, 0];
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &table)[..]].concat();
        frames.say(&hello).await;
        frames
    }

    /// Sends bytes; whether the other side still takes them.
    pub async fn say(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).await.is_ok() && self.io.flush().await.is_ok()
    }

    /// Sends a whole head, and the end of the stream with it if `end`.
    pub async fn head(&mut self, stream: u32, list: &[(&str, &str)], end: bool) -> bool {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.say(&frame(HEADERS, flags, stream, &fields(list))).await
    }

    /// Sends a piece of a body.
    pub async fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> bool {
        self.say(&frame(DATA, if end { END_STREAM } else { 0 }, stream, bytes))
            .await
    }

    /// Waits until the stream has come to something.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(outcome) = self.ended.remove(&stream) {
                return outcome;
            }
            if self.gone {
                return Outcome::Gone;
            }
            soon("a frame", self.step()).await;
        }
    }

    /// The kinds of all frames that were received for a stream, in order.
    pub fn kinds(&self, stream: u32) -> Vec<u8> {
        let (mut kinds, mut rest) = (Vec::new(), &self.heard[..]);
        while rest.len() >= 9 {
            let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
            if rest[5..9] == stream.to_be_bytes() {
                kinds.push(rest[3]);
            }
            rest = rest.get(9 + length..).unwrap_or_default();
        }
        kinds
    }

    /// Reads until the connection ends; the code of the last GOAWAY, if one came.
    pub async fn farewell(&mut self) -> Option<u32> {
        let mut code = None;
        while !self.gone {
            if let Some(said) = soon("the end", self.step()).await {
                code = Some(said);
            }
        }
        code
    }

    /// Reads one frame.
    async fn step(&mut self) -> Option<u32> {
        while self.buffer.len() < 9 || self.buffer.len() < 9 + self.length() {
            let before = self.buffer.len();
            if !self.io.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0) {
                self.gone = true;
                return None;
            }
            self.heard.extend_from_slice(&self.buffer[before..]);
        }
        let whole: Vec<u8> = self.buffer.drain(..9 + self.length()).collect();
        let (kind, flags, payload) = (whole[3], whole[4], &whole[9..]);
        let stream = u32::from_be_bytes(whole[5..9].try_into().unwrap());
        match kind {
            HEADERS if !self.answers.contains_key(&stream) => {
                self.answers.insert(stream, (status(payload), Vec::new()));
            }
            DATA => {
                let answer = self.answers.entry(stream).or_default();
                answer.1.extend_from_slice(payload);
            }
            RST_STREAM => {
                let code = u32::from_be_bytes(payload[..4].try_into().unwrap());
                // After a whole answer, a reset only says that the rest of the request is not wanted.
                self.ended.entry(stream).or_insert(Outcome::Reset(code));
            }
            SETTINGS if flags & 1 == 0 => drop(self.io.write_all(&frame(SETTINGS, 1, 0, &[])).await),
            PING if flags & 1 == 0 => drop(self.io.write_all(&frame(PING, 1, 0, payload)).await),
            GOAWAY => return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            let (status, body) = self.answers.remove(&stream).unwrap();
            self.ended.insert(stream, Outcome::Answered(status, body));
        }
        None
    }

    fn length(&self) -> usize {
        usize::from(self.buffer[0]) << 16 | usize::from(self.buffer[1]) << 8 | usize::from(self.buffer[2])
    }
}

/// The status, which is the first field of an answer (RFC 7541 §6.1, §6.2; RFC 9113 §8.3.2).
fn status(block: &[u8]) -> u16 {
    // A change of the table's size may come first.
    let block = &block[block.iter().take_while(|b| **b & 0xe0 == 0x20).count()..];
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x08 | 0x18 | 0x48 if block[1] & 0x80 == 0 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        0x08 | 0x18 | 0x48 => digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
        other => panic!("no status in {other:#x}"),
    }
}

/// Three digits in the Huffman code of RFC 7541, appendix B.
fn digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|b| (0..8).rev().map(move |at| b >> at & 1))
        .collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |sum, bit| sum << 1 | u16::from(*bit));
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let digit = if short < 3 {
            short
        } else {
            number(&bits[at..at + 6]) - 22
        };
        at += if short < 3 { 5 } else { 6 };
        value = value * 10 + digit;
    }
    value
}
