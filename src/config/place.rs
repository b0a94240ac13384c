//! A stretch of the file as the user wrote it.

use serde_yaml::Location;

/// Where in the text something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Place {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Line, from 1; 0 when the mistake is about the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 when the mistake is about the file as a whole.
    pub column: usize,
}

impl Place {
    /// Translates what the YAML reader knows of a place.
    pub(super) fn of(location: &Location) -> Self {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let start = number(location.span().byte_offset().unwrap_or_default());
        let length = number(location.span().byte_len().unwrap_or_default());
        Self {
            start,
            end: start.saturating_add(length),
            line: number(location.line()),
            column: number(location.column()),
        }
    }

    /// The same place, narrowed to the first `needle` written inside it.
    #[must_use]
    pub(super) fn narrowed(self, text: &str, needle: &str) -> Self {
        let whole = self.slice(text);
        let Some(at) = whole.find(needle).filter(|_| !needle.is_empty()) else {
            return self;
        };
        let before = whole.get(..at).unwrap_or_default();
        let start = self.start + at;
        let (line, column) = match before.rfind('\n') {
            None => (self.line, self.column + before.chars().count()),
            Some(newline) => {
                let tail = before.get(newline + 1..).unwrap_or_default();
                (self.line + before.matches('\n').count(), tail.chars().count() + 1)
            }
        };
        Self {
            start,
            end: start + needle.len(),
            line,
            column,
        }
    }

    /// What is written there; empty when the place is not in `text`.
    pub(super) fn slice(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}
