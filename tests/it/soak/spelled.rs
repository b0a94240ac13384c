//! How the secrets of the soak could be spelled. All values have one core in common, so that one search finds any
//! of them, whichever version it is.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::Finder;

/// What every secret has in its middle.
pub const CORE: &str = "Qx7vZ2mK9tRw4sYpLd";

/// The value of a secret in its version.
pub fn value(name: &str, version: u64) -> String {
    format!("{name}-{CORE}-{version:06}")
}

/// The version of a value that was sent, if it is one of that secret's.
pub fn version(name: &str, sent: &str) -> Option<u64> {
    let rest = sent.strip_prefix(name)?.strip_prefix('-')?.strip_prefix(CORE)?;
    rest.strip_prefix('-')?.parse().ok()
}

/// Every spelling of the core that would be of use to somebody.
pub struct Spelled(Vec<Finder<'static>>);

/// The core in each spelling.
fn spellings() -> Vec<String> {
    let each = |spell: fn(u8) -> String| CORE.bytes().map(spell).collect::<String>();
    let mut all = vec![
        CORE.to_owned(),
        each(|b| format!("{b:02x}")),
        each(|b| format!("{b:02X}")),
        each(|b| format!("%{b:02x}")),
        each(|b| format!("%{b:02X}")),
        each(|b| format!("\\u{b:04x}")),
        each(|b| format!("\\u{b:04X}")),
        each(|b| format!("\\x{b:02x}")),
        each(|b| format!("&#{b};")),
        each(|b| format!("&#x{b:x};")),
    ];
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for (before, cut) in [("", 0), ("x", 2), ("xx", 3)] {
            let coded = engine.encode(format!("{before}{CORE}"));
            // The characters at either end mix with what stands beside.
            all.push(coded[cut..coded.len() - 1].to_owned());
        }
    }
    all
}

impl Spelled {
    pub fn new() -> Self {
        Self(spellings().iter().map(|one| Finder::new(one).into_owned()).collect())
    }

    /// Whether a secret stands in `bytes`, however it is spelled.
    pub fn tells(&self, bytes: &[u8]) -> bool {
        self.told(bytes).is_some()
    }

    /// What stands around a secret in `bytes`, if one does.
    pub fn told(&self, bytes: &[u8]) -> Option<String> {
        let at = self.0.iter().find_map(|finder| finder.find(bytes))?;
        let around = &bytes[at.saturating_sub(30)..(at + 60).min(bytes.len())];
        Some(String::from_utf8_lossy(around).into_owned())
    }
}

#[test]
fn the_search_finds_every_spelling_of_any_value() {
    let spelled = Spelled::new();
    for version in [0, 7, 123_456] {
        let value = value("sk-soak", version);
        for (at, one) in super::hosts::spelled(&value).iter().enumerate() {
            assert!(spelled.tells(one.as_bytes()), "spelling {at} is not found: {one}");
        }
        let masked = value.replace(|c: char| c.is_ascii_alphanumeric(), "*");
        assert!(!spelled.tells(masked.as_bytes()));
    }
}
