//! Signs a request by a keyed hash over a template of it (RFC 2104). Whatever the agent can write into the template is held
//! to one reading: what could end a line, or is there twice, is refused.

use super::{Error, place};
use crate::base::ids::SecretId;
use crate::base::secret::Secret;
use crate::config::hmac::{Clock, Form, Hash, Hmac, Piece};
use crate::net;
use crate::policy::Permitted;
use crate::store::Held;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::uri::PathAndQuery;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

/// What a signature is made of.
#[derive(Debug)]
pub(super) struct Given {
    /// The values of the secrets in it, the key too, each with its name.
    pub(super) secrets: HashMap<SecretId, (Arc<Held>, Arc<str>)>,
    /// The body, where it is signed.
    pub(super) body: Bytes,
}

/// Fills the headers; the agent's own go. The signature is returned: in an echo it would be worth something.
///
/// # Errors
/// When a part of the request could be read in two ways, or a value cannot stand where it goes.
pub(super) fn sign(permitted: &mut Permitted, spec: &Hmac, given: &Given) -> Result<Secret, Error> {
    for (name, _) in &spec.headers {
        place::remove(permitted.headers_mut(), name);
    }
    let uri = permitted.uri().path_and_query().cloned();
    let uri = uri.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let sent = net::path_sent(&uri).ok_or(Error::Unsignable("its path cannot be sent"))?;
    permitted.set_path_and_query(sent.clone());
    let mut values = Values {
        permitted,
        given,
        sent: &sent,
        timestamp: timestamp(spec.clock)?,
        nonce: nonce()?,
        signature: String::new(),
    };
    let (key, name) = values.secret(spec.key)?;
    let key = key.secret.expose(|key| read_key(key, spec.key_form));
    let key = key.ok_or_else(|| Error::Unfit(Arc::clone(name)))?;
    let mut signing = hmac::Context::with_key(&hmac::Key::new(algorithm(spec.hash), &key));
    for piece in &spec.signed {
        values.with(piece, |bytes| signing.update(bytes))?;
    }
    values.signature = written(signing.sign().as_ref(), spec.form);
    let mut filled = Vec::with_capacity(spec.headers.len());
    for (name, pieces) in &spec.headers {
        let mut value = Zeroizing::new(Vec::new());
        for piece in pieces {
            values.with(piece, |bytes| value.extend_from_slice(bytes))?;
        }
        filled.push((name, place::sensitive(&value, &"".into())?));
    }
    let signature = Secret::new(values.signature.into_bytes()).map_err(|_| Error::Unsignable("it has no signature"))?;
    for (name, value) in filled {
        permitted.headers_mut().insert(name, value);
    }
    Ok(signature)
}

/// What stands for the pieces of a template.
struct Values<'a> {
    permitted: &'a Permitted,
    given: &'a Given,
    sent: &'a PathAndQuery,
    timestamp: String,
    nonce: String,
    signature: String,
}

impl Values<'_> {
    fn secret(&self, id: SecretId) -> Result<&(Arc<Held>, Arc<str>), Error> {
        let secret = self.given.secrets.get(&id);
        secret.ok_or(Error::Unsignable("a secret of the signature was not fetched"))
    }

    /// Lends what stands for a piece to `use_it`.
    fn with(&self, piece: &Piece, use_it: impl FnOnce(&[u8])) -> Result<(), Error> {
        let text: Cow<'_, str> = match piece {
            Piece::Secret(id) => {
                self.secret(*id)?.0.secret.expose(use_it);
                return Ok(());
            }
            Piece::Body => {
                use_it(&self.given.body);
                return Ok(());
            }
            // The operator's own words, which may hold a newline.
            Piece::Text(text) => {
                use_it(text.as_bytes());
                return Ok(());
            }
            Piece::Header(name) => {
                let value = place::only(self.permitted.headers(), name);
                let value = value.map_err(|()| Error::Unsignable("a header that is signed is there more than once"))?;
                match value.map(|value| value.to_str().unwrap_or("\n")) {
                    // Else it would be signed as one that is not there.
                    Some("") => return Err(Error::Unsignable("a header that is signed is empty")),
                    value => value.unwrap_or_default().into(),
                }
            }
            Piece::Method => self.permitted.method().as_str().into(),
            Piece::Path => self.sent.path().into(),
            Piece::Query => self.sent.query().unwrap_or_default().into(),
            Piece::PathAndQuery => self.sent.as_str().into(),
            Piece::Host => net::authority(self.permitted.target(), self.permitted.scheme()).into(),
            Piece::Timestamp => self.timestamp.as_str().into(),
            Piece::Nonce => self.nonce.as_str().into(),
            Piece::BodyHash(hash, form) => {
                let algorithm = match hash {
                    Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                    Hash::Sha256 => &digest::SHA256,
                    Hash::Sha512 => &digest::SHA512,
                };
                written(digest::digest(algorithm, &self.given.body).as_ref(), *form).into()
            }
            Piece::Signature => self.signature.as_str().into(),
        };
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(Error::Unsignable(
                "what is signed of it holds other bytes than visible ASCII",
            ));
        }
        use_it(text.as_bytes());
        Ok(())
    }
}

/// The key's bytes; `None` where it is not written so.
pub(super) fn read_key(key: &[u8], form: Form) -> Option<Zeroizing<Vec<u8>>> {
    let read = match form {
        Form::Text => Some(key.to_vec()),
        Form::Base64 => STANDARD.decode(key).ok(),
        Form::Hex => {
            let digits = key.iter().map(|digit| char::from(*digit).to_digit(16));
            let digits: Zeroizing<Vec<u32>> = Zeroizing::new(digits.collect::<Option<_>>()?);
            let (pairs, rest) = digits.as_chunks::<2>();
            let bytes = pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).ok());
            bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
        }
    };
    read.map(Zeroizing::new)
}

fn algorithm(hash: Hash) -> hmac::Algorithm {
    match hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    }
}

fn written(bytes: &[u8], form: Form) -> String {
    match form {
        Form::Base64 => STANDARD.encode(bytes),
        Form::Hex | Form::Text => crate::sign::sigv4::hex(bytes),
    }
}

fn timestamp(clock: Clock) -> Result<String, Error> {
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH);
    let since = since.map_err(|_| Error::Unsignable("the clock shows no date"))?;
    Ok(match clock {
        Clock::Seconds => since.as_secs().to_string(),
        Clock::Milliseconds => since.as_millis().to_string(),
        Clock::Rfc3339 => {
            let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
            let text = OffsetDateTime::from(now).format(form);
            text.map_err(|_| Error::Unsignable("the clock shows no date"))?
        }
    })
}

fn nonce() -> Result<String, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Unsignable("there is no randomness for its nonce"))?;
    Ok(crate::sign::sigv4::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_or_not_at_all() {
        let read = |key: &str, form| read_key(key.as_bytes(), form).map(|key| key.to_vec());
        assert_eq!(read("a0Ff", Form::Hex), Some(vec![0xa0, 0xff]));
        assert_eq!(read("a0f", Form::Hex), None);
        assert_eq!(read("a0fg", Form::Hex), None);
        assert_eq!(read("AP8=", Form::Base64), Some(vec![0, 0xff]));
        assert_eq!(read("AP8", Form::Base64), None);
        assert_eq!(read("a0ff", Form::Text), Some(b"a0ff".to_vec()));
    }
}
