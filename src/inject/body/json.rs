//! One string of a JSON document.

use super::{Edit, Error, only};
use crate::base::secret::Secret;
use serde::de::IgnoredAny;
use std::ops::Range;

/// Where the string at `path` stands, and its text.
pub(super) fn string_at(body: &[u8], path: &[String]) -> Result<Option<(Range<usize>, String)>, Error> {
    // From here on the document is known to be JSON, so the walk need not judge it.
    serde_json::from_slice::<IgnoredAny>(body).map_err(|_| MALFORMED)?;
    let mut walk = Walk { body, at: 0 };
    walk.space();
    for token in path {
        if !walk.enter(token)? {
            return Ok(None);
        }
    }
    let span = walk.value();
    let raw = body.get(span.clone()).unwrap_or_default();
    if raw.first() != Some(&b'"') {
        return Ok(None);
    }
    let text: String = serde_json::from_slice(raw).map_err(|_| MALFORMED)?;
    Ok(Some((span, text)))
}

/// What to change so that the string at `path` holds the credential.
pub(super) fn edit(body: &[u8], path: &[String], placeholder: &str, secret: &Secret) -> Result<Option<Edit>, Error> {
    let Some((span, text)) = string_at(body, path)? else {
        return Ok(None);
    };
    let raw = body.get(span.clone()).unwrap_or_default();
    let Some(at) = only(text.as_bytes(), placeholder)? else {
        return Ok(None);
    };
    // `\npm_…` is no `npm_…`: the place must be the same in the text and in its spelling.
    let same = |spelled: &usize| is_spelling(raw.get(1..*spelled).unwrap_or_default(), text.get(..at));
    if let Some(at) = only(raw, placeholder)?.filter(same) {
        let span = span.start + at..span.start + at + placeholder.len();
        return Ok(Some(Edit {
            span,
            put: secret.expose(json_text)?,
        }));
    }
    // The agent has escaped what needs no escape: this one string is written anew.
    let mut whole = text.into_bytes();
    secret.expose(|secret| whole.splice(at..at + placeholder.len(), secret.iter().copied()).count());
    Ok(Some(Edit {
        span: span.start + 1..span.end - 1,
        put: json_text(&whole)?,
    }))
}

/// Whether `raw` between quotes is a JSON string of this text.
fn is_spelling(raw: &[u8], text: Option<&str>) -> bool {
    let read = serde_json::from_slice::<String>(&[b"\"", raw, b"\""].concat());
    read.is_ok_and(|read| Some(read.as_str()) == text)
}

const MALFORMED: Error = Error::Malformed("JSON");

/// `text` as it stands between the quotes of a JSON string.
pub(in crate::inject) fn json_text(text: &[u8]) -> Result<Vec<u8>, Error> {
    let text = std::str::from_utf8(text).map_err(|_| Error::NotText)?;
    let mut quoted = serde_json::to_vec(text).map_err(|_| Error::NotText)?;
    quoted.pop();
    quoted.remove(0);
    Ok(quoted)
}

/// A walk through a valid document.
struct Walk<'a> {
    body: &'a [u8],
    /// Where a value or, between values, its punctuation begins.
    at: usize,
}

impl Walk<'_> {
    fn peek(&self) -> u8 {
        self.body.get(self.at).copied().unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    /// Steps over one punctuation mark and the space behind it.
    fn punctuation(&mut self) {
        self.at += 1;
        self.space();
    }

    /// Goes to the child that `token` names; false if there is none.
    fn enter(&mut self, token: &str) -> Result<bool, Error> {
        match self.peek() {
            b'{' => self.enter_object(token),
            b'[' => Ok(self.enter_array(token)),
            _ => Ok(false),
        }
    }

    fn enter_object(&mut self, token: &str) -> Result<bool, Error> {
        let mut found = None;
        self.punctuation();
        while self.peek() == b'"' {
            let key = self.value();
            let key: String = serde_json::from_slice(self.body.get(key).unwrap_or_default()).map_err(|_| MALFORMED)?;
            self.space();
            self.punctuation();
            if key == token && found.replace(self.at).is_some() {
                return Err(Error::Ambiguous);
            }
            self.value();
            self.next();
        }
        self.at = found.unwrap_or(self.at);
        Ok(found.is_some())
    }

    fn enter_array(&mut self, token: &str) -> bool {
        // RFC 6901 §4: digits without leading zeros.
        let index = Some(token)
            .filter(|t| *t == "0" || !t.starts_with(['0', '+']))
            .and_then(|t| t.parse::<usize>().ok());
        self.punctuation();
        for _ in 0..index.unwrap_or(usize::MAX) {
            if self.peek() == b']' || self.at >= self.body.len() {
                return false;
            }
            self.value();
            self.next();
        }
        self.peek() != b']'
    }

    /// From behind a value to the next key or value, or to the closing bracket.
    fn next(&mut self) {
        self.space();
        if self.peek() == b',' {
            self.punctuation();
        }
    }

    /// Steps over one value, whatever it is, and says where it stands.
    fn value(&mut self) -> Range<usize> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                b'"' => self.string(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                _ => self.scalar(),
            }
            if depth == 0 || self.at >= self.body.len() {
                return start..self.at;
            }
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.body.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                return;
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|b| b",]} \t\n\r".contains(b));
        self.at += end.unwrap_or(rest.len()).max(1);
    }
}
