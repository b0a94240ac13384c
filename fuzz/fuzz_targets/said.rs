//! What a token service, a Vault or a store says is a secret that is there, or none; and for a time that can be counted.
#![no_main]

use keyferry::base::secret::Secret;
use keyferry::sign::lent;
use keyferry::sign::picked;
use keyferry::sign::said::{self, Wanted};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::time::{Duration, SystemTime};

const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

fuzz_target!(|body: &[u8]| {
    // What is passed over may be no UTF-8: then there is nothing to compare with.
    let Some(json) = compared(body) else { return };
    let moments = [SystemTime::UNIX_EPOCH, SystemTime::now()];
    for (wanted, name) in [
        (Wanted::Access, "access_token"),
        (Wanted::Id, "id_token"),
        (Wanted::Plain, "token"),
    ] {
        let Ok(given) = said::given(body, wanted) else { continue };
        // A list of all of them is one of these objects, too, to the reader.
        assert!(is(&given.token, &json[name]) || json.is_array());
        for now in moments {
            let term = given.term(now);
            assert!(term.is_err() || term.is_ok_and(|time| time.is_none_or(|time| !time.is_zero() && time <= LONGEST)));
        }
    }
    if let Some(given) = said::vault_login(body) {
        let _ = given.term(SystemTime::now());
    }
    let _ = lent::terms(body);
    for versioned in [false, true] {
        let at = if versioned {
            &json["data"]["data"]
        } else {
            &json["data"]
        };
        if let Some((secret, _)) = said::vault_field(body, "password", versioned) {
            assert!(is(&secret, &at["password"]) || json.is_array() || at.is_array() || json["data"].is_array());
        }
    }
    if let Ok(document) = Secret::document(body.to_vec()) {
        for field in ["token", "/data/password", "/data/0/~1"] {
            let Some(secret) = picked::field(&document, field) else {
                continue;
            };
            let there = match field.starts_with('/') {
                true => json.pointer(field),
                false => json.get(field),
            };
            assert!(there.is_some_and(|there| is(&secret, there)));
        }
        for (name, secret) in said::texts(&document) {
            assert!(is(&secret, &json[&name]));
        }
    }
});

/// The document, by another reader; nothing where that has none for bytes that are no UTF-8.
fn compared(body: &[u8]) -> Option<Value> {
    if std::str::from_utf8(body).is_err() {
        let _ = said::given(body, Wanted::Access).map(|given| given.term(SystemTime::now()));
        let _ = (
            said::vault_field(body, "password", true),
            picked::text(body, &["token"]),
        );
        return None;
    }
    Some(serde_json::from_slice(body).unwrap_or_default())
}

/// Whether it is this text, but for the end of a line that a document may have.
fn is(secret: &Secret, there: &Value) -> bool {
    there
        .as_str()
        .is_some_and(|text| secret.matches(text.as_bytes()) || secret.matches(text.trim_end().as_bytes()))
}
