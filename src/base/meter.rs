//! HTTP/2 as it passes by: frames are counted, heads timed, streams known. `h2` bounds the memory that a hostile peer
//! can take; this bounds how much work it makes, and how long a head may take, which `h2` does not.

use std::time::Duration;
use tokio::time::Instant;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
/// A kind that means nothing to anybody and has to be ignored (RFC 9113 §5.5).
const NOTHING: u8 = 0xff;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;
/// Where in it the frame's kind stands.
const KIND: usize = 3;

/// Frames beyond requests, responses and their bodies that a peer may send at once, and so many more a second: what
/// nghttp2 (1.66) grants what it calls glitches.
const FRAMES: Bucket = Bucket::new(10_000, 330);
/// Streams that a peer may reset at once, and so many more a second, against rapid reset (CVE-2023-44487): nghttp2's
/// figures again.
const RESETS: Bucket = Bucket::new(1_000, 33);
/// Frames of grace for each DATA frame that the peer has to make room for: Envoy's figure for WINDOW_UPDATE.
const FOR_DATA: u32 = 10;
/// And for each stream, for its weight, its window, its trailers and its end.
const FOR_STREAM: u32 = 4;
/// Streams that may seem open at one time. `h2` refuses those over the limit that was announced, but not at once.
const MOST_OPEN: usize = 4_096;

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other side opens streams.
    Server,
    /// We do.
    Client,
}

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// Frames that carry nothing, faster than anybody has a use for.
    #[error("a flood of HTTP/2 control frames")]
    Frames,
    /// Streams opened only to be reset.
    #[error("a flood of HTTP/2 stream resets")]
    Resets,
    /// Streams opened without end.
    #[error("a flood of HTTP/2 streams")]
    Streams,
}

/// One HTTP/2 connection, seen from outside.
#[derive(Debug)]
pub struct Meter {
    end: End,
    received: Heads,
    sent: Heads,
    frames: Bucket,
    resets: Bucket,
    /// Streams that wait for us, in the order in which they were opened; as the server only.
    open: Vec<u32>,
    newest: u32,
    /// Whether a block of header fields has begun and not ended.
    in_block: bool,
    /// Since when the preface, a head or a control frame is unfinished.
    begun: Option<Instant>,
    /// Since when no stream waits for us; as the server only.
    quiet: Option<Instant>,
}

impl Meter {
    /// A connection of which nothing was seen yet.
    pub fn new(end: End) -> Self {
        let now = Instant::now();
        let preface = PREFACE.len();
        Self {
            end,
            received: Heads::after(if end == End::Server { preface } else { 0 }),
            sent: Heads::after(if end == End::Client { preface } else { 0 }),
            frames: FRAMES.full(now),
            resets: RESETS.full(now),
            open: Vec::new(),
            newest: 0,
            in_block: false,
            begun: Some(now),
            quiet: (end == End::Server).then_some(now),
        }
    }

    /// Takes what the other side sent, and makes DATA frames that carry nothing and end nothing frames of no kind: `h2`
    /// ends a connection at the hundredth, however long it lives, and Node's servers send one before any trailers.
    ///
    /// # Errors
    /// When it is a flood.
    pub fn received(&mut self, bytes: &mut [u8]) -> Result<(), Flood> {
        let now = Instant::now();
        let mut at = 0;
        loop {
            let mut rest = bytes.get(at..).unwrap_or_default();
            let Some(head) = self.received.next(&mut rest) else {
                break;
            };
            at = bytes.len() - rest.len();
            if !self.in_block {
                // Whatever was unfinished is finished: this is another frame.
                self.begun = None;
            }
            self.came(head, now)?;
            // Of a head that comes in two pieces, the kind may be gone already; then `h2` counts it.
            let kind = at.checked_sub(HEAD - KIND).and_then(|at| bytes.get_mut(at));
            if let Some(kind) = kind.filter(|_| head.is_empty_data()) {
                *kind = NOTHING;
            }
        }
        let unfinished = self.in_block || self.received.is_inside(DATA);
        match (unfinished, self.begun) {
            (true, None) => self.begun = Some(now),
            (false, Some(_)) => self.begun = None,
            _ => {}
        }
        Ok(())
    }

    /// Takes what we sent.
    pub fn sent(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(head) = self.sent.next(&mut rest) {
            match head.kind {
                DATA if head.length > 0 => self.frames.add(FOR_DATA),
                HEADERS if self.end == End::Client => self.frames.add(FOR_STREAM),
                _ => {}
            }
            let ends = matches!(head.kind, DATA | HEADERS) && head.flags & END_STREAM != 0;
            if ends || head.kind == RST_STREAM {
                self.close(head.stream);
            }
        }
    }

    /// Since when the other side has a head unfinished; its preface counts as one.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Since when no stream waits for us, as the server.
    pub fn quiet(&self) -> Option<Instant> {
        self.quiet
    }

    fn came(&mut self, head: Head, now: Instant) -> Result<(), Flood> {
        match head.kind {
            DATA if !head.is_empty_data() => return Ok(()),
            HEADERS if self.end == End::Server && head.stream > self.newest => self.opened(head.stream)?,
            RST_STREAM => {
                self.close(head.stream);
                if self.end == End::Server {
                    self.resets.take(now).ok_or(Flood::Resets)?;
                }
                self.frames.take(now).ok_or(Flood::Frames)?;
            }
            _ => self.frames.take(now).ok_or(Flood::Frames)?,
        }
        if matches!(head.kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.in_block = head.flags & END_HEADERS == 0;
        }
        Ok(())
    }

    fn opened(&mut self, stream: u32) -> Result<(), Flood> {
        self.newest = stream;
        self.frames.add(FOR_STREAM);
        if self.open.len() >= MOST_OPEN {
            return Err(Flood::Streams);
        }
        self.open.push(stream);
        self.quiet = None;
        Ok(())
    }

    fn close(&mut self, stream: u32) {
        if let Ok(at) = self.open.binary_search(&stream) {
            self.open.remove(at);
            if self.open.is_empty() {
                self.quiet = Some(Instant::now());
            }
        }
    }
}

/// The first bytes of a client (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn is_empty_data(self) -> bool {
        self.kind == DATA && self.length == 0 && self.flags & END_STREAM == 0
    }
}

/// Finds the heads of frames in bytes that come in any pieces.
#[derive(Debug)]
struct Heads {
    head: [u8; HEAD],
    have: usize,
    /// What of the preface or of a frame's payload is still to come.
    skip: usize,
    kind: Option<u8>,
}

impl Heads {
    fn after(preface: usize) -> Self {
        Self {
            head: [0; HEAD],
            have: 0,
            skip: preface,
            kind: None,
        }
    }

    /// Takes bytes off the front, up to and with the next whole head.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let skipped = self.skip.min(bytes.len());
        *bytes = bytes.get(skipped..)?;
        self.skip -= skipped;
        let wanted = self.head.get_mut(self.have..)?;
        let count = wanted.len().min(bytes.len());
        wanted.get_mut(..count)?.copy_from_slice(bytes.get(..count)?);
        *bytes = bytes.get(count..)?;
        self.have += count;
        if self.have < HEAD {
            return None;
        }
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        (self.have, self.skip, self.kind) = (0, length, Some(kind));
        Some(Head {
            length,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        })
    }

    /// Whether the bytes so far end inside the preface, a head, or a frame of another kind than `kind`.
    fn is_inside(&self, kind: u8) -> bool {
        self.have > 0 || self.skip > 0 && self.kind != Some(kind)
    }
}

/// A token bucket, counted in whole tokens.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    size: u32,
    a_second: u32,
    left: u32,
    since: Option<Instant>,
}

impl Bucket {
    const fn new(size: u32, a_second: u32) -> Self {
        Self {
            size,
            a_second,
            left: size,
            since: None,
        }
    }

    fn full(self, now: Instant) -> Self {
        Self {
            since: Some(now),
            ..self
        }
    }

    fn add(&mut self, tokens: u32) {
        self.left = self.left.saturating_add(tokens).min(self.size);
    }

    fn take(&mut self, now: Instant) -> Option<()> {
        if self.left == 0 {
            let passed = self
                .since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            let more = passed.as_millis().saturating_mul(u128::from(self.a_second)) / 1_000;
            self.add(u32::try_from(more).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        self.left = self.left.checked_sub(1)?;
        Some(())
    }
}

#[cfg(test)]
mod tests;
