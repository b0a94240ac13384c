//! Tokens written down in the encrypted file, one entry each, so that a login outlives this process.

use super::token::Token;
use crate::base::secret::Secret;
use crate::store::encrypted::{EncryptedFile, Error};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An entry, as it is written.
#[derive(Serialize, Deserialize)]
struct Entry<'t> {
    login: &'t str,
    agent: &'t str,
    field: &'t str,
    stand_in: &'t str,
    token: &'t str,
    /// Seconds since 1970.
    until: Option<u64>,
}

/// Puts `taken` in the place of `gone` and of all that has ended. Where that fails the tokens are good as long as this process lives, and the
/// operator is told.
pub(super) async fn write(file: &EncryptedFile, taken: &[Arc<Token>], gone: &[Arc<Token>]) {
    let file = file.clone();
    let (taken, gone) = (taken.to_vec(), gone.iter().map(|token| name(token)).collect::<Vec<_>>());
    let login = taken.first().map(|token| Arc::clone(&token.login));
    let written = tokio::task::spawn_blocking(move || {
        let entry = |token: &Arc<Token>| Ok((name(token), sealed(token)?));
        let put = taken.iter().map(entry).collect::<Result<Vec<_>, Error>>()?;
        file.exchange(put, |name, entry| {
            gone.iter().any(|gone| gone == name) || name.starts_with(PREFIX) && has_ended(entry)
        })
    });
    if let Ok(Err(error)) = written.await {
        tracing::error!(login = login.as_deref(), %error, "the tokens of a login could not be stored; they are lost when keyferry stops");
    }
}

/// What was written for these logins. An entry that cannot be read is passed over, with a warning.
pub(super) async fn read(file: &EncryptedFile, logins: &[Arc<str>]) -> Result<Vec<Arc<Token>>, Error> {
    let (file, logins) = (file.clone(), logins.to_vec());
    let read = tokio::task::spawn_blocking(move || {
        let all = file.all()?.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
        let read = all.filter_map(|(name, entry)| {
            let token = opened(&entry);
            if token.is_none() {
                tracing::warn!(name, "this entry is no token of a login; it is left alone");
            }
            token
                .filter(|token| logins.contains(&token.login) && !has_ended(&entry))
                .map(Arc::new)
        });
        Ok(read.collect())
    });
    let failed = |error| Error::Io {
        path: "secrets.age".into(),
        reason: io::Error::other(error),
    };
    read.await.map_err(failed)?
}

/// The end of the year 9999, in seconds since 1970.
const LAST: u64 = 253_402_300_799;

const PREFIX: &str = "login/";

/// Where a token is kept: its login can be told from the name, and nothing else.
pub(super) fn name(token: &Token) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(token.agent.as_bytes());
    hash.update(&[0]);
    hash.update(token.stand_in.as_bytes());
    let hash: String = hash
        .finish()
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{PREFIX}{}/{hash}", token.login)
}

pub(super) fn sealed(token: &Token) -> Result<Secret, Error> {
    let until = token.until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
    let failed = || Error::NotText(name(token));
    let written = token.secret.expose(|value| {
        let entry = Entry {
            login: &token.login,
            agent: &token.agent,
            field: &token.field,
            stand_in: &token.stand_in,
            token: std::str::from_utf8(value).ok()?,
            until: until.map(|until| until.as_secs()),
        };
        // A token is of printable characters: each takes two bytes at most, and the buffer never grows and leaves a copy.
        let mut plain = Vec::with_capacity(512 + 8 * value.len());
        serde_json::to_writer(&mut plain, &entry).ok()?;
        Some(plain)
    });
    Secret::new(written.ok_or_else(failed)?).map_err(|_| failed())
}

pub(super) fn opened(entry: &Secret) -> Option<Token> {
    #[derive(Deserialize)]
    struct Owned {
        login: String,
        agent: String,
        field: String,
        stand_in: String,
        token: String,
        until: Option<u64>,
    }
    let Owned {
        login,
        agent,
        field,
        stand_in,
        token,
        until,
    } = entry.expose(|json| serde_json::from_slice(json).ok())?;
    Some(Token {
        login: login.into(),
        agent: agent.into(),
        field: field.into(),
        stand_in: stand_in.into(),
        secret: Arc::new(Secret::new(token.into_bytes()).ok()?),
        until: match until {
            Some(seconds) => Some(UNIX_EPOCH.checked_add(Duration::from_secs(seconds.min(LAST)))?),
            None => None,
        },
        keep: true,
    })
}

/// Whether a token that was written down is past its end.
fn has_ended(entry: &Secret) -> bool {
    opened(entry).is_some_and(|token| token.until.is_some_and(|until| until < SystemTime::now()))
}
