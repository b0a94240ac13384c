//! The Vault that secrets live in, and their entries.

use super::kept::{GRACE, TTL};
use super::mint::{TIMEOUT, endpoint, maybe, uses, word};
use super::scope::Scope;
use crate::base::endpoint::Endpoint;
use crate::config::leaf::Text;
use crate::config::mint::{How, Mint, Uses, VaultEntry, VaultLogin};
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

/// What the token of a login by AppRole is called; no secret of the config can have this name.
const LOGIN: &str = "vault/login";

/// Reads where the Vault is, and who asks it.
pub(super) fn server(raw: &RawVault, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Vault> {
    let at = endpoint(&raw.address, found);
    let namespace = maybe(raw.namespace.as_ref(), found)?;
    let timeout = raw.timeout.as_ref().map_or(TIMEOUT, |time| time.0);
    let token = match (&raw.token, &raw.role_id) {
        (Some(token), None) => uses(token, scope, found)?,
        (None, Some(role)) => {
            let mount = raw.login.as_ref().map_or("approle", |text| text.as_str());
            let path = format!("/v1/auth/{}/login", path(mount));
            let how = How::VaultLogin(Box::new(VaultLogin {
                at: at.clone()?.join(&path)?,
                namespace: namespace.clone(),
                role_id: word(role, found)?,
                secret_id: match &raw.secret_id {
                    Some(name) => Some(uses(name, scope, found)?),
                    None => None,
                },
            }));
            scope.implied(LOGIN, Source::Minted(Box::new(Mint { how, timeout })))
        }
        _ => {
            found
                .error(raw.at, "`vault` wants `token`, or `role_id` with `secret_id`")
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

/// Reads one entry.
pub(super) fn entry(raw: &RawVaultEntry, vault: Option<&Vault>, found: &mut Findings<'_>) -> Option<Mint> {
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
    let how = How::Vault(Box::new(VaultEntry {
        at,
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
