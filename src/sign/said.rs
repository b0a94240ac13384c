//! Secrets as a token service or a store is told them, and as it answers: forms, JSON, header values. Here they are
//! opened and closed again, so that whoever carries the messages never does.

use crate::base::secret::Secret;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::{Zeroize, Zeroizing};

/// What is kept as it is in a form (RFC 6749 appendix B).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// A word that is no secret.
    Text(&'a str),
    /// A secret.
    Secret(&'a Secret),
}

impl Field<'_> {
    fn with<R>(self, use_it: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Text(text) => use_it(text.as_bytes()),
            Self::Secret(secret) => secret.expose(use_it),
        }
    }
}

/// `application/x-www-form-urlencoded`.
pub fn form(fields: &[(&str, Field<'_>)]) -> Zeroizing<Vec<u8>> {
    // Three bytes for one at most: it never grows, and leaves no copies behind.
    let room = fields
        .iter()
        .map(|(name, field)| 3 * (name.len() + field.with(<[u8]>::len)) + 2);
    let mut out = Zeroizing::new(Vec::with_capacity(room.sum()));
    for (name, field) in fields {
        if !out.is_empty() {
            out.push(b'&');
        }
        encode(name.as_bytes(), &mut out);
        out.push(b'=');
        field.with(|value| encode(value, &mut out));
    }
    out
}

fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    percent_encode(bytes, FORM).for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// `Basic …` of a client, both parts encoded as in a form (RFC 6749 §2.3.1).
pub fn basic(id: &str, secret: &Secret) -> Option<HeaderValue> {
    let mut pair = Zeroizing::new(Vec::with_capacity(3 * (id.len() + secret.len()) + 1));
    encode(id.as_bytes(), &mut pair);
    pair.push(b':');
    secret.expose(|secret| encode(secret, &mut pair));
    value("Basic ", Field::Text(&Zeroizing::new(STANDARD.encode(&*pair))))
}

/// A header value behind a word, hidden from logs and never indexed by HPACK (RFC 7541 §7.1.3).
pub fn value(word: &str, field: Field<'_>) -> Option<HeaderValue> {
    let bytes = field.with(|bytes| Zeroizing::new([word.as_bytes(), bytes].concat()));
    let mut value = HeaderValue::from_bytes(&bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A JSON object of texts.
pub fn json(fields: &[(&str, Field<'_>)]) -> Option<Zeroizing<Vec<u8>>> {
    let room = fields
        .iter()
        .map(|(name, field)| 6 * (name.len() + field.with(<[u8]>::len)) + 8);
    let mut out = Zeroizing::new(Vec::with_capacity(room.sum::<usize>() + 2));
    for (name, field) in fields {
        let first = out.is_empty();
        out.push(if first { b'{' } else { b',' });
        serde_json::to_writer(&mut *out, name).ok()?;
        out.push(b':');
        field.with(|value| serde_json::to_writer(&mut *out, std::str::from_utf8(value).ok()?).ok())?;
    }
    out.push(b'}');
    Some(out)
}

/// A text that becomes a secret; it is wiped where it cannot be one.
pub fn take(text: String) -> Option<Secret> {
    Secret::new(text.into_bytes()).ok()
}

/// What stands in an object that is a secret: its texts, each a secret of its own.
pub fn texts(document: &Secret) -> HashMap<String, Secret> {
    let read = document.expose(|bytes| serde_json::from_slice::<HashMap<String, Part>>(bytes));
    let texts = read.unwrap_or_default().into_iter();
    texts
        .filter_map(|(name, part)| match part {
            Part::Text(text) => Some((name, Secret::document(text.into_bytes()).ok()?)),
            Part::Other(_) => None,
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Text(String),
    Other(serde::de::IgnoredAny),
}

/// A secret as a variable of a program's environment holds it.
pub fn variable(secret: &Secret) -> Option<Zeroizing<String>> {
    let text = secret.expose(|bytes| String::from_utf8(bytes.to_vec()).ok().map(Zeroizing::new))?;
    (!text.contains('\0')).then_some(text)
}

/// The text of a secret that is none: the address of an account, the id of a key.
pub fn plain(secret: &Secret) -> Option<String> {
    secret.expose(|bytes| String::from_utf8(bytes.to_vec()).ok())
}

/// A token service's answer (RFC 6749 §5.1, §5.2), or one of its kin.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    access_token: Option<String>,
    id_token: Option<String>,
    token: Option<String>,
    token_type: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<Seconds>,
    expires_at: Option<String>,
    error: Option<String>,
}

/// Some services write a number as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

/// What a token service gave.
#[derive(Debug)]
pub struct Given {
    /// The token.
    pub token: Secret,
    /// Seconds that it is good for; none and less if it has expired.
    pub seconds: Option<f64>,
    /// Until when it is good, as RFC 3339 has it.
    pub until: Option<String>,
    /// The refresh token that takes the place of the one before.
    pub refresh: Option<Secret>,
}

impl Given {
    /// How long the token is good for, counted from `now`; `None` is without end.
    ///
    /// # Errors
    /// When it has ended.
    pub fn term(&self, now: SystemTime) -> Result<Option<Duration>, &'static str> {
        let until = self
            .until
            .as_deref()
            .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let left = until.map(|until| (until - OffsetDateTime::from(now)).as_seconds_f64());
        term(self.seconds.or(left))
    }
}

/// So many seconds, less a little: on its way a token must not end.
///
/// # Errors
/// When it has ended.
pub fn term(seconds: Option<f64>) -> Result<Option<Duration>, &'static str> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let seconds = seconds.clamp(0.0, LONGEST.as_secs_f64());
    let seconds = seconds - (seconds / 10.0).min(10.0);
    if seconds < 1.0 {
        return Err("its token has expired already");
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// A token that would be good for longer is asked for anew.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why an answer gives no token. Only words that the standard knows are passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// It is no JSON object, or has no such token.
    #[error("its answer holds no token")]
    None,
    /// It is a token of another kind.
    #[error("its token is no bearer token")]
    Kind,
    /// The service refused.
    #[error("it says `{0}`")]
    Refused(&'static str),
}

/// The name under which an answer has the token that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// `access_token`.
    Access,
    /// `id_token`.
    Id,
    /// `token`, as GitHub has it.
    Plain,
}

/// Reads an answer.
///
/// # Errors
/// When there is no token in it.
pub fn given(body: &[u8], wanted: Wanted) -> Result<Given, NoToken> {
    let mut answer: Answer = serde_json::from_slice(body).map_err(|_| NoToken::None)?;
    if let Some(error) = answer.error.take() {
        let known = ERRORS.iter().find(|known| **known == error);
        return Err(NoToken::Refused(known.copied().unwrap_or("an error of its own")));
    }
    let mut others = [answer.access_token.take(), answer.id_token.take(), answer.token.take()];
    let at = match wanted {
        Wanted::Access => 0,
        Wanted::Id => 1,
        Wanted::Plain => 2,
    };
    let token = others.get_mut(at).and_then(Option::take);
    others.iter_mut().flatten().for_each(Zeroize::zeroize);
    if wanted == Wanted::Access
        && answer
            .token_type
            .is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer"))
    {
        return Err(NoToken::Kind);
    }
    Ok(Given {
        token: token.and_then(take).ok_or(NoToken::None)?,
        seconds: match answer.expires_in {
            Some(Seconds::Number(seconds)) => Some(seconds),
            // Rust reads `nan` as a number, too.
            Some(Seconds::Text(text)) => text.trim().parse().ok().filter(|seconds: &f64| !seconds.is_nan()),
            Some(Seconds::Other(_)) | None => None,
        },
        until: answer.expires_at,
        refresh: answer.refresh_token.and_then(take),
    })
}

/// The token of a login at a Vault.
pub fn vault_login(body: &[u8]) -> Option<Given> {
    #[derive(Deserialize)]
    struct Login {
        auth: Auth,
    }
    #[derive(Deserialize)]
    struct Auth {
        client_token: String,
        #[serde(default)]
        lease_duration: f64,
    }
    let login: Login = serde_json::from_slice(body).ok()?;
    let lease = login.auth.lease_duration;
    Some(Given {
        token: take(login.auth.client_token)?,
        // A root token has no end.
        seconds: (lease > 0.0).then_some(lease),
        until: None,
        refresh: None,
    })
}

/// One field of an entry that a Vault keeps, and for how long it is lent.
pub fn vault_field(body: &[u8], field: &str, versioned: bool) -> Option<(Secret, Option<Duration>)> {
    #[derive(Deserialize)]
    struct Entry<T> {
        data: T,
        #[serde(default)]
        lease_duration: u64,
    }
    #[derive(Deserialize)]
    struct Version {
        data: HashMap<String, Part>,
    }
    let (parts, lease) = if versioned {
        let entry: Entry<Version> = serde_json::from_slice(body).ok()?;
        (entry.data.data, 0)
    } else {
        let entry: Entry<HashMap<String, Part>> = serde_json::from_slice(body).ok()?;
        (entry.data, entry.lease_duration)
    };
    let mut found = None;
    for (name, part) in parts {
        if let Part::Text(mut text) = part {
            if name == field {
                found = Secret::either(text.into_bytes()).ok();
            } else {
                text.zeroize();
            }
        }
    }
    Some((found?, (lease > 0).then(|| Duration::from_secs(lease))))
}

/// RFC 6749 §5.2, RFC 8628 §3.5 and RFC 8707 §2.
const ERRORS: &[&str] = &[
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "interaction_required",
    "slow_down",
    "server_error",
    "temporarily_unavailable",
];

/// Sixteen digits that tell one secret from another, and nothing else of either.
pub fn mark(secret: &Secret) -> String {
    let digest = secret.expose(|bytes| digest::digest(&digest::SHA256, bytes));
    digest
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into()).unwrap()
    }

    #[test]
    fn secrets_are_encoded_as_each_message_wants_them() {
        let odd = secret("a &=+%\"\\é");
        let form = form(&[("grant", Field::Text("x y")), ("s", Field::Secret(&odd))]);
        assert_eq!(&**form, b"grant=x%20y&s=a%20%26%3D%2B%25%22%5C%C3%A9");
        let json = json(&[("role", Field::Text("r")), ("s", Field::Secret(&odd))]).unwrap();
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            "{\"role\":\"r\",\"s\":\"a &=+%\\\"\\\\é\"}"
        );
        let basic = basic("id:x", &secret("p:w")).unwrap();
        assert_eq!(
            basic.to_str().unwrap(),
            format!("Basic {}", STANDARD.encode("id%3Ax:p%3Aw"))
        );
        assert!(basic.is_sensitive());
    }

    #[test]
    fn an_answer_gives_its_token_or_a_reason_that_tells_nothing() {
        let read = |text: &str| given(text.as_bytes(), Wanted::Access);
        let good =
            read("{\"access_token\":\"t-1\",\"token_type\":\"bearer\",\"expires_in\":\"60\",\"refresh_token\":\"r\"}");
        let good = good.unwrap();
        assert!(good.token.matches(b"t-1") && good.refresh.unwrap().matches(b"r"));
        assert_eq!(good.seconds, Some(60.0));
        // A service that states no time that can be counted has stated none.
        let odd = read("{\"access_token\":\"t-1\",\"expires_in\":\"nan\"}").unwrap();
        assert_eq!(odd.term(SystemTime::UNIX_EPOCH), Ok(None));
        for (text, term) in [
            ("inf", Ok(Some(LONGEST - Duration::from_secs(10)))),
            ("-1", Err("its token has expired already")),
        ] {
            let odd = read(&format!("{{\"access_token\":\"t-1\",\"expires_in\":\"{text}\"}}")).unwrap();
            assert_eq!(odd.term(SystemTime::UNIX_EPOCH), term);
        }
        for (text, why) in [
            ("", NoToken::None),
            ("<html>", NoToken::None),
            ("[]", NoToken::None),
            ("{\"access_token\":\"\"}", NoToken::None),
            ("{\"access_token\":\"a\\nb\"}", NoToken::None),
            ("{\"access_token\":\"a\",\"token_type\":\"mac\"}", NoToken::Kind),
            ("{\"error\":\"invalid_grant\"}", NoToken::Refused("invalid_grant")),
            ("{\"error\":\"hunter2\"}", NoToken::Refused("an error of its own")),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
    }
}
