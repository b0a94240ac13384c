//! Tokens that are signed here.

use super::super::Inner;
use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::unfit;
use crate::base::secret::Secret;
use crate::config::mint::Assertion;
use crate::sign::jwt::{Key, thumbprint};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;

/// A signed token that is itself the credential.
pub(super) async fn fetched(inner: &Arc<Inner>, spec: &Assertion) -> Result<Fetched, Cause> {
    let secret = signed(inner, spec, spec.audience.as_deref()).await?;
    Ok(Fetched::new(secret, Some(spec.lifetime)))
}

/// Signs a token for an audience.
pub(super) async fn signed(inner: &Arc<Inner>, spec: &Assertion, audience: Option<&str>) -> Result<Secret, Cause> {
    let key = inner.used(&spec.key).await?;
    let key = Key::read(&key.secret).map_err(|why| unfit(&spec.key, why))?;
    let thumbprint = match &spec.certificate {
        Some(uses) => {
            let held = inner.used(uses).await?;
            Some(thumbprint(&held.secret).ok_or_else(|| unfit(uses, "it holds no certificate in PEM"))?)
        }
        None => None,
    };
    let header = [("kid", spec.key_id.as_deref()), ("x5t#S256", thumbprint.as_deref())];
    let header: Vec<_> = header
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let claims = claims(spec, audience);
    key.token(&header, &claims).map_err(|why| unfit(&spec.key, why))
}

fn claims(spec: &Assertion, audience: Option<&str>) -> Map<String, Value> {
    let mut claims = Map::new();
    for (name, value) in [
        ("iss", spec.issuer.as_deref()),
        ("sub", spec.subject.as_deref()),
        ("aud", audience),
    ] {
        claims.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    let further = spec
        .claims
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()));
    claims.extend(further);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // A service whose clock is behind must not take it for one of the future.
    let from = now.as_secs().saturating_sub(SLOW);
    claims.insert("iat".to_owned(), from.into());
    claims.insert("exp".to_owned(), (now.as_secs() + spec.lifetime.as_secs()).into());
    claims.insert("jti".to_owned(), unique().into());
    claims
}

/// No two tokens are the same (RFC 7519 §4.1.7).
fn unique() -> String {
    let mut bytes = [0; 16];
    // Without randomness the moment has to do.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return format!("{:?}", SystemTime::now());
    }
    crate::sign::sigv4::hex(&bytes)
}

/// Seconds that a service's clock may be behind.
pub(super) const SLOW: u64 = 30;
