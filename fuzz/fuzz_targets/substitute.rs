//! A placeholder is swapped in the one value that the pointer names, and no other value changes.
#![no_main]

use keyferry::base::secret::Secret;
use keyferry::inject::body::{BodyKind, substitute};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Sent<'a> {
    json: bool,
    body: &'a [u8],
    pointer: &'a str,
    placeholder: &'a str,
    secret: &'a str,
}

fuzz_target!(|sent: Sent| {
    let Ok(secret) = Secret::new(sent.secret.into()) else {
        return;
    };
    let kind = if sent.json { BodyKind::Json } else { BodyKind::Form };
    let Ok(Some(swapped)) = substitute(sent.body, kind, sent.pointer, sent.placeholder, &secret) else {
        return;
    };
    let value = String::from_utf8(secret.expose(<[u8]>::to_vec)).unwrap();
    if sent.json {
        let (Ok(mut before), Ok(after)) = (parsed(sent.body), parsed(&swapped)) else {
            panic!("no JSON is left")
        };
        let place = before.pointer_mut(sent.pointer).expect("it was found there");
        *place = place.as_str().unwrap().replacen(sent.placeholder, &value, 1).into();
        assert_eq!(before, after);
        return;
    }
    let name = sent.pointer[1..].replace("~1", "/").replace("~0", "~");
    let (before, after) = (fields(sent.body), fields(&swapped));
    assert_eq!(before.len(), after.len());
    for ((key, old), (same, new)) in before.iter().zip(&after) {
        assert_eq!(key, same);
        let expected = if *key == name {
            old.replacen(sent.placeholder, &value, 1)
        } else {
            old.clone()
        };
        assert_eq!(*new, expected);
    }
});

fn parsed(body: &[u8]) -> serde_json::Result<serde_json::Value> {
    serde_json::from_slice(body)
}

fn fields(body: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(body)
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}
