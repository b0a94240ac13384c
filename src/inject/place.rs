//! Where credentials go: headers, query parameters, paths. Pure edits of one request's head.

use super::Error;
use crate::base::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, Entry, HeaderName, HeaderValue};
use http::{HeaderMap, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::sync::Arc;
use zeroize::Zeroizing;

/// RFC 3986 §2.3: everything else is encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Puts `value` in header `name` after removing every copy the agent sent, under aliases too:
/// some servers read `x_api_key` as `x-api-key`.
pub(super) fn header(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    remove(headers, name);
    headers.insert(name, value);
}

/// Removes a header and its aliases with `_` for `-`.
pub(super) fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    let alias = |other: &HeaderName| {
        other != name
            && other.as_str().len() == name.as_str().len()
            && other.as_str().bytes().map(dash).eq(name.as_str().bytes().map(dash))
    };
    let aliases: Vec<HeaderName> = headers.keys().filter(|k| alias(k)).cloned().collect();
    for alias in aliases {
        headers.remove(alias);
    }
    headers.remove(name);
}

/// The one value of a header; an error where there are more, or an alias with `_` for `-`, which a server could take for it.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ()> {
    let same = |other: &HeaderName| other.as_str().bytes().map(dash).eq(name.as_str().bytes().map(dash));
    let mut found = headers.iter().filter(|(other, _)| same(other));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some((other, value)), None) if other == name => Ok(Some(value)),
        _ => Err(()),
    }
}

fn dash(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// A header value of these bytes, hidden from logs and never indexed by HPACK (RFC 7541 §7.1.3).
pub(super) fn sensitive(bytes: &[u8], name: &Arc<str>) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_| Error::Unfit(Arc::clone(name)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `Bearer …` (RFC 6750 §2.1).
pub(super) fn bearer(token: &Secret, name: &Arc<str>) -> Result<HeaderValue, Error> {
    token.expose(|token| sensitive(&Zeroizing::new([b"Bearer ", token].concat()), name))
}

/// `Basic …` (RFC 7617 §2).
pub(super) fn basic(user: &str, password: &Secret, name: &Arc<str>) -> Result<HeaderValue, Error> {
    password.expose(|password| {
        let pair = Zeroizing::new([user.as_bytes(), b":", password].concat());
        let encoded = Zeroizing::new(STANDARD.encode(&*pair));
        sensitive(&Zeroizing::new([b"Basic ", encoded.as_bytes()].concat()), name)
    })
}

/// The `user:password` inside a Basic credential.
pub(super) fn basic_pair(value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    STANDARD.decode(encoded.trim_matches(' ')).ok().map(Zeroizing::new)
}

/// Sets query parameter `name` to `value`, removing every copy the agent sent; the rest stays byte for byte.
pub(super) fn query(path_and_query: &str, name: &str, value: &[u8]) -> Option<PathAndQuery> {
    let (path, old) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let mut new = Zeroizing::new(String::with_capacity(
        path_and_query.len() + name.len() + value.len() * 3 + 2,
    ));
    new.push_str(path);
    let mut mark = '?';
    for pair in old.split('&').filter(|pair| !pair.is_empty() && !names(pair, name)) {
        new.push(mark);
        new.push_str(pair);
        mark = '&';
    }
    new.push(mark);
    new.extend(percent_encode(name.as_bytes(), RESERVED));
    new.push('=');
    new.extend(percent_encode(value, RESERVED));
    PathAndQuery::try_from(new.as_str()).ok()
}

/// Whether `name=value` has this name, once decoded as forms are (`+` is a space).
fn names(pair: &str, name: &str) -> bool {
    let written = pair.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode_str(&written).eq(name.bytes())
}

/// What became of a search for a stand-in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Swap<T> {
    /// It is not there.
    Absent,
    /// It was there once, and was swapped.
    Done(T),
    /// It is there more than once.
    Repeated,
    /// The result cannot stand there.
    Unfit,
}

/// Swaps the stand-in in a header's values, plain or inside a Basic credential.
pub(super) fn swap_header(headers: &mut HeaderMap, name: &HeaderName, stand_in: &str, secret: &Secret) -> Swap<()> {
    let mut swapped = Swap::Absent;
    let Entry::Occupied(mut values) = headers.entry(name) else {
        return Swap::Absent;
    };
    for value in values.iter_mut() {
        match swap_value(value, stand_in, secret, name == AUTHORIZATION) {
            Swap::Absent => {}
            Swap::Done(new) if swapped == Swap::Absent => {
                *value = new;
                swapped = Swap::Done(());
            }
            Swap::Done(_) | Swap::Repeated => return Swap::Repeated,
            Swap::Unfit => return Swap::Unfit,
        }
    }
    swapped
}

fn swap_value(value: &HeaderValue, stand_in: &str, secret: &Secret, may_be_basic: bool) -> Swap<HeaderValue> {
    if may_be_basic && let Some(pair) = basic_pair(value) {
        let swapped = secret.expose(|secret| swap_bytes(&pair, stand_in.as_bytes(), secret));
        return and_then(swapped, |pair| {
            let encoded = Zeroizing::new(STANDARD.encode(&*pair));
            sensitive(&Zeroizing::new([b"Basic ", encoded.as_bytes()].concat()), &"".into()).ok()
        });
    }
    let swapped = secret.expose(|secret| swap_bytes(value.as_bytes(), stand_in.as_bytes(), secret));
    and_then(swapped, |bytes| sensitive(&bytes, &"".into()).ok())
}

/// Swaps the stand-in in the path (`name` is `None`) or in the value of one query parameter.
pub(super) fn swap_uri(
    path_and_query: &str,
    name: Option<&str>,
    stand_in: &str,
    secret: &Secret,
) -> Swap<PathAndQuery> {
    let (path, query) = path_and_query
        .split_once('?')
        .map_or((path_and_query, None), |(p, q)| (p, Some(q)));
    let encoded = secret.expose(|secret| Zeroizing::new(percent_encode(secret, RESERVED).to_string()));
    let text = match (name, query) {
        (None, _) if is_in_escape(path, stand_in) => Swap::Absent,
        (None, query) => {
            // Telegram's bot tokens hold a colon, which stands in a path as it is (RFC 3986 §3.3).
            let in_path = Zeroizing::new(encoded.replace("%3A", ":"));
            and_then(
                swap_bytes(path.as_bytes(), stand_in.as_bytes(), in_path.as_bytes()),
                |path| {
                    let path = String::from_utf8(path.to_vec()).ok()?;
                    Some(query.map_or(path.clone(), |q| format!("{path}?{q}")))
                },
            )
        }
        (Some(_), None) => Swap::Absent,
        (Some(name), Some(query)) => swap_query(path, query, name, stand_in, &encoded),
    };
    and_then(text, |text| PathAndQuery::try_from(text.as_str()).ok())
}

fn swap_query(path: &str, query: &str, name: &str, stand_in: &str, encoded: &str) -> Swap<String> {
    let mut swapped = false;
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        if !names(pair, name) || !pair.contains(stand_in) || is_in_escape(pair, stand_in) {
            pairs.push(Zeroizing::new(pair.to_owned()));
        } else if swapped || pair.matches(stand_in).count() > 1 {
            return Swap::Repeated;
        } else {
            swapped = true;
            pairs.push(Zeroizing::new(pair.replace(stand_in, encoded)));
        }
    }
    if !swapped {
        return Swap::Absent;
    }
    let pairs: Vec<&str> = pairs.iter().map(|p| p.as_str()).collect();
    Swap::Done(format!("{path}?{}", pairs.join("&")))
}

/// Whether the stand-in stands right behind a `%`, where a credential would become part of an escape.
fn is_in_escape(text: &str, stand_in: &str) -> bool {
    let before = text.split(stand_in).next().unwrap_or_default();
    before.bytes().rev().take(2).any(|b| b == b'%')
}

fn swap_bytes(text: &[u8], stand_in: &[u8], secret: &[u8]) -> Swap<Zeroizing<Vec<u8>>> {
    let mut found = memchr::memmem::find_iter(text, stand_in);
    let Some(at) = found.next() else { return Swap::Absent };
    if found.next().is_some() {
        return Swap::Repeated;
    }
    let (before, rest) = text.split_at(at);
    let after = rest.get(stand_in.len()..).unwrap_or_default();
    Swap::Done(Zeroizing::new([before, secret, after].concat()))
}

fn and_then<T, U>(swap: Swap<T>, next: impl FnOnce(T) -> Option<U>) -> Swap<U> {
    match swap {
        Swap::Absent => Swap::Absent,
        Swap::Repeated => Swap::Repeated,
        Swap::Unfit => Swap::Unfit,
        Swap::Done(value) => next(value).map_or(Swap::Unfit, Swap::Done),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into()).unwrap()
    }

    #[test]
    fn every_copy_of_an_injected_header_is_removed() {
        let mut headers = HeaderMap::new();
        for name in ["x-api-key", "x_api_key", "x-api_key", "x-api-keys"] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("theirs"));
        }
        headers.append("x-api-key", HeaderValue::from_static("theirs again"));
        header(
            &mut headers,
            &HeaderName::from_static("x-api-key"),
            HeaderValue::from_static("ours"),
        );
        let left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&("x-api-key", "ours")) && left.contains(&("x-api-keys", "theirs")));
    }

    #[test]
    fn a_query_parameter_is_replaced_and_the_rest_left_alone() {
        for (before, after) in [
            ("/p", "/p?key=s%26%20x"),
            ("/p?a=%2f&b", "/p?a=%2f&b&key=s%26%20x"),
            ("/p?key=theirs&a=1&k%65y=more", "/p?a=1&key=s%26%20x"),
        ] {
            assert_eq!(query(before, "key", b"s& x").unwrap().as_str(), after);
        }
    }

    #[test]
    fn a_stand_in_is_swapped_once_or_not_at_all() {
        let name = HeaderName::from_static("authorization");
        let swapped = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(&name, HeaderValue::from_str(value).unwrap());
            let swap = swap_header(&mut headers, &name, "stand-in", &secret("real"));
            (swap, headers.get(&name).unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(swapped("token stand-in"), (Swap::Done(()), "token real".into()));
        assert_eq!(swapped("token"), (Swap::Absent, "token".into()));
        assert_eq!(swapped("stand-in stand-in").0, Swap::Repeated);
        let basic = format!("Basic {}", STANDARD.encode("u:stand-in"));
        assert_eq!(
            swapped(&basic),
            (Swap::Done(()), format!("Basic {}", STANDARD.encode("u:real")))
        );
    }

    #[test]
    fn a_stand_in_in_the_uri_is_swapped_in_its_place_only() {
        let swap = |uri, name| swap_uri(uri, name, "stand-in", &secret("1:re/al"));
        let done = |text: &'static str| Swap::Done(PathAndQuery::from_static(text));
        assert_eq!(swap("/botstand-in/x?q=1", None), done("/bot1:re%2Fal/x?q=1"));
        assert_eq!(swap("/x?k=stand-in&q=%2f", Some("k")), done("/x?k=1%3Are%2Fal&q=%2f"));
        assert_eq!(swap("/x?q=stand-in", Some("k")), Swap::Absent);
        assert_eq!(swap("/x?k=stand-in&k=stand-in", Some("k")), Swap::Repeated);
        assert_eq!(swap("/x?k=%41stand-in", Some("k")), done("/x?k=%411%3Are%2Fal"));
        for (uri, name) in [
            ("/x?k=%stand-in", Some("k")),
            ("/x?k=%4stand-in", Some("k")),
            ("/%stand-in", None),
        ] {
            assert_eq!(swap(uri, name), Swap::Absent, "{uri}");
        }
    }
}
