//! A credential's bytes, in a type that cannot print, clone or serialise itself.

use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A credential's bytes.
///
/// There is no `Display`, no `Serialize`, no `Clone`, and a `Debug` that says nothing: the only way
/// out is [`expose`](Self::expose), which only a few rooms may call (`tests/it/layers.rs`).
///
/// ```compile_fail
/// let s = keyferry::base::secret::Secret::new(b"k".to_vec()).unwrap();
/// println!("{s}");
/// ```
/// ```compile_fail
/// let s = keyferry::base::secret::Secret::new(b"k".to_vec()).unwrap();
/// let t = s.clone();
/// ```
/// ```compile_fail
/// let s = keyferry::base::secret::Secret::new(b"k".to_vec()).unwrap();
/// serde_json::to_string(&s);
/// ```
pub struct Secret(Zeroizing<Box<[u8]>>);

/// Why some bytes cannot be a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Nothing is left once one trailing newline is removed.
    #[error("the value is empty")]
    Empty,
    /// CR, LF, NUL or another control byte stands inside: it could forge a header (RFC 9110 §5.5).
    #[error("the value holds a control byte at offset {0}; a credential is one line of text")]
    Control(usize),
    /// It is no JSON with a text in the field that is wanted.
    #[error("the value is no JSON object with a text under its `field`")]
    Field,
}

impl Secret {
    /// Takes the bytes, less one trailing newline, as files and commands tend to add one.
    ///
    /// # Errors
    /// When nothing is left, or when a control byte stands inside.
    pub fn new(bytes: Vec<u8>) -> Result<Self, BadSecret> {
        let bytes = Zeroizing::new(bytes);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(BadSecret::Empty);
        }
        if let Some(at) = line.iter().position(|b| *b < 0x20 || *b == 0x7f) {
            return Err(BadSecret::Control(at));
        }
        Ok(Self(Zeroizing::new(line.into())))
    }

    /// Takes a document of several lines, such as a PEM key, as it is.
    ///
    /// # Errors
    /// When it is empty.
    pub fn document(bytes: Vec<u8>) -> Result<Self, BadSecret> {
        if bytes.is_empty() {
            return Err(BadSecret::Empty);
        }
        Ok(Self(Zeroizing::new(bytes.into_boxed_slice())))
    }

    /// Takes one line of text, or else a document.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn either(bytes: Vec<u8>) -> Result<Self, BadSecret> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.iter().all(|b| *b >= 0x20 && *b != 0x7f) {
            true => Self::new(bytes),
            false => Self::document(bytes),
        }
    }

    /// Whether it is one line of text, which may stand in a header.
    ///
    /// # Errors
    /// The first control byte otherwise.
    pub fn is_line(&self) -> Result<(), BadSecret> {
        let control = self.0.iter().position(|b| *b < 0x20 || *b == 0x7f);
        control.map_or(Ok(()), |at| Err(BadSecret::Control(at)))
    }

    /// Lends the bytes to `use_it`; nothing that borrows them can leave.
    pub fn expose<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> R {
        use_it(&self.0)
    }

    /// Compares in constant time; only the length can be learnt from how long it takes.
    pub fn matches(&self, offered: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, offered).is_ok()
    }

    /// Whether it is the same credential; in constant time, as [`matches`](Self::matches).
    pub fn is_same(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never true: an empty value is refused when it is made.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Tells whether an offered token is a certain secret, in constant time. Who holds one can test
/// tokens, after a rotation too, and never sees the value.
#[derive(Clone)]
pub struct IsToken(Arc<Test>);

type Test = dyn Fn(&[u8]) -> bool + Send + Sync;

impl IsToken {
    /// Wraps the test.
    pub fn new(test: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(test))
    }

    /// Whether `offered` is it.
    pub fn matches(&self, offered: &[u8]) -> bool {
        (self.0)(offered)
    }
}

impl fmt::Debug for IsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IsToken")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_trailing_newline_is_dropped_and_control_bytes_are_refused() {
        let kept = |bytes: &[u8]| Secret::new(bytes.to_vec()).map(|s| s.expose(<[u8]>::to_vec));
        assert_eq!(kept(b"abc\n"), Ok(b"abc".to_vec()));
        assert_eq!(kept(b"abc\r\n"), Ok(b"abc".to_vec()));
        assert_eq!(kept(b"abc\n\n"), Err(BadSecret::Control(3)));
        assert_eq!(kept(b"a\r\nx: y"), Err(BadSecret::Control(1)));
        assert_eq!(kept(b"a\0"), Err(BadSecret::Control(1)));
        assert_eq!(kept(b"\n"), Err(BadSecret::Empty));
    }

    #[test]
    fn debug_says_nothing() {
        let secret = Secret::new(b"hunter2".to_vec()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(****)");
        assert!(secret.matches(b"hunter2") && !secret.matches(b"hunter3"));
    }
}
