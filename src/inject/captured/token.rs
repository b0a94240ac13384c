//! One token, and what the agent holds instead of it.

use crate::base::secret::Secret;
use crate::base::shape::placeholder_like;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A token of an agent's login.
pub struct Token {
    /// Whose login, by the config's name.
    pub(super) login: Arc<str>,
    /// Which agent logged in.
    pub(super) agent: Arc<str>,
    /// The field of the reply that it was in.
    pub(super) field: Arc<str>,
    /// What the agent holds.
    pub(super) stand_in: Arc<str>,
    pub(super) secret: Arc<Secret>,
    /// When it ends, if it says so.
    pub(super) until: Option<SystemTime>,
    /// Whether it outlives this process.
    pub(super) keep: bool,
}

/// Who logs in, and by which `capture`.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) login: Arc<str>,
    pub(super) agent: Arc<str>,
    pub(super) keep: bool,
}

/// A token as a reply has it.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) field: Arc<str>,
    pub(super) secret: Secret,
    pub(super) until: Option<SystemTime>,
}

/// Bytes of a stand-in that are looked for where it may not stand.
const MARK: usize = 256;

impl Token {
    pub(super) fn new(holder: &Holder, fresh: Fresh, stand_in: Arc<str>) -> Self {
        Self {
            login: Arc::clone(&holder.login),
            agent: Arc::clone(&holder.agent),
            field: fresh.field,
            stand_in,
            secret: Arc::new(fresh.secret),
            until: fresh.until,
            keep: holder.keep,
        }
    }

    /// The same, ending then, and not written down any more.
    pub(super) fn ending(&self, until: SystemTime) -> Self {
        Self {
            login: Arc::clone(&self.login),
            agent: Arc::clone(&self.agent),
            field: Arc::clone(&self.field),
            stand_in: Arc::clone(&self.stand_in),
            secret: Arc::clone(&self.secret),
            until: Some(until),
            keep: false,
        }
    }

    /// Whose it is.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            login: Arc::clone(&self.login),
            agent: Arc::clone(&self.agent),
            keep: self.keep,
        }
    }

    /// Whether it is of this login and agent.
    pub(super) fn is_of(&self, login: &str, agent: &str) -> bool {
        *self.login == *login && *self.agent == *agent
    }

    /// What records call it.
    pub(in crate::inject) fn name(&self) -> Arc<str> {
        format!("{}/{}", self.login, self.field).into()
    }

    /// Whether it is for the token endpoint alone, and so stands in no header.
    pub(super) fn is_exchanged(&self) -> bool {
        ["refreshtoken", "devicecode"].contains(&&*folded(&self.field))
    }

    /// The part of the stand-in that no other has.
    pub(super) fn mark(&self) -> &str {
        let own = self.stand_in.get(signature(&self.stand_in)..).unwrap_or_default();
        let cut = own.len().saturating_sub(MARK);
        own.get(cut..).unwrap_or(own)
    }

    /// What must not come back, and what stands in its place: of a JWT the signature, for the agent may read the rest.
    pub(super) fn trace(&self) -> Option<(Secret, String)> {
        let from = signature(&self.stand_in);
        let secret = self.secret.expose(|value| value.get(from..).map(<[u8]>::to_vec))?;
        let stand_in = self.stand_in.get(from..)?.to_owned();
        Some((Secret::new(secret).ok()?, stand_in))
    }
}

/// A field's name without what differs between the habits of writing one: `access_token` and `accessToken` are one.
pub(super) fn folded(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' '));
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// A stand-in in the token's shape that no other token has; `None` when the system gives no randomness.
///
/// A JWT keeps header and claims, which clients read, and gets a signature of as many random bytes.
pub(super) fn stand_in(secret: &Secret, taken: &[Arc<Token>]) -> Option<Arc<str>> {
    loop {
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).ok()?;
        let signed = secret.expose(|value| {
            let text = std::str::from_utf8(value).ok()?;
            let from = Some(signature(text)).filter(|from| *from > 0)?;
            let mut random = vec![0; URL_SAFE_NO_PAD.decode(text.get(from..)?).ok()?.len()];
            aws_lc_rs::rand::fill(&mut random).ok()?;
            Some(format!("{}{}", text.get(..from)?, URL_SAFE_NO_PAD.encode(random)))
        });
        let made = signed.unwrap_or_else(|| placeholder_like(secret, "login", &seed));
        if !secret.matches(made.as_bytes()) && !taken.iter().any(|token| *token.stand_in == *made) {
            return Some(made.into());
        }
    }
}

/// When a JWT says that it ends (RFC 7519 §4.1.4).
pub(super) fn stated_end(secret: &Secret) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let Claims { exp } = secret.expose(|value| {
        let text = std::str::from_utf8(value).ok()?;
        let signed = text.get(..signature(text)).filter(|signed| !signed.is_empty())?;
        let claims = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1)?).ok()?;
        serde_json::from_slice(&claims).ok()
    })?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(exp).ok()?)
}

/// Where the signature of a JWT begins (RFC 7515 §7.1); 0 for all that is none, or has none to speak of.
fn signature(text: &str) -> usize {
    #[derive(Deserialize)]
    struct Header {
        #[expect(dead_code, reason = "a JOSE header has one")]
        alg: IgnoredAny,
    }
    let mut parts = text.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return 0;
    };
    let is_header = |json: Vec<u8>| serde_json::from_slice::<Header>(&json).is_ok();
    let is_jwt = URL_SAFE_NO_PAD.decode(header).is_ok_and(is_header)
        && URL_SAFE_NO_PAD.decode(claims).is_ok()
        && URL_SAFE_NO_PAD
            .decode(signature)
            .is_ok_and(|bytes| bytes.len() >= SHORTEST_SIGNATURE);
    if is_jwt { text.len() - signature.len() } else { 0 }
}

/// That of HS256 cut in half: nothing in use is shorter.
const SHORTEST_SIGNATURE: usize = 16;

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("login", &self.login)
            .field("agent", &self.agent)
            .field("field", &self.field)
            .finish_non_exhaustive()
    }
}
