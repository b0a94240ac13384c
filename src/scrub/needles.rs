//! What is searched for, prepared once for each version of a credential.

use super::grams::Grams;
use super::spell::{Spelling, spellings};
use crate::base::secret::Secret;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Values shorter than this many bytes are not searched for: they would match by chance.
pub const MIN_SEARCHED: usize = 8;

/// The spellings of one or several values, ready to be searched for.
///
/// Making one, and the first search, cost a fraction of a millisecond, so keep it as long as the value lives. A spelling is found by its first
/// eight bytes, by a vectorised search over the heads of all spellings; only there the rest is compared. And that search is made
/// only where a look at every so many bytes says that a spelling may stand.
pub struct Needles {
    /// Absent when nothing is searched for. It takes some hundred KiB, and most credentials of a large config are at rest, so
    /// it is made by the first search.
    finder: OnceLock<Option<Finder>>,
    /// The spellings behind each head, the longest first; in the order of the heads.
    groups: Vec<Vec<Spelling>>,
    /// Which bytes a head can begin with.
    first: [bool; 256],
    longest: usize,
    shortest: usize,
    too_short: usize,
}

/// Finds where spellings begin.
struct Finder {
    grams: Grams,
    /// The pattern number is an index into `groups`.
    heads: AhoCorasick,
}

/// What comes next in a piece of a stream.
pub(super) enum Next<'a> {
    /// A whole spelling at `start`, to be overwritten by `put`.
    Hit { start: usize, put: &'a [u8] },
    /// From here to the end the bytes may become a spelling, once more of them are seen.
    Live(usize),
    /// Nothing more.
    Clean,
}

impl Needles {
    /// Prepares the values, each with what the agent holds in its place (asterisks when it holds nothing).
    ///
    /// A value that is sent only as part of another (`user:password` of a Basic credential) need not be
    /// given as well: base64 is found at each of its three alignments.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a Secret, Option<&'a str>)>) -> Self {
        let mut by_head: BTreeMap<[u8; MIN_SEARCHED], Vec<Spelling>> = BTreeMap::new();
        let mut too_short = 0;
        for (secret, stand_in) in values {
            if secret.len() < MIN_SEARCHED {
                too_short += 1;
                continue;
            }
            for spelling in secret.expose(|value| spellings(value, stand_in)) {
                if let Some(head) = spelling.find.first_chunk() {
                    by_head.entry(*head).or_default().push(spelling);
                }
            }
        }
        let mut first = [false; 256];
        for [byte, ..] in by_head.keys() {
            if let Some(begins) = first.get_mut(usize::from(*byte)) {
                *begins = true;
            }
        }
        let mut groups: Vec<_> = by_head.into_values().collect();
        for group in &mut groups {
            group.sort_by_key(|spelling| std::cmp::Reverse(spelling.find.len()));
        }
        let longest = groups
            .iter()
            .filter_map(|g| g.first())
            .map(|s| s.find.len())
            .max()
            .unwrap_or(0);
        let lengths = groups.iter().flatten().map(|s| s.find.len());
        let shortest = lengths.min().unwrap_or(usize::MAX);
        Self {
            finder: OnceLock::new(),
            groups,
            first,
            longest,
            shortest,
            too_short,
        }
    }

    /// How many of the values are too short to be searched for; whoever loads them should warn.
    pub fn too_short(&self) -> usize {
        self.too_short
    }

    /// Whether there is nothing to search for.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The length of the longest spelling: no more than this is ever held back.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Whether any spelling stands in `bytes`.
    pub fn found_in(&self, bytes: &[u8]) -> bool {
        // Most header values are shorter than any spelling of a credential.
        bytes.len() >= self.shortest && matches!(self.next(bytes, 0, true), Next::Hit { .. })
    }

    /// Whether any spelling stands in a field's name, in whatever case: HTTP/2 has names in lower case only.
    fn found_in_name(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        if name.len() < self.shortest {
            return false;
        }
        let spellings = self.groups.iter().flatten();
        let mut finds = spellings.map(|s| &*s.find).filter(|find| find.len() <= name.len());
        finds.any(|find| name.windows(find.len()).any(|part| part.eq_ignore_ascii_case(find)))
    }

    /// Overwrites every spelling in `bytes` and counts them.
    pub fn mask(&self, bytes: &mut [u8]) -> u64 {
        let (mut at, mut hits) = (0, 0);
        while let Next::Hit { start, put } = self.next(bytes, at, true) {
            at = start + put.len();
            if let Some(found) = bytes.get_mut(start..at) {
                found.copy_from_slice(put);
            }
            hits += 1;
        }
        hits
    }

    /// The first thing to mind at or after `at`; the longest spelling wins among those that begin together.
    ///
    /// With `last`, no more bytes will follow, and nothing is live.
    pub(super) fn next(&self, bytes: &[u8], at: usize, last: bool) -> Next<'_> {
        let Some(Finder { grams, heads }) = self.finder.get_or_init(|| finder(&self.groups)) else {
            return Next::Clean;
        };
        let mut from = at;
        loop {
            let begins = grams.find(bytes, from);
            let span = match &begins {
                Some(begins) => begins.start..bytes.len().min(begins.end + MIN_SEARCHED - 1),
                None if last => return Next::Clean,
                None => from.max(grams.rest(bytes))..bytes.len(),
            };
            let Some(head) = heads.find(Input::new(bytes).span(span)) else {
                match begins {
                    // The end may hold a part of a head.
                    Some(begins) => from = begins.end.min(bytes.len() - (MIN_SEARCHED - 1)),
                    None => return self.live_tail(bytes, from),
                }
                continue;
            };
            let start = head.start();
            let rest = bytes.get(start..).unwrap_or_default();
            for spelling in self.groups.get(head.pattern().as_usize()).into_iter().flatten() {
                if rest.starts_with(&spelling.find) {
                    return Next::Hit {
                        start,
                        put: &spelling.put,
                    };
                }
                if !last && spelling.find.starts_with(rest) {
                    return Next::Live(start);
                }
            }
            from = start + 1;
        }
    }

    /// Whether the last few bytes, fewer than a head has, begin one.
    fn live_tail(&self, bytes: &[u8], from: usize) -> Next<'_> {
        let from = from.max(bytes.len().saturating_sub(MIN_SEARCHED - 1));
        let tail = bytes.get(from..).unwrap_or_default();
        for (offset, byte) in tail.iter().enumerate() {
            let possible = self.first.get(usize::from(*byte)).copied().unwrap_or(false);
            if possible && self.begins(tail.get(offset..).unwrap_or_default()) {
                return Next::Live(from + offset);
            }
        }
        Next::Clean
    }

    /// Whether a head begins with `part`, which is shorter.
    fn begins(&self, part: &[u8]) -> bool {
        let at = self.groups.partition_point(|group| longest_of(group) < part);
        self.groups
            .get(at)
            .is_some_and(|group| longest_of(group).starts_with(part))
    }
}

/// The longest spelling behind a head.
fn longest_of(group: &[Spelling]) -> &[u8] {
    group
        .first()
        .map(|spelling| spelling.find.as_slice())
        .unwrap_or_default()
}

/// A search for all heads at once. They are all of one length, so none hides another.
fn finder(groups: &[Vec<Spelling>]) -> Option<Finder> {
    if groups.is_empty() {
        return None;
    }
    let heads = groups
        .iter()
        .filter_map(|group| longest_of(group).first_chunk::<MIN_SEARCHED>());
    let built = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .kind(Some(AhoCorasickKind::DFA))
        .build(heads);
    #[expect(
        clippy::expect_used,
        reason = "it fails only beyond 2^31 states; the heads have some thousand at most"
    )]
    let heads = built.expect("a few short heads always fit");
    let grams = Grams::of(groups.iter().flatten().map(|spelling| spelling.find.as_slice()));
    Some(Finder { grams, heads })
}

/// Masks every spelling in the values of `map`, which may be headers or trailers, and counts them.
///
/// A field with one in its name goes. Nothing is allocated or changed when nothing is found.
pub fn headers(map: &mut HeaderMap, needles: &[Arc<Needles>]) -> u64 {
    let mut hits = 0;
    let telling = |map: &HeaderMap| {
        let mut names = map.keys();
        names
            .find(|name| needles.iter().any(|n| n.found_in_name(name)))
            .cloned()
    };
    while let Some(name) = telling(map) {
        map.remove(name);
        hits += 1;
    }
    for value in map.values_mut() {
        for needles in needles {
            hits += header(value, needles);
        }
    }
    hits
}

fn header(value: &mut HeaderValue, needles: &Needles) -> u64 {
    if !needles.found_in(value.as_bytes()) {
        return 0;
    }
    let mut bytes = value.as_bytes().to_vec();
    let hits = needles.mask(&mut bytes);
    // Masks are printable ASCII, so the new value is one wherever the old one was.
    let mut masked = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static("****"));
    masked.set_sensitive(value.is_sensitive());
    *value = masked;
    hits
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spellings: usize = self.groups.iter().map(Vec::len).sum();
        f.debug_struct("Needles")
            .field("spellings", &spellings)
            .field("too_short", &self.too_short)
            .finish()
    }
}
