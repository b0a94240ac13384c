//! HashiCorp Vault and OpenBao: entries of the key-value engine, version 1 and 2, and the token that is shown for them.

use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::{Errand, answered, fits};
use super::super::{Held, Inner};
use crate::base::endpoint::Endpoint;
use crate::config::mint::{Uses, VaultEntry};
use crate::net::errand::Told;
use crate::sign::lent::{self, Lent};
use crate::sign::said::{self, Field};
use http::header::HeaderName;
use http::{HeaderValue, Method};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

/// Reads one field of an entry.
pub(super) async fn read(inner: &Arc<Inner>, spec: &VaultEntry, document: bool) -> Result<Fetched, Cause> {
    let asked = Asked {
        at: &spec.at,
        renew: &spec.renew,
        namespace: spec.namespace.as_deref(),
        token: &spec.token,
    };
    let (told, _) = asked.ask(inner).await?;
    if !told.status.is_success() {
        return Err(refused(&spec.at, &told, "the token may not read this"));
    }
    let (secret, lease) = said::vault_field(&told.body, &spec.field, spec.versioned)
        .ok_or_else(|| answered(&spec.at, &told, format!("the entry has no text under `{}`", spec.field)))?;
    if !document && secret.is_line().is_err() {
        let reason = format!("`{}` is of several lines; a credential is one line of text", spec.field);
        return Err(answered(&spec.at, &told, reason));
    }
    Ok(Fetched {
        secret: Some(secret),
        ttl: Some(lease.map_or(spec.ttl, |lease| spec.ttl.min(lease))),
        grace: spec.grace,
    })
}

/// What is read, and with whose token.
pub(super) struct Asked<'a> {
    pub(super) at: &'a Endpoint,
    /// Where the token is renewed.
    pub(super) renew: &'a Endpoint,
    pub(super) namespace: Option<&'a str>,
    pub(super) token: &'a Uses,
}

impl Asked<'_> {
    /// Asks; and once more where the token was revoked before its time, and there is another. The answer, and the version of
    /// the token.
    pub(super) async fn ask(&self, inner: &Arc<Inner>) -> Result<(Told, u64), Cause> {
        let token = inner.used(self.token).await?;
        self.keep_alive(inner, &token).await?;
        let told = self.with(inner, &token).await?;
        if told.status.as_u16() != 403 || !inner.refused(self.token.id, token.version).await {
            return Ok((told, token.version));
        }
        let token = inner.used(self.token).await?;
        Ok((self.with(inner, &token).await?, token.version))
    }

    async fn with(&self, inner: &Arc<Inner>, token: &Held) -> Result<Told, Cause> {
        let errand = Errand {
            method: Method::GET,
            headers: vec![(TOKEN, shown(self.token, &token.secret)?)],
            body: Zeroizing::default(),
        };
        inner.errand(self.at, within(errand, self.namespace)).await
    }

    /// Renews a token that the operator gave, when half of its time is over. Where it cannot be renewed, it is used while it
    /// lasts.
    async fn keep_alive(&self, inner: &Arc<Inner>, token: &Held) -> Result<(), Cause> {
        let slot = inner.slots.get(self.token.id.index());
        let is_fetched = slot.is_none_or(|slot| slot.source.is_fetched());
        if is_fetched || !inner.renewals.is_due(&self.token.name, token.version) {
            return Ok(());
        }
        let renewed = renew(
            inner,
            self.renew,
            (self.namespace, shown(self.token, &token.secret)?),
            None,
        )
        .await;
        let after = match renewed {
            Some(lent) if lent.renewable && !lent.time.is_zero() => lent.time / 2,
            _ => SELDOM,
        };
        inner.renewals.next(&self.token.name, token.version, after);
        Ok(())
    }
}

/// Has a token renewed, or a lease; `None` where that is refused or cannot be asked.
pub(super) async fn renew(
    inner: &Inner,
    at: &Endpoint,
    (namespace, token): (Option<&str>, HeaderValue),
    lease: Option<&str>,
) -> Option<Lent> {
    let fields: Vec<_> = lease.iter().map(|lease| ("lease_id", Field::Text(lease))).collect();
    let body = match fields.is_empty() {
        true => b"{}".to_vec().into(),
        false => said::json(&fields)?,
    };
    let errand = within(Errand::post("application/json", body), namespace).with(TOKEN, token);
    let told = inner.errand(at, errand).await.ok()?;
    match told.status.is_success() {
        true => lent::terms(&told.body),
        false => None,
    }
}

/// From one try to the next, of a token that cannot be renewed.
const SELDOM: Duration = Duration::from_secs(3600);

pub(super) fn shown(uses: &Uses, token: &crate::base::secret::Secret) -> Result<HeaderValue, Cause> {
    fits(uses, said::value("", Field::Secret(token)))
}

pub(super) fn within(errand: Errand, namespace: Option<&str>) -> Errand {
    match namespace.and_then(|name| HeaderValue::from_str(name).ok()) {
        Some(name) => errand.with(NAMESPACE, name),
        None => errand,
    }
}

pub(super) fn refused(at: &Endpoint, told: &Told, forbidden: &str) -> Cause {
    let reason = match told.status.as_u16() {
        400 | 403 => forbidden,
        404 => "there is no such mount or entry",
        429 => "it is asked too often",
        503 => "it is sealed",
        _ => "it refuses",
    };
    answered(at, told, reason)
}
