//! One text out of a JSON document that holds secrets. What is passed over is never kept, so there is nothing to wipe.

use crate::base::secret::Secret;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The text that stands at the end of these names, as `["data", "password"]`; a number in decimal leads into an array.
pub fn text(document: &[u8], names: &[&str]) -> Option<Secret> {
    let names: Vec<_> = names.iter().map(|name| Cow::Borrowed(*name)).collect();
    found(document, &names)
}

/// The text under a field of a secret: its name, or a pointer to it (RFC 6901), which begins with a slash.
pub fn field(document: &Secret, field: &str) -> Option<Secret> {
    let names: Vec<Cow<'_, str>> = match field.strip_prefix('/') {
        Some(pointer) => {
            let segments = pointer.split('/');
            segments
                .map(|name| name.replace("~1", "/").replace("~0", "~").into())
                .collect()
        }
        None => vec![field.into()],
    };
    document.expose(|bytes| found(bytes, &names))
}

/// What a text in base64 stands for, in either alphabet, with padding or without.
pub fn decoded(text: &Secret) -> Option<Secret> {
    const LAX: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = text.expose(|text| {
        let plain = GeneralPurpose::new(&STANDARD, LAX).decode(text);
        plain.or_else(|_| GeneralPurpose::new(&URL_SAFE, LAX).decode(text))
    });
    Secret::either(bytes.ok()?).ok()
}

fn found(document: &[u8], names: &[Cow<'_, str>]) -> Option<Secret> {
    let mut json = serde_json::Deserializer::from_slice(document);
    let text = At(names).deserialize(&mut json).ok()??;
    json.end().ok()?;
    let mut text = text;
    Secret::either(std::mem::take(&mut *text).into_bytes()).ok()
}

/// What stands at the end of some names.
struct At<'n>(&'n [Cow<'n, str>]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Zeroizing<String>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Zeroizing<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.is_empty().then(|| Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, mut text: String) -> Result<Self::Value, E> {
        if self.0.is_empty() {
            return Ok(Some(Zeroizing::new(text)));
        }
        text.zeroize();
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            match self.0.split_first() {
                // Of two with one name the last counts, as in most readers.
                Some((wanted, below)) if *wanted == name => found = map.next_value_seed(At(below))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let wanted = self
            .0
            .split_first()
            .and_then(|(name, below)| Some((name.parse::<usize>().ok()?, below)));
        let (mut found, mut at) = (None, 0);
        loop {
            match wanted {
                Some((place, below)) if place == at => match list.next_element_seed(At(below))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                },
                _ if list.next_element::<IgnoredAny>()?.is_none() => return Ok(found),
                _ => {}
            }
            at += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DOCUMENT: &str = r#"{"user":"u","n":7,"db":{"password":"p\u0041\"","a/b":"slash","~":"tilde"},
        "list":["zero",{"k":"one"}],"":"empty","pem":"a\nb\n","void":"","twice":"x","twice":"y"}"#;

    #[test]
    fn a_field_is_a_name_or_a_pointer_and_always_a_text() {
        let document = Secret::either(DOCUMENT.into()).unwrap();
        for (name, value) in [
            ("user", Some("u")),
            ("/db/password", Some("pA\"")),
            ("/db/a~1b", Some("slash")),
            ("/db/~0", Some("tilde")),
            ("/list/0", Some("zero")),
            ("/list/1/k", Some("one")),
            ("/", Some("empty")),
            ("pem", Some("a\nb\n")),
            ("twice", Some("y")),
            ("n", None),
            ("db", None),
            ("list", None),
            ("/list/2", None),
            ("/user/0", None),
            ("void", None),
            ("other", None),
            ("db/password", None),
        ] {
            let found = field(&document, name);
            let same = |text: &str| found.as_ref().is_some_and(|found| found.matches(text.as_bytes()));
            assert!(value.map_or(found.is_none(), same), "{name}");
        }
        for odd in [
            "",
            "x",
            "[",
            "{\"user\":\"u\"",
            "{\"user\":\"u\"} x",
            "\"user\"",
            "null",
            "5",
        ] {
            assert!(text(odd.as_bytes(), &["user"]).is_none(), "{odd}");
        }
    }

    #[test]
    fn base64_is_read_in_either_alphabet() {
        let read = |text: &str| decoded(&Secret::new(text.into()).unwrap());
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert!(read(text).unwrap().matches(&[0xfb, 0xff]), "{text}");
        }
        assert!(read("a").is_none() && read("####").is_none());
    }
}
