//! A look at every so many bytes of a text, which tells where no spelling can stand: several times as fast as looking at each.

use std::ops::Range;
use zeroize::Zeroizing;

/// Which four bytes in a row occur in the beginnings of spellings.
///
/// Wherever a spelling stands, four of its bytes stand at one of the places that are looked at, as these are no further
/// apart than its beginning is long.
pub(super) struct Grams {
    /// A bit for each hash. They say something of the credential, so they are wiped when dropped.
    seen: Zeroizing<Vec<u64>>,
    /// Bytes of each spelling's beginning.
    reach: usize,
}

/// Bytes of a gram.
const GRAM: usize = 4;
/// Bits of a hash: of two thousand grams, which is many for one credential, three in a hundred places look like one by chance.
const HASH_BITS: u32 = 16;
/// Bytes of a spelling that are of use: more would only be more grams.
const LONGEST_REACH: usize = 64;

impl Grams {
    /// Those of `spellings`, of which each has four bytes or more.
    pub(super) fn of<'a>(spellings: impl Iterator<Item = &'a [u8]> + Clone) -> Self {
        let shortest = spellings.clone().map(<[u8]>::len).min();
        let reach = shortest.unwrap_or(GRAM).clamp(GRAM, LONGEST_REACH);
        let mut seen = Zeroizing::new(vec![0; 1 << (HASH_BITS - u64::BITS.ilog2())]);
        for spelling in spellings {
            for gram in spelling.get(..reach).unwrap_or_default().windows(GRAM) {
                let (word, bit) = place(gram.first_chunk().copied().unwrap_or_default());
                if let Some(word) = seen.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        Self { seen, reach }
    }

    /// Where, from `from` on, the next spelling may begin. `None` when none does whose beginning is in `bytes` as a whole: only
    /// what stands from [`rest`](Self::rest) on may become one.
    pub(super) fn find(&self, bytes: &[u8], from: usize) -> Option<Range<usize>> {
        let mut at = from + self.reach - GRAM;
        while let Some(gram) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let (word, bit) = place(*gram);
            if self.seen.get(word).is_some_and(|word| word & bit != 0) {
                return Some(at + GRAM - self.reach..at + 1);
            }
            at += self.reach - GRAM + 1;
        }
        None
    }

    /// Where the end of `bytes` begins, too short for a spelling's beginning.
    pub(super) fn rest(&self, bytes: &[u8]) -> usize {
        bytes.len().saturating_sub(self.reach - 1)
    }
}

/// The word and the bit in it for a gram.
fn place(gram: [u8; GRAM]) -> (usize, u64) {
    // Multiplicative hashing: the upper bits of a product with 2^32 divided by the golden ratio (Knuth, TAOCP 6.4).
    let hash = u32::from_le_bytes(gram).wrapping_mul(0x9e37_79b1) >> (u32::BITS - HASH_BITS);
    ((hash / u64::BITS) as usize, 1 << (hash % u64::BITS))
}
