//! Google Secret Manager.

use super::super::mint::uses;
use super::super::scope::Scope;
use super::{Common, named};
use crate::base::endpoint::Endpoint;
use crate::config::kept::{Kept, Place, Shown};
use crate::config::raw_kept::RawGcpSecret;
use crate::config::read::Findings;

/// Reads one.
pub(super) fn secret(raw: &RawGcpSecret, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Kept> {
    let token = uses(&raw.token, scope, found);
    let version = match &raw.version {
        Some(text) => named(text, "-_", "a version, by number or alias", found)?,
        None => "latest".to_owned(),
    };
    let word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    let parts: Vec<&str> = raw.name.split('/').collect();
    let host = match parts[..] {
        ["projects", project, "secrets", secret] if [project, secret].iter().all(word) => {
            "secretmanager.googleapis.com".to_owned()
        }
        ["projects", project, "locations", place, "secrets", secret] if [project, place, secret].iter().all(word) => {
            format!("secretmanager.{place}.rep.googleapis.com")
        }
        _ => {
            found
                .error(raw.name.at, "expected the name of a secret of Google's")
                .hint("write it like `projects/my-project/secrets/my-secret`");
            return None;
        }
    };
    let at = Endpoint::parse(&format!(
        "https://{host}/v1/{}/versions/{version}:access",
        raw.name.as_str()
    ))
    .ok()?;
    let token = token?;
    common!(raw, Some(raw)).kept(Place::Google(Box::new(Shown { at, token })), found)
}
