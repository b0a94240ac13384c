//! No token of a token endpoint's reply is passed on, and all else of it is.
#![no_main]

use futures_util::FutureExt as _;
use keyferry::base::budget::Budget;
use keyferry::config::model::Capture;
use keyferry::inject::captured::{Captured, Exchange};
use keyferry::store::{EncryptedFile, KeySource};
use keyferry_fuzz::{cut, drained, streamed};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static CAPTURE: LazyLock<Capture> = LazyLock::new(|| Capture {
    login: "mail".into(),
    tokens: ["access_token", "refresh_token"].map(str::to_owned).into(),
    keep: false,
});

const STAND_IN: &str = "keyferry-placeholder-login-";

/// What waits for a time has a clock to wait by.
static CLOCK: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
});

// The first byte says what kind of a reply the rest is, and where it is cut.
fuzz_target!(|said: &[u8]| {
    let Some((how, said)) = said.split_first() else { return };
    let (form, fails) = (how & 1 == 1, how & 2 == 2);
    let captured = Captured::new(EncryptedFile::new(Path::new("/nonexistent"), KeySource::File));
    let kind = if form {
        "application/x-www-form-urlencoded"
    } else {
        "application/json"
    };
    let response = http::Response::builder()
        .status(if fails { 400 } else { 200 })
        .header("content-type", kind)
        .header("set-cookie", "a=b");
    let (mut parts, ()) = response.body(()).unwrap().into_parts();
    let exchange = Exchange {
        capture: &CAPTURE,
        agent: &Arc::from("agent"),
        given: &[],
        needles: &[],
        memory: &Budget::new(64 << 20),
        time: Duration::from_secs(60),
    };
    let _entered = CLOCK.enter();
    let body = streamed(cut(said, &[u16::from(how >> 2), u16::from(*how)]));
    let replied = captured
        .reply(&mut parts, body, &exchange)
        .now_or_never()
        .expect("it waits for nobody");
    let Ok((body, hits)) = replied else { return };
    assert!(!parts.headers.contains_key("set-cookie"));
    let (out, whole) = drained(body);
    assert!(whole);
    if fails && hits == 0 {
        // An error may say so in any way, and gives no token.
        return;
    }
    let tokens = match form {
        true => compare_forms(said, &out),
        false => compare_json(said, &out),
    };
    // A token that another looks like by chance is counted with it.
    assert!(hits >= tokens.len() as u64);
    // One that is a word of every stand-in is in those of others.
    let long = tokens
        .iter()
        .filter(|token| token.len() >= 8 && !STAND_IN.contains(*token));
    for token in long {
        assert!(!keyferry_fuzz::holds(&out, token.as_bytes()), "a token came through");
    }
});

/// The tokens of a document, each of which must have another text in the other document.
fn compare_json(before: &[u8], after: &[u8]) -> Vec<String> {
    if before.is_empty() {
        return Vec::new();
    }
    let old = serde_json::from_slice::<Value>(before).expect("what is no JSON was passed on");
    let mut tokens = Vec::new();
    let new = serde_json::from_slice(after).expect("no JSON is left");
    walk(&old, &new, &mut tokens);
    tokens
}

fn walk(old: &Value, new: &Value, tokens: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            assert_eq!(old.len(), new.len());
            for ((name, old), (same, new)) in old.iter().zip(new) {
                assert_eq!(name.len(), same.len());
                match old.as_str().filter(|text| is_token(name) && !text.is_empty()) {
                    Some(token) => {
                        assert!(new.as_str().is_some_and(|new| new != token));
                        tokens.push(token.to_owned());
                    }
                    None => walk(old, new, tokens),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len());
            old.iter().zip(new).for_each(|(old, new)| walk(old, new, tokens));
        }
        _ => {}
    }
}

fn compare_forms(before: &[u8], after: &[u8]) -> Vec<String> {
    let read = |body: &[u8]| -> Vec<(String, String)> {
        let pairs = url::form_urlencoded::parse(body);
        pairs
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    };
    let (old, new) = (read(before), read(after));
    assert_eq!(old.len(), new.len());
    let tokens = old
        .iter()
        .zip(&new)
        .filter(|((name, value), _)| is_token(name) && !value.is_empty());
    let tokens = tokens.map(|((_, old), (_, new))| {
        assert_ne!(old, new);
        old.clone()
    });
    tokens.collect()
}

fn is_token(name: &str) -> bool {
    let folded: String = name.chars().filter(|c| !"_-. ".contains(*c)).collect();
    ["accesstoken", "refreshtoken"].contains(&folded.to_ascii_lowercase().as_str())
}
