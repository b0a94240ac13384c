//! Decoders that take bytes and give bytes, a bounded slice at a time.

use crate::base::budget::{Budget, Share};
use crate::scrub::coding::{Coding, Unscrubbable};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;
use zstd::stream::raw::{self, Operation as _};
use zstd::zstd_safe::DParameter;

/// How many bytes one step may produce.
pub(super) const SLICE: usize = 16 * 1024;

/// Up to here a body may expand as it likes.
const FREE: u64 = 64 * 1024 * 1024;

/// Beyond [`FREE`] it may not have grown by more than this factor; text reaches some tens.
const MAX_RATIO: u64 = 250;

/// The largest window of a zstd stream, as for HTTP (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A decoder for one body.
pub(in crate::scrub) struct Decoder {
    engine: Engine,
    coding: Coding,
    memory: Budget,
    /// What the engine takes of it; nothing before the first byte.
    window: Option<Share>,
    taken: u64,
    given: u64,
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

enum Engine {
    /// Nothing was decoded yet, or a member of a gzip stream has ended and another may follow.
    Between,
    Inflate(Decompress),
    Brotli(Box<Brotli>),
    Zstd {
        stream: raw::Decoder<'static>,
        /// Whether a frame has begun and not ended.
        inside: bool,
    },
    /// The stream has ended; what follows is not part of it.
    Done,
}

/// What an engine did in one step.
struct Progress {
    taken: usize,
    given: usize,
    ended: bool,
}

impl Decoder {
    pub(in crate::scrub) fn new(coding: Coding, memory: &Budget) -> Self {
        Self {
            memory: memory.clone(),
            window: None,
            engine: Engine::Between,
            coding,
            taken: 0,
            given: 0,
        }
    }

    /// Decodes into one slice and takes what it used off `input`. An empty slice means: more input is needed.
    ///
    /// # Errors
    /// When the bytes are not what the coding says, or expand beyond measure, or there is no memory to decode with.
    pub(in crate::scrub) fn step(&mut self, input: &mut Bytes) -> Result<Bytes, Unscrubbable> {
        let mut slice = Vec::new();
        loop {
            if input.is_empty() && matches!(self.engine, Engine::Between) {
                return Ok(Bytes::new());
            }
            self.begin(input)?;
            if matches!(self.engine, Engine::Done) {
                input.clear();
                return Ok(Bytes::new());
            }
            slice.resize(SLICE, 0);
            let progress = self.engine.run(input, &mut slice).map_err(|()| self.malformed())?;
            input.advance(progress.taken);
            self.taken += progress.taken as u64;
            self.given += progress.given as u64;
            if progress.ended {
                self.engine = if self.coding == Coding::Gzip {
                    Engine::Between
                } else {
                    Engine::Done
                };
            }
            if self.given > FREE && self.given / self.taken.max(1) > MAX_RATIO {
                return Err(Unscrubbable::Bomb(MAX_RATIO));
            }
            if progress.given > 0 {
                slice.truncate(progress.given);
                return Ok(slice.into());
            }
            if progress.taken == 0 && !progress.ended {
                // Nothing went in or out: with input left, the stream is stuck for good.
                return if input.is_empty() {
                    Ok(Bytes::new())
                } else {
                    Err(self.malformed())
                };
            }
        }
    }

    /// Whether the body may end here.
    pub(in crate::scrub) fn may_end(&self) -> bool {
        matches!(
            self.engine,
            Engine::Between | Engine::Done | Engine::Zstd { inside: false, .. }
        )
    }

    /// Makes the engine for a stream, or for a gzip stream's next member (RFC 1952 §2.2).
    fn begin(&mut self, input: &Bytes) -> Result<(), Unscrubbable> {
        let Engine::Between = self.engine else { return Ok(()) };
        let first = input.first().copied().unwrap_or_default();
        if self.window.is_none() {
            let window = self.memory.take(self.coding.window(first));
            self.window = Some(window.map_err(|_| Unscrubbable::Busy)?);
        }
        self.engine = match self.coding {
            Coding::Gzip if self.taken > 0 && first != 0x1f => Engine::Done,
            Coding::Gzip => Engine::Inflate(Decompress::new_gzip(15)),
            // Some send the bare stream without the zlib header that RFC 9110 §8.4.1.2 asks for.
            Coding::Deflate => Engine::Inflate(Decompress::new(first & 0x0f == 8)),
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                Engine::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
            Coding::Zstd => {
                let mut stream = raw::Decoder::new().map_err(|_| self.malformed())?;
                stream
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
                    .map_err(|_| self.malformed())?;
                Engine::Zstd { stream, inside: false }
            }
        };
        Ok(())
    }

    fn malformed(&self) -> Unscrubbable {
        Unscrubbable::Malformed(match self.coding {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "brotli",
            Coding::Zstd => "zstd",
        })
    }
}

impl Coding {
    /// The most bytes that decoding a body takes which begins with `first`.
    fn window(self, first: u8) -> u64 {
        /// Tables and the like beside the window.
        const STATE: u64 = 64 * 1024;
        STATE
            + match self {
                Self::Gzip | Self::Deflate => 32 * 1024,
                Self::Brotli => 1 << brotli_window(first),
                // A later frame may ask for more than the first one does.
                Self::Zstd => 1 << ZSTD_WINDOW_LOG,
            }
    }
}

/// The window of a brotli stream, as a power of two, by its first bits (RFC 7932 §9.1).
fn brotli_window(first: u8) -> u32 {
    let (low, high) = (u32::from(first >> 1 & 7), u32::from(first >> 4 & 7));
    match (first & 1, low, high) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, high) => 8 + high,
        (_, low, _) => 17 + low,
    }
}

impl Engine {
    fn run(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, ()> {
        match self {
            Self::Between | Self::Done => Ok(Progress {
                taken: 0,
                given: 0,
                ended: false,
            }),
            Self::Inflate(stream) => inflate(stream, input, output),
            Self::Brotli(state) => brotli(state, input, output),
            Self::Zstd { stream, inside } => {
                let status = stream.run_on_buffers(input, output).map_err(|_| ())?;
                if status.bytes_read + status.bytes_written > 0 {
                    *inside = status.remaining != 0;
                }
                Ok(Progress {
                    taken: status.bytes_read,
                    given: status.bytes_written,
                    ended: false,
                })
            }
        }
    }
}

fn inflate(stream: &mut Decompress, input: &[u8], output: &mut [u8]) -> Result<Progress, ()> {
    let (before_in, before_out) = (stream.total_in(), stream.total_out());
    let status = stream
        .decompress(input, output, FlushDecompress::None)
        .map_err(|_| ())?;
    let size = |after: u64, before: u64| usize::try_from(after - before).map_err(|_| ());
    Ok(Progress {
        taken: size(stream.total_in(), before_in)?,
        given: size(stream.total_out(), before_out)?,
        ended: status == Status::StreamEnd,
    })
}

fn brotli(state: &mut Brotli, input: &[u8], output: &mut [u8]) -> Result<Progress, ()> {
    let (mut available_in, mut taken) = (input.len(), 0);
    let (mut available_out, mut given, mut total) = (output.len(), 0, 0);
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut taken,
        input,
        &mut available_out,
        &mut given,
        output,
        &mut total,
        state,
    );
    match result {
        BrotliResult::ResultFailure => Err(()),
        BrotliResult::ResultSuccess => Ok(Progress {
            taken,
            given,
            ended: true,
        }),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(Progress {
            taken,
            given,
            ended: false,
        }),
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("coding", &self.coding)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_window_is_taken_from_the_budget_and_given_back() {
        let memory = Budget::new(9 << 20);
        let mut zstd = Decoder::new(Coding::Zstd, &memory);
        let mut more = Decoder::new(Coding::Zstd, &memory);
        let begin = || Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd]);
        assert!(zstd.step(&mut begin()).is_ok());
        assert_eq!(more.step(&mut begin()), Err(Unscrubbable::Busy));
        drop(zstd);
        assert!(more.step(&mut begin()).is_ok());
    }

    #[test]
    fn the_first_byte_of_brotli_tells_its_window() {
        // Made by the reference encoder (python's `brotli`) with `lgwin` from 10 to 24.
        for (first, window) in [
            (0x21, 10),
            (0x31, 11),
            (0x41, 12),
            (0x51, 13),
            (0x61, 14),
            (0x71, 15),
            (0x00, 16),
            (0x01, 17),
            (0x03, 18),
            (0x05, 19),
            (0x07, 20),
            (0x09, 21),
            (0x0b, 22),
            (0x0d, 23),
            (0x0f, 24),
        ] {
            assert_eq!(brotli_window(first), window, "{first:#x}");
        }
    }
}
