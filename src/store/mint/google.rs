//! Tokens of a Google service account, by the key file that Google gives out.

use super::super::Inner;
use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::unfit;
use super::{assertion, oauth2};
use crate::base::endpoint::Endpoint;
use crate::config::mint::{Gcp, GcpToken};
use crate::sign::jwt::Key;
use crate::sign::said::{Wanted, plain, texts};
use serde_json::Map;
use std::sync::Arc;
use std::time::SystemTime;

const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// From `iat` to `exp`. Google takes no longer ones.
const LIFETIME: u64 = 3600;

/// Asks for one.
pub(super) async fn ask(inner: &Arc<Inner>, spec: &Gcp) -> Result<Fetched, Cause> {
    let held = inner.used(&spec.key).await?;
    let mut parts = texts(&held.secret);
    let mut part = |name: &str| {
        parts.remove(name).ok_or_else(|| {
            unfit(
                &spec.key,
                format!("its JSON has no `{name}`, so it is no service account's key file"),
            )
        })
    };
    let (account, key) = (part("client_email")?, part("private_key")?);
    let key_id = part("private_key_id").ok().and_then(|id| plain(&id));
    let url = part("token_uri").ok().and_then(|url| plain(&url));
    let to = match &spec.token_url {
        Some(to) => to.clone(),
        None => Endpoint::parse(url.as_deref().unwrap_or(TOKEN_URL))
            .map_err(|why| unfit(&spec.key, format!("its `token_uri` cannot be asked: {why}")))?,
    };
    let key = Key::read(&key).map_err(|why| unfit(&spec.key, why))?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        .saturating_sub(assertion::SLOW);
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), plain(&account).into());
    claims.insert("aud".to_owned(), url.unwrap_or_else(|| TOKEN_URL.to_owned()).into());
    let wanted = match &spec.wants {
        GcpToken::Access(scopes) => {
            claims.insert("scope".to_owned(), scopes.as_str().into());
            Wanted::Access
        }
        GcpToken::Id(audience) => {
            claims.insert("target_audience".to_owned(), audience.as_str().into());
            Wanted::Id
        }
    };
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), (now + LIFETIME).into());
    let header: Vec<_> = key_id.iter().map(|id| ("kid", id.as_str())).collect();
    let assertion = key.token(&header, &claims).map_err(|why| unfit(&spec.key, why))?;
    let told = oauth2::bearer(inner, &to, &assertion).await?;
    let mut given = oauth2::read(&to, &told, wanted)?;
    // An answer with an identity token does not say for how long; Google's are good for an hour.
    given.seconds = given.seconds.or(Some(LIFETIME as f64));
    oauth2::fetched(&to, &told, given)
}
