use super::*;
use crate::scrub::spell::spellings;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

/// A value in which every encoder finds something to escape.
const AWKWARD: &str = "p/a+s=s&w\"o'r<d>\\ü~!*(é)_-.:@ $";

const UNRESERVED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

fn scrubbed(text: &str, secret: &str, stand_in: Option<&str>) -> String {
    let (out, _) = scrub_pieces(
        vec![Bytes::copy_from_slice(text.as_bytes())],
        &[needles(&[(secret, stand_in)])],
    );
    String::from_utf8_lossy(&out.data()).into_owned()
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

fn percent_all(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn unicode_all(text: &str) -> String {
    text.encode_utf16().map(|u| format!("\\u{u:04x}")).collect()
}

#[test]
fn each_spelling_comes_back_as_the_placeholder_in_the_same_spelling() {
    for spell in [
        |s: &str| s.to_owned(),
        percent_all,
        |s: &str| percent_all(s).to_lowercase(),
        hex,
        |s: &str| hex(s).to_uppercase(),
        unicode_all,
        |s: &str| format!("Location: https://x.test/cb?token={s}&state=1"),
        |s: &str| serde_json::json!({ "authorization": format!("Bearer {s}") }).to_string(),
    ] {
        assert_eq!(scrubbed(&spell(TOKEN), TOKEN, Some(STAND_IN)), spell(STAND_IN));
    }
}

#[test]
fn spellings_by_other_peoples_encoders_are_found() {
    let url = |set| percent_encoding::utf8_percent_encode(AWKWARD, set).to_string();
    let form: String = url::form_urlencoded::byte_serialize(AWKWARD.as_bytes()).collect();
    let query = url::Url::parse_with_params("https://x.test/", [("k", AWKWARD)])
        .unwrap()
        .to_string();
    for text in [
        url(percent_encoding::NON_ALPHANUMERIC),
        url(UNRESERVED),
        form.clone(),
        query,
        serde_json::to_string(AWKWARD).unwrap(),
        serde_json::to_string(AWKWARD).unwrap().replace('/', "\\/"),
        AWKWARD
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#39;"),
        // As writers of HTML that trust no character.
        AWKWARD.chars().map(|c| format!("&#{};", u32::from(c))).collect(),
        AWKWARD.chars().map(|c| format!("&#x{:x};", u32::from(c))).collect(),
        AWKWARD.chars().map(|c| format!("&#x{:X};", u32::from(c))).collect(),
        // As ECMAScript's encodeURIComponent and encodeURI, Go's url.PathEscape and Python's quote write it.
        "p%2Fa%2Bs%3Ds%26w%22o'r%3Cd%3E%5C%C3%BC~!*(%C3%A9)_-.%3A%40%20%24".to_owned(),
        "p/a+s=s&w%22o'r%3Cd%3E%5C%C3%BC~!*(%C3%A9)_-.:@%20$".to_owned(),
        "p%2Fa+s=s&w%22o%27r%3Cd%3E%5C%C3%BC~%21%2A%28%C3%A9%29_-.:@%20$".to_owned(),
        "p/a%2Bs%3Ds%26w%22o%27r%3Cd%3E%5C%C3%BC~%21%2A%28%C3%A9%29_-.%3A%40%20%24".to_owned(),
        // As encoding/json, System.Text.Json, json.dumps and json_encode write it.
        r#"p/a+s=s\u0026w\"o'r\u003cd\u003e\\ü~!*(é)_-.:@ $"#.to_owned(),
        r#"p/a\u002Bs=s\u0026w\u0022o\u0027r\u003Cd\u003E\\\u00FC~!*(\u00E9)_-.:@ $"#.to_owned(),
        r#"p/a+s=s&w\"o'r<d>\\\u00fc~!*(\u00e9)_-.:@ $"#.to_owned(),
        r#"p\/a+s=s&w\"o'r<d>\\\u00fc~!*(\u00e9)_-.:@ $"#.to_owned(),
    ] {
        let out = scrubbed(&text, AWKWARD, None);
        assert_eq!(out.len(), text.len(), "{text}");
        let masked = ["*", "*\"", "&#42;", "&#x2a;", "&#x2A;"]
            .iter()
            .any(|end| out.ends_with(end));
        assert!(masked, "{text} became {out}");
    }
}

#[test]
fn a_spelling_inside_another_is_found_and_so_is_utf_16() {
    let percent = |text: &str| percent_encoding::utf8_percent_encode(text, UNRESERVED).to_string();
    let form = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let json = |text: &str| serde_json::to_string(text).unwrap().trim_matches('"').to_owned();
    let wide = |text: &str, order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let plain = AWKWARD.replace('"', "");
    for text in [
        format!("/login?next={}", percent(&format!("/cb?key={}", percent(AWKWARD)))).into_bytes(),
        form(&format!("next={}", form(AWKWARD))).into_bytes(),
        json(&format!("{{\"sent\":\"{}\"}}", json(&plain))).into_bytes(),
        json(&json(&plain).replace('/', "\\/")).into_bytes(),
        wide(AWKWARD, u16::to_le_bytes),
        wide(AWKWARD, u16::to_be_bytes),
    ] {
        let found = needles(&[(AWKWARD, None), (&plain, None)]).found_in(&text);
        assert!(found, "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_usual_token_has_few_enough_spellings_for_the_vectorised_search() {
    // Beyond 64 patterns aho-corasick searches byte by byte.
    for token in [
        TOKEN,
        "sk-ant-api03-AbCdEf0123456789AbCdEf0123456789-AA",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ] {
        let heads: std::collections::BTreeSet<_> = spellings(token.as_bytes(), None)
            .iter()
            .map(|spelling| spelling.find[..8].to_vec())
            .collect();
        assert!(heads.len() <= 64, "{token}: {}", heads.len());
    }
}

#[test]
fn a_basic_credential_is_masked_whatever_the_user_is_called() {
    for user in ["", "x", "me", "bot", "x-access-token"] {
        let told = format!(
            "{{\"Authorization\": \"Basic {}\"}}",
            STANDARD.encode(format!("{user}:{TOKEN}"))
        );
        let out = scrubbed(&told, TOKEN, Some(STAND_IN));
        let kept = STANDARD
            .decode(out.split_once("Basic ").unwrap().1.trim_end_matches("\"}"))
            .unwrap();
        let kept = String::from_utf8_lossy(&kept).into_owned();
        assert!(kept.contains(&STAND_IN[1..STAND_IN.len() - 1]), "{kept}");
        assert!(!kept.contains(&TOKEN[1..5 + 4]), "{kept}");
    }
    // PHP and others escape the slash; a URL escapes plus and slash.
    let secret = "\u{3f}\u{3f}\u{3f}~~~\u{3e}\u{3e}\u{3e}";
    let text = STANDARD.encode(secret);
    assert!(text.contains('/') && text.contains('+'), "{text}");
    for told in [
        text.replace('/', "\\/"),
        text.replace('/', "%2F").replace('+', "%2B"),
        text.replace('+', "\\u002B"),
    ] {
        assert!(
            !scrubbed(&told, secret, None).contains(&told[..told.len() - 3]),
            "{told}"
        );
    }
}

#[test]
fn a_short_value_is_reported_and_not_searched() {
    let set =
        needles(&[("1234567", None), ("", None), (TOKEN, None)].map(|(v, p)| (if v.is_empty() { "x" } else { v }, p)));
    assert_eq!((set.too_short(), set.is_empty()), (2, false));
    assert!(!set.found_in(b"1234567") && set.found_in(TOKEN.as_bytes()));
    assert!(needles(&[("1234567", None)]).is_empty());
}

#[test]
fn debug_says_nothing() {
    let set = needles(&[(TOKEN, None)]);
    assert!(!format!("{set:?}").contains("ghp_"));
    assert!(set.longest() >= 6 * TOKEN.len());
}

#[test]
fn headers_and_trailers_are_masked_and_stay_sensitive() {
    let mut map = HeaderMap::new();
    map.append("location", format!("https://x.test/?t={TOKEN}").parse().unwrap());
    map.append("set-cookie", "a=1".parse().unwrap());
    map.append("set-cookie", format!("b={TOKEN}; c={TOKEN}").parse().unwrap());
    map.append(
        "x-bytes",
        http::HeaderValue::from_bytes(&[b"\xff", TOKEN.as_bytes()].concat()).unwrap(),
    );
    map.get_mut("location").unwrap().set_sensitive(true);
    assert_eq!(headers(&mut map, &[needles(&[(TOKEN, Some(STAND_IN))])]), 4);
    assert_eq!(map["location"], format!("https://x.test/?t={STAND_IN}"));
    assert!(map["location"].is_sensitive());
    let cookies: Vec<_> = map.get_all("set-cookie").into_iter().collect();
    assert_eq!(cookies, ["a=1", &format!("b={STAND_IN}; c={STAND_IN}")]);
    assert_eq!(map["x-bytes"].as_bytes(), [b"\xff", STAND_IN.as_bytes()].concat());
}

proptest! {
    #[test]
    fn any_spelling_of_any_value_keeps_its_length_and_is_gone(
        value in "[ -~äöü€]{8,60}", stand_in in proptest::option::of("[ -~]{1,70}"), before in "[a-z]{0,9}",
    ) {
        let set = needles(&[(&value, stand_in.as_deref())]);
        for spelling in spellings(value.as_bytes(), stand_in.as_deref()) {
            prop_assert_eq!(spelling.find.len(), spelling.put.len());
            let text = [before.as_bytes(), &spelling.find, b" end"].concat();
            let (out, hits) = scrub_pieces(vec![text.clone().into()], std::slice::from_ref(&set));
            prop_assert_eq!(out.data().len(), text.len());
            prop_assert!(hits >= 1);
        }
    }

    #[test]
    fn base64_is_found_wherever_the_value_stands(
        value in "[!-~]{8,40}", before in proptest::collection::vec(any::<u8>(), 0..40),
        after in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let whole = [&before, value.as_bytes(), &after].concat();
        let set = needles(&[(&value, None)]);
        for text in [STANDARD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
            prop_assert!(set.found_in(text.as_bytes()), "{} in {}", value, text);
        }
    }
}
