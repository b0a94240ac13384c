//! The user and password that a parent is shown.

use crate::base::ids::SecretId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A user and a password, for one greeting; wiped when dropped. Its `Debug` says nothing.
pub struct Login {
    both: Zeroizing<Vec<u8>>,
    colon: usize,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum NoLogin {
    /// The store has no value; the text holds nothing of one.
    #[error("the credential of `parent_auth` cannot be had: {0}")]
    Unavailable(#[source] crate::base::body::BoxError),
    /// It is not `user:password`, or too long for SOCKS (RFC 1929 §2).
    #[error("the credential of `parent_auth` is not `user:password`, each of at most 255 bytes")]
    Unfit,
}

/// RFC 1929 §2: each has a length of one byte.
const LONGEST: usize = 255;

impl Login {
    /// Takes `user:password`; the first colon parts them (RFC 7617 §2).
    ///
    /// # Errors
    /// When there is no user, no colon, or one of them is too long.
    pub fn new(both: &[u8]) -> Result<Self, NoLogin> {
        let colon = both.iter().position(|b| *b == b':').ok_or(NoLogin::Unfit)?;
        let password = both.len() - colon - 1;
        if !(1..=LONGEST).contains(&colon) || password > LONGEST {
            return Err(NoLogin::Unfit);
        }
        Ok(Self {
            both: Zeroizing::new(both.to_vec()),
            colon,
        })
    }

    /// As `Basic` has it.
    pub(super) fn basic(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&*self.both))
    }

    pub(super) fn user(&self) -> &[u8] {
        self.both.get(..self.colon).unwrap_or_default()
    }

    pub(super) fn password(&self) -> &[u8] {
        self.both.get(self.colon + 1..).unwrap_or_default()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(****)")
    }
}

type Give = dyn Fn(SecretId) -> BoxFuture<'static, Result<Login, NoLogin>> + Send + Sync;

/// Gives the login that a secret holds now. Made by whoever has the store, which this room has not.
#[derive(Clone)]
pub struct Logins(Arc<Give>);

impl Logins {
    /// Wraps what gives one.
    pub fn new(give: impl Fn(SecretId) -> BoxFuture<'static, Result<Login, NoLogin>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(give))
    }

    pub(super) async fn of(&self, id: SecretId) -> Result<Login, NoLogin> {
        (self.0)(id).await
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_login_is_a_user_a_colon_and_a_password() {
        let login = Login::new(b"ann:pa:ss").unwrap();
        assert_eq!((login.user(), login.password()), (&b"ann"[..], &b"pa:ss"[..]));
        assert_eq!(&*login.basic(), "YW5uOnBhOnNz");
        assert_eq!(format!("{login:?}"), "Login(****)");
        for bad in [
            "",
            "ann",
            ":pass",
            &format!("{}:p", "u".repeat(256)),
            &format!("u:{}", "p".repeat(256)),
        ] {
            assert!(Login::new(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
