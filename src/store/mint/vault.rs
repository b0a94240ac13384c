//! HashiCorp Vault and OpenBao: a login by AppRole, and entries of the key-value engine, version 1 and 2.

use super::super::Inner;
use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::{Errand, answered, fits};
use super::oauth2;
use crate::base::endpoint::Endpoint;
use crate::config::mint::{Uses, VaultEntry, VaultLogin};
use crate::net::errand::Told;
use crate::sign::said::{self, Field};
use http::header::HeaderName;
use http::{HeaderValue, Method};
use std::sync::Arc;
use zeroize::Zeroizing;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");

/// Logs in.
pub(super) async fn login(inner: &Arc<Inner>, spec: &VaultLogin) -> Result<Fetched, Cause> {
    let secret_id = match &spec.secret_id {
        Some(uses) => Some(inner.used(uses).await?),
        None => None,
    };
    let mut fields = vec![("role_id", Field::Text(&spec.role_id))];
    fields.extend(secret_id.iter().map(|held| ("secret_id", Field::Secret(&held.secret))));
    let body = said::json(&fields).ok_or(Cause::Unknown)?;
    let errand = within(Errand::post("application/json", body), spec.namespace.as_deref());
    let told = inner.errand(&spec.at, errand).await?;
    if !told.status.is_success() {
        return Err(refused(&spec.at, &told, "it does not take this role and secret id"));
    }
    let given = said::vault_login(&told.body).ok_or_else(|| answered(&spec.at, &told, "its answer holds no token"))?;
    oauth2::fetched(&spec.at, &told, given)
}

/// Reads one field of an entry.
pub(super) async fn read(inner: &Arc<Inner>, spec: &VaultEntry, document: bool) -> Result<Fetched, Cause> {
    let (mut told, version) = ask(inner, spec).await?;
    // The token may have been revoked before its time: another is asked for, once.
    if told.status.as_u16() == 403 && inner.refused(spec.token.id, version).await {
        (told, _) = ask(inner, spec).await?;
    }
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
        secret,
        ttl: Some(lease.map_or(spec.ttl, |lease| spec.ttl.min(lease))),
        grace: spec.grace,
    })
}

async fn ask(inner: &Arc<Inner>, spec: &VaultEntry) -> Result<(Told, u64), Cause> {
    let token = inner.used(&spec.token).await?;
    let errand = Errand {
        method: Method::GET,
        headers: vec![(TOKEN, shown(&spec.token, &token.secret)?)],
        body: Zeroizing::default(),
    };
    let told = inner
        .errand(&spec.at, within(errand, spec.namespace.as_deref()))
        .await?;
    Ok((told, token.version))
}

fn shown(uses: &Uses, token: &crate::base::secret::Secret) -> Result<HeaderValue, Cause> {
    fits(uses, said::value("", Field::Secret(token)))
}

fn within(errand: Errand, namespace: Option<&str>) -> Errand {
    match namespace.and_then(|name| HeaderValue::from_str(name).ok()) {
        Some(name) => errand.with(NAMESPACE, name),
        None => errand,
    }
}

fn refused(at: &Endpoint, told: &Told, forbidden: &str) -> Cause {
    let reason = match told.status.as_u16() {
        400 | 403 => forbidden,
        404 => "there is no such mount or entry",
        429 => "it is asked too often",
        503 => "it is sealed",
        _ => "it refuses",
    };
    answered(at, told, reason)
}
