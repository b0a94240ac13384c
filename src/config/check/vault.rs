//! The Vault that secrets live in, and their entries.

use super::kept::{GRACE, TTL, account};
use super::mint::{TIMEOUT, endpoint, maybe, uses, word};
use super::scope::Scope;
use crate::base::endpoint::Endpoint;
use crate::config::leaf::Text;
use crate::config::mint::{How, Mint, Uses, VaultEntry, VaultLease, VaultLogin, VaultProof};
use crate::config::model::Source;
use crate::config::raw::{RawVault, RawVaultEntry};
use crate::config::read::Findings;
use std::time::Duration;

/// The Vault, as its entries need it.
#[derive(Debug, Clone)]
pub(super) struct Vault {
    at: Endpoint,
    namespace: Option<String>,
    token: Uses,
    timeout: Duration,
}

/// What the token of a login is called; no secret of the config can have this name.
const LOGIN: &str = "vault/login";
const RENEW_TOKEN: &str = "/v1/auth/token/renew-self";

/// Reads where the Vault is, and who asks it.
pub(super) fn server(raw: &RawVault, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Vault> {
    let at = endpoint(&raw.address, found);
    let namespace = maybe(raw.namespace.as_ref(), found)?;
    let timeout = raw.timeout.as_ref().map_or(TIMEOUT, |time| time.0);
    let token = match (&raw.token, &raw.role_id, &raw.role) {
        (Some(token), None, None) => uses(token, scope, found)?,
        (None, Some(role), None) => {
            let role_id = word(role, found)?;
            let secret_id = match &raw.secret_id {
                Some(name) => Some(uses(name, scope, found)?),
                None => None,
            };
            let proof = VaultProof::AppRole { role_id, secret_id };
            login(raw, (&at.clone()?, "approle"), (proof, timeout), scope)?
        }
        (None, None, Some(role)) => {
            let role = word(role, found)?;
            let (jwt, mount) = match &raw.jwt {
                Some(name) => (uses(name, scope, found)?, "jwt"),
                None => (account(scope), "kubernetes"),
            };
            let proof = VaultProof::Jwt { role, jwt };
            login(raw, (&at.clone()?, mount), (proof, timeout), scope)?
        }
        _ => {
            found
                .error(
                    raw.at,
                    "`vault` wants one of `token`, `role_id` with `secret_id`, and `role`",
                )
                .hint("add `token: SECRET`");
            return None;
        }
    };
    Some(Vault {
        at: at?,
        namespace,
        token,
        timeout,
    })
}

/// The token of a login, which all entries share.
fn login(
    raw: &RawVault,
    (at, mount): (&Endpoint, &str),
    (proof, timeout): (VaultProof, Duration),
    scope: &mut Scope<'_>,
) -> Option<Uses> {
    let mount = raw.login.as_ref().map_or(mount, |text| text.as_str());
    let how = How::VaultLogin(Box::new(VaultLogin {
        at: at.join(&format!("/v1/auth/{}/login", path(mount)))?,
        renew: at.join(RENEW_TOKEN)?,
        namespace: raw.namespace.as_ref().map(|text| text.value.clone()),
        proof,
    }));
    Some(scope.implied(LOGIN, Source::Minted(Box::new(Mint { how, timeout }))))
}

/// Reads one entry.
pub(super) fn entry(
    raw: &RawVaultEntry,
    vault: Option<&Vault>,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Mint> {
    let Some(vault) = vault else {
        found
            .error(raw.at, "nothing says where the Vault is")
            .hint("add `vault: { address: https://vault.example.com:8200, token: SECRET }` at the top");
        return None;
    };
    let versioned = match raw.version.as_ref().map(|version| (version.value, version.at)) {
        None | Some((2, _)) => true,
        Some((1, _)) => false,
        Some((_, at)) => {
            found.error(at, "expected `1` or `2`");
            return None;
        }
    };
    let name = |text: Option<&Text>, absent: &str| text.map_or(absent.to_owned(), |text| text.value.clone());
    let (mount, field) = (name(raw.mount.as_ref(), "secret"), name(raw.field.as_ref(), "value"));
    let below = if versioned { "data/" } else { "" };
    let Some(at) = vault
        .at
        .join(&format!("/v1/{}/{below}{}", path(&mount), path(&raw.path)))
    else {
        found.error(raw.path.at, "expected the path of an entry");
        return None;
    };
    if raw.dynamic.as_ref().is_some_and(|dynamic| dynamic.value) {
        let given = [
            raw.version.as_ref().map(|version| version.at),
            raw.ttl.as_ref().map(|time| time.at),
        ];
        for at in given
            .into_iter()
            .chain([raw.grace.as_ref().map(|time| time.at)])
            .flatten()
        {
            found
                .error(at, "this goes with an entry that is kept, and `dynamic` makes one")
                .hint("take it out: the Vault says how long it lends a credential");
        }
        return lent((&mount, raw.path.as_str()), field, vault, scope);
    }
    let how = How::Vault(Box::new(VaultEntry {
        at,
        renew: vault.at.join(RENEW_TOKEN)?,
        namespace: vault.namespace.clone(),
        token: vault.token.clone(),
        field,
        versioned,
        ttl: raw.ttl.as_ref().map_or(TTL, |time| time.0),
        grace: raw.grace.as_ref().map_or(GRACE, |time| time.0),
    }));
    Some(Mint {
        how,
        timeout: vault.timeout,
    })
}

/// A field of a credential that all who name the same place share.
fn lent((mount, below): (&str, &str), field: String, vault: &Vault, scope: &mut Scope<'_>) -> Option<Mint> {
    let place = format!("{}/{}", path(mount), path(below));
    let how = How::VaultLease(Box::new(VaultLease {
        at: vault.at.join(&format!("/v1/{place}"))?,
        renew: vault.at.join("/v1/sys/leases/renew")?,
        renew_token: vault.at.join(RENEW_TOKEN)?,
        namespace: vault.namespace.clone(),
        token: vault.token.clone(),
    }));
    let timeout = vault.timeout;
    let source = Source::Minted(Box::new(Mint { how, timeout }));
    let lease = scope.implied(&format!("vault/lease/{place}"), source);
    let how = How::Part {
        whole: lease,
        field,
        below: "/data",
    };
    Some(Mint { how, timeout })
}

/// Segments as they stand in a URL.
fn path(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'/');
    utf8_percent_encode(text.trim_matches('/'), KEPT).to_string()
}
