//! One field of a form.

use super::{Edit, Error, only};
use crate::base::secret::Secret;
use std::borrow::Cow;
use std::ops::Range;

/// Where the value of the field that `path` names stands.
pub(super) fn value_at(body: &[u8], path: &[String]) -> Result<Option<Range<usize>>, Error> {
    let [field] = path else { return Ok(None) };
    let mut named = fields(body).filter(|(name, _)| *decoded(body, name) == *field.as_bytes());
    let Some((_, value)) = named.next() else {
        return Ok(None);
    };
    if named.next().is_some() {
        return Err(Error::Ambiguous);
    }
    Ok(Some(value))
}

/// What to change so that the field `path` names holds the credential.
pub(super) fn edit(body: &[u8], path: &[String], placeholder: &str, secret: &Secret) -> Result<Option<Edit>, Error> {
    let Some(value) = value_at(body, path)? else {
        return Ok(None);
    };
    let raw = body.get(value.clone()).unwrap_or_default();
    let text = decoded(body, &value);
    let Some(at) = only(&text, placeholder)? else {
        return Ok(None);
    };
    // The place must be the same in the text and in its spelling, and not inside of what would be an escape then.
    let same = |spelled: &usize| {
        let before = value.start..value.start + spelled;
        let near = body.get(before.end.saturating_sub(2).max(before.start)..before.end);
        *decoded(body, &before) == *text.get(..at).unwrap_or_default() && !near.is_some_and(|near| near.contains(&b'%'))
    };
    if let Some(at) = only(raw, placeholder)?.filter(same) {
        let span = value.start + at..value.start + at + placeholder.len();
        return Ok(Some(Edit {
            span,
            put: secret.expose(encoded),
        }));
    }
    // The agent has escaped what needs no escape, or has not what needs one: this one value is encoded anew.
    let before = text.get(..at).unwrap_or_default();
    let after = text.get(at + placeholder.len()..).unwrap_or_default();
    let whole = secret.expose(|secret| [before, secret, after].concat());
    Ok(Some(Edit {
        span: value,
        put: encoded(&whole),
    }))
}

/// Name and value of each field.
pub(in crate::inject) fn fields(body: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + '_ {
    let mut at = 0;
    body.split(|b| *b == b'&').map(move |field| {
        let (start, end) = (at, at + field.len());
        at = end + 1;
        match memchr::memchr(b'=', field) {
            Some(sign) => (start..start + sign, start + sign + 1..end),
            None => (start..end, end..end),
        }
    })
}

pub(in crate::inject) fn decoded<'a>(body: &'a [u8], span: &Range<usize>) -> Cow<'a, [u8]> {
    let raw = body.get(span.clone()).unwrap_or_default();
    if memchr::memchr2(b'%', b'+', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let spaced: Vec<u8> = raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    Cow::Owned(percent_encoding::percent_decode(&spaced).collect())
}

pub(in crate::inject) fn encoded(value: &[u8]) -> Vec<u8> {
    url::form_urlencoded::byte_serialize(value)
        .collect::<String>()
        .into_bytes()
}
