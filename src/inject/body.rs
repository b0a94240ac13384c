//! The placeholder in a request body: in one JSON string or one form field, once.
//!
//! Only the bytes of that one value change. The body is never written anew: key order, spacing, number
//! spellings and whatever else a signature or a picky server may depend on stay as the agent sent them.

pub(super) mod form;
mod json;
#[cfg(test)]
mod tests;

pub(super) use json::json_text;

use crate::base::secret::Secret;
use std::ops::Range;

/// A body in which a placeholder can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `application/json` and `+json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// Why a placeholder in a body cannot be swapped. Then the request is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than is collected.
    #[error(
        "the request body is longer than {limit} bytes, the most that is collected to swap a placeholder in it, or to sign it"
    )]
    TooLarge {
        /// The cap in bytes.
        limit: usize,
    },
    /// A content coding hides the text.
    #[error(
        "the request body has a `Content-Encoding`; send it without one where a placeholder is to be swapped in it"
    )]
    Compressed,
    /// No JSON, or no form, though the `Content-Type` says so.
    #[error("the request body is not the {0} that its `Content-Type` says, so its placeholder cannot be found")]
    Malformed(&'static str),
    /// The same key twice on the way: the upstream may read the other one.
    #[error("the request body has the field twice, and which of the two the upstream reads is unknown")]
    Ambiguous,
    /// The value holds the placeholder more than once.
    #[error("the placeholder stands twice in its field of the request body; it is swapped once at most")]
    Repeated,
    /// JSON is text.
    #[error("the credential is not UTF-8 and cannot stand in JSON")]
    NotText,
}

impl BodyKind {
    /// The kind that a `Content-Type` names; `None` for all that are not searched.
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match essence.as_str() {
            "application/x-www-form-urlencoded" => Some(Self::Form),
            "application/json" => Some(Self::Json),
            other if other.contains('/') && other.ends_with("+json") => Some(Self::Json),
            _ => None,
        }
    }
}

/// The body with `secret` in the place of `placeholder`, in the value that `pointer` (RFC 6901) names.
///
/// In a form the pointer has one token, the field's name. `None` when the placeholder does not stand there;
/// placeholders elsewhere are left alone, so look for them in what comes back if they must not be.
///
/// # Errors
/// When the body is not what `kind` says or could be read in two ways, and nothing is changed.
pub fn substitute(
    body: &[u8],
    kind: BodyKind,
    pointer: &str,
    placeholder: &str,
    secret: &Secret,
) -> Result<Option<Vec<u8>>, Error> {
    if placeholder.is_empty() || body.is_empty() {
        return Ok(None);
    }
    let Some(path) = tokens(pointer) else { return Ok(None) };
    let edit = match kind {
        BodyKind::Json => json::edit(body, &path, placeholder, secret)?,
        BodyKind::Form => form::edit(body, &path, placeholder, secret)?,
    };
    Ok(edit.map(|edit| edit.splice(body)))
}

/// The text in the value that `pointer` names, if there is one.
///
/// # Errors
/// As for [`substitute`].
pub(super) fn text_at(body: &[u8], kind: BodyKind, pointer: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(path) = tokens(pointer).filter(|_| !body.is_empty()) else {
        return Ok(None);
    };
    Ok(match kind {
        BodyKind::Json => json::string_at(body, &path)?.map(|(_, text)| text.into_bytes()),
        BodyKind::Form => form::value_at(body, &path)?.map(|span| form::decoded(body, &span).into_owned()),
    })
}

/// What to write in the place of a range of bytes.
struct Edit {
    span: Range<usize>,
    put: Vec<u8>,
}

impl Edit {
    fn splice(&self, body: &[u8]) -> Vec<u8> {
        let before = body.get(..self.span.start).unwrap_or_default();
        let after = body.get(self.span.end..).unwrap_or_default();
        [before, &self.put, after].concat()
    }
}

/// The tokens of a JSON pointer; `None` for the whole document or what is no pointer.
fn tokens(pointer: &str) -> Option<Vec<String>> {
    let path = pointer.strip_prefix('/')?;
    Some(
        path.split('/')
            .map(|token| token.replace("~1", "/").replace("~0", "~"))
            .collect(),
    )
}

/// Where `placeholder` stands in `text`.
fn only(text: &[u8], placeholder: &str) -> Result<Option<usize>, Error> {
    let mut found = memchr::memmem::find_iter(text, placeholder);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Error::Repeated),
        (first, None) => Ok(first),
    }
}
