//! A cookie of Keyferry's among the agent's own (RFC 6265 §5.4).

use super::Error;
use super::place::sensitive;
use http::HeaderMap;
use http::header::COOKIE;
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Puts `name=value` into the one `Cookie` header that goes out, before whatever else the agent sends there. Its own of that
/// name go, in every spelling that some server takes for it.
///
/// # Errors
/// When the value, which is `secret`'s, cannot stand in a cookie.
pub(super) fn put(headers: &mut HeaderMap, name: &str, value: &[u8], secret: &Arc<str>) -> Result<(), Error> {
    if value.is_empty() || !value.iter().all(|byte| is_octet(*byte)) {
        return Err(Error::Unfit(Arc::clone(secret)));
    }
    // First: an unclosed quotation mark in a cookie of the agent's would swallow what comes behind it.
    let mut line = Zeroizing::new([name.as_bytes(), b"=", value].concat());
    for header in headers.get_all(COOKIE) {
        let kept = header.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        for pair in kept.filter(|pair| !pair.is_empty() && !names(pair, name)) {
            line.extend_from_slice(b"; ");
            line.extend_from_slice(pair);
        }
    }
    let line = sensitive(&line, secret)?;
    headers.insert(COOKIE, line);
    Ok(())
}

/// Whether some server could take this pair, or a part of it, for the cookie of that name. Older ones split at commas too
/// (RFC 2109 §4.4); others decode names, fold their case, or see `_` in `.`, `[` and a space.
fn names(pair: &[u8], name: &str) -> bool {
    let pair = String::from_utf8_lossy(pair);
    pair.split(',').any(|part| {
        let part = part.trim().trim_start_matches('=');
        let written = part.split('=').next().unwrap_or_default();
        folded(written) == folded(name)
    })
}

fn folded(name: &str) -> String {
    let plain = name.replace('+', " ");
    let decoded = percent_decode_str(plain.trim()).decode_utf8_lossy();
    let decoded = decoded.trim().trim_matches('"');
    decoded.to_lowercase().replace(['.', '[', ' '], "_")
}

/// RFC 6265 §4.1.1, `cookie-octet`.
fn is_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    fn sent(theirs: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for one in theirs {
            headers.append(COOKIE, HeaderValue::from_static(one));
        }
        put(&mut headers, "session_id", b"ours", &"s".into()).unwrap();
        let sent = headers.get_all(COOKIE).iter();
        sent.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_agents_cookie_of_that_name_goes_in_every_spelling_and_the_others_stay() {
        for theirs in [
            "session_id=x",
            "session_id = x",
            "SESSION_ID=x",
            "session%5Fid=x",
            "session.id=x",
            "session[id=x",
            "session+id=x",
            "\"session_id\"=x",
            "=session_id=x",
            "session_id",
            "b=1, session_id=x",
        ] {
            assert_eq!(sent(&[theirs]), ["session_id=ours"], "{theirs}");
        }
        let many = ["a=1; session_id=x;b=2", "session_id=y", "\tc=\"3", "session_ids=z"];
        assert_eq!(sent(&many), ["session_id=ours; a=1; b=2; c=\"3; session_ids=z"]);
        assert_eq!(sent(&[]), ["session_id=ours"]);
    }

    #[test]
    fn what_no_cookie_can_hold_is_not_put_there() {
        for value in ["a;b", "a b", "a,b", "a\"", "", "é"] {
            let put = put(&mut HeaderMap::new(), "n", value.as_bytes(), &"s".into());
            assert!(put.is_err(), "{value}");
        }
    }
}
