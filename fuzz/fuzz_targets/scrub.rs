//! No credential leaves a reply, wherever the network cuts it and however another's encoder spells it, and no length
//! changes.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyferry::base::secret::Secret;
use keyferry::scrub::{self, Needles};
use keyferry_fuzz::{cut, drained, holds, streamed};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Debug, Arbitrary)]
struct Reply<'a> {
    secret: &'a [u8],
    stand_in: Option<&'a str>,
    parts: Vec<Part<'a>>,
    cuts: Vec<u16>,
}

#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Text(&'a [u8]),
    Start(u8),
    /// The credential, as this encoder spells it.
    Spelt(u8),
    /// The credential among other bytes in base64.
    Base64(bool, &'a [u8], &'a [u8]),
}

/// What masks are spelled with: a credential of these could be made up by masks.
const OF_MASKS: &[u8] = b"*%2aAKioq\\u0";

fuzz_target!(|reply: Reply| {
    // What the mask is made of cannot be a credential as well.
    if reply.secret.len() > 200 || reply.secret.contains(&b'*') {
        return;
    }
    let Ok(secret) = Secret::new(reply.secret.to_vec()) else {
        return;
    };
    let value: Vec<u8> = secret.expose(<[u8]>::to_vec);
    let stand_in = reply.stand_in.filter(|text| text.bytes().all(|b| !value.contains(&b)));
    let (mut sent, mut told) = (Vec::new(), Vec::new());
    for part in &reply.parts {
        match part {
            Part::Text(text) => sent.extend_from_slice(text),
            Part::Start(n) => sent.extend_from_slice(&value[..usize::from(*n) % value.len()]),
            Part::Spelt(how) => {
                let spelt = spelt(*how, &value);
                sent.extend_from_slice(&spelt);
                told.push(spelt);
            }
            Part::Base64(url, before, after) => {
                let whole = [before, value.as_slice(), after].concat();
                let spelt = if *url {
                    URL_SAFE_NO_PAD.encode(whole)
                } else {
                    STANDARD.encode(whole)
                };
                sent.extend_from_slice(spelt.as_bytes());
                told.push(spelt.into_bytes());
            }
        }
    }
    let needles = Arc::new(Needles::new([(&secret, stand_in)]));
    let hits = Arc::default();
    let body = scrub::body(streamed(cut(&sent, &reply.cuts)), &[Arc::clone(&needles)], &hits);
    let (got, ended) = drained(body);
    assert!(ended);
    assert_eq!(got.len(), sent.len());
    let mut whole = sent;
    assert_eq!(needles.mask(&mut whole), hits.load(Ordering::Relaxed));
    assert_eq!(got, whole, "the pieces matter");
    let clear = stand_in.is_none() && !value.iter().any(|b| OF_MASKS.contains(b));
    if clear && value.len() >= scrub::MIN_SEARCHED {
        assert!(!holds(&got, &value));
        for spelt in told {
            assert!(!holds(&got, &spelt), "{} came back", String::from_utf8_lossy(&spelt));
        }
    }
});

/// The value by an encoder that is none of ours.
fn spelt(how: u8, value: &[u8]) -> Vec<u8> {
    let lower = |text: String| text.to_ascii_lowercase().into_bytes();
    let text = std::str::from_utf8(value);
    match (how % 12, text) {
        (1, _) => value.iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect(),
        (2, _) => value.iter().flat_map(|b| format!("{b:02X}").into_bytes()).collect(),
        (3, _) => value.iter().flat_map(|b| format!("%{b:02X}").into_bytes()).collect(),
        (4, _) => value.iter().flat_map(|b| format!("%{b:02x}").into_bytes()).collect(),
        (5, _) => percent_encoding::percent_encode(value, percent_encoding::NON_ALPHANUMERIC)
            .to_string()
            .into(),
        (6, _) => url::form_urlencoded::byte_serialize(value).collect::<String>().into(),
        (7, Ok(text)) => serde_json::to_string(text).unwrap().as_bytes()[1..]
            .split_last()
            .unwrap()
            .1
            .to_vec(),
        (8, Ok(text)) => text
            .encode_utf16()
            .flat_map(|unit| format!("\\u{unit:04x}").into_bytes())
            .collect(),
        (9, Ok(text)) => text
            .encode_utf16()
            .flat_map(|unit| format!("\\u{unit:04X}").into_bytes())
            .collect(),
        (10, Ok(text)) if text.is_ascii() && !text.contains(char::is_uppercase) => {
            lower(percent_encoding::percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string())
        }
        _ => value.to_vec(),
    }
}
