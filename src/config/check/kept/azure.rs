//! Azure Key Vault.

use super::super::mint::{endpoint, uses};
use super::super::scope::Scope;
use super::{Common, named};
use crate::config::kept::{Kept, Place, Shown};
use crate::config::raw_kept::RawAzureSecret;
use crate::config::read::Findings;

/// The version of the API, which is fixed for good.
const API: &str = "7.4";

/// Reads one.
pub(super) fn secret(raw: &RawAzureSecret, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Kept> {
    let (vault, token) = (endpoint(&raw.vault, found), uses(&raw.token, scope, found));
    let name = named(&raw.name, "-", "the name of a secret", found);
    let version = match &raw.version {
        Some(text) => named(text, "", "a version, as the vault numbers it", found)?,
        None => String::new(),
    };
    // The newest has no version behind the name.
    let path = format!("/secrets/{}/{version}", name?);
    let at = vault?.join(&format!("{}?api-version={API}", path.trim_end_matches('/')))?;
    let token = token?;
    common!(raw, Some(raw)).kept(Place::Azure(Box::new(Shown { at, token })), found)
}
