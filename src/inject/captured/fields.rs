//! The tokens in a reply: every text in a field of such a name, at any depth. What could hide one is an error.

use super::reply::Unreadable;
use super::token::folded;
use crate::base::secret::Secret;
use crate::inject::body::form::{decoded, fields};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::ops::Range;
use std::sync::Arc;

/// A token, and where its text stands: between the quotes of a JSON string, or as the value in a form.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) span: Range<usize>,
    pub(super) field: Arc<str>,
    pub(super) secret: Secret,
}

/// The tokens of a JSON document, in fields of these names.
pub(super) fn in_json(body: &[u8], names: &[String]) -> Result<Vec<Found>, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| Unreadable::Kind)?;
    // From here on the document is known to be JSON, so its strings can be walked without minding the rest.
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| Unreadable::Kind)?;
    // A text, or a number, stands in no field: what it is nobody says.
    if !text.trim_start().starts_with(['{', '[']) {
        return Err(Unreadable::Kind);
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find('"')).map(|quote| at + quote) {
        let string = self::string(text, start)?;
        at = string.end;
        let after = text.get(at..).unwrap_or_default().trim_start();
        let Some(value) = after.strip_prefix(':') else {
            hides(&read(text, &string)?, names)?;
            continue;
        };
        let key = read(text, &string)?;
        if !names.iter().any(|name| folded(name) == folded(&key)) {
            continue;
        }
        let value = value.trim_start();
        let start = text.len() - value.len();
        if value.starts_with('"') {
            let string = self::string(text, start)?;
            at = string.end;
            let span = string.start + 1..string.end - 1;
            found.extend(one(span, &key, read(text, &string)?.into_bytes())?);
        } else if !["null", "true", "false"].iter().any(|word| value.starts_with(word)) {
            return Err(Unreadable::Field);
        }
    }
    Ok(found)
}

/// The tokens of a form (RFC 8693 knows none; GitHub answers so).
pub(super) fn in_form(body: &[u8], names: &[String]) -> Result<Vec<Found>, Unreadable> {
    // Anything can be read as a form. What holds a bracket or a quote is something else that says it is one.
    let fit = |byte: &u8| byte.is_ascii_graphic() && !br#""<>[]\^`{|}"#.contains(byte);
    if !body.iter().all(fit) {
        return Err(Unreadable::Kind);
    }
    let mut found = Vec::new();
    for (name, value) in fields(body) {
        let text = decoded(body, &value).into_owned();
        let name = String::from_utf8(decoded(body, &name).into_owned()).map_err(|_| Unreadable::Kind)?;
        if names.iter().any(|known| folded(known) == folded(&name)) {
            found.extend(one(value, &name, text)?);
        } else {
            hides(&String::from_utf8_lossy(&text), names)?;
        }
    }
    Ok(found)
}

/// For how many seconds an access token is good (RFC 6749 §5.1).
pub(super) fn lifetime(body: &[u8], is_form: bool) -> Option<u64> {
    #[derive(Deserialize)]
    struct Term {
        #[serde(alias = "expiresIn")]
        expires_in: serde_json::Value,
    }
    if is_form {
        let (_, value) = fields(body).find(|(name, _)| *decoded(body, name) == *b"expires_in")?;
        return std::str::from_utf8(&decoded(body, &value)).ok()?.parse().ok();
    }
    let Term { expires_in } = serde_json::from_slice(body).ok()?;
    expires_in.as_u64().or_else(|| expires_in.as_str()?.parse().ok())
}

fn one(span: Range<usize>, field: &str, text: Vec<u8>) -> Result<Option<Found>, Unreadable> {
    if text.is_empty() {
        return Ok(None);
    }
    let secret = Secret::new(text).map_err(|_| Unreadable::Field)?;
    let field = field
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect::<String>()
        .into();
    Ok(Some(Found { span, field, secret }))
}

/// Whether a text is a document in the document, or an address, with a token in it: neither can be edited where it stands.
fn hides(text: &str, names: &[String]) -> Result<(), Unreadable> {
    let inner = text.trim_start();
    if inner.starts_with('"') {
        // A text in a text: once more, until there is none.
        let unquoted = serde_json::from_str::<String>(inner);
        return unquoted.map_or(Ok(()), |text| hides(&text, names));
    }
    if inner.starts_with(['{', '[']) {
        match in_json(inner.as_bytes(), names) {
            Ok(found) if found.is_empty() => {}
            Err(Unreadable::Kind) => {}
            Ok(_) | Err(_) => return Err(Unreadable::Hidden),
        }
    }
    let named = |name: &String| text.contains(&format!("{name}="));
    if names.iter().any(named) {
        Err(Unreadable::Hidden)
    } else {
        Ok(())
    }
}

/// Where the JSON string stands that begins at `start`, quotes and all.
fn string(text: &str, start: usize) -> Result<Range<usize>, Unreadable> {
    let mut bytes = text.bytes().enumerate().skip(start + 1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok(start..at + 1),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    Err(Unreadable::Kind)
}

/// The text of a JSON string.
fn read(text: &str, string: &Range<usize>) -> Result<String, Unreadable> {
    serde_json::from_str(text.get(string.clone()).unwrap_or_default()).map_err(|_| Unreadable::Kind)
}
