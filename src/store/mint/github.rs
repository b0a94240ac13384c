//! Tokens of a GitHub App's installation: for an hour, for certain repositories, with certain permissions.

use super::super::Inner;
use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::{answered, header};
use super::{assertion, oauth2};
use crate::config::mint::GitHubApp;
use crate::sign::said::Wanted;
use serde_json::{Map, Value};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Asks for one.
pub(super) async fn ask(inner: &Arc<Inner>, spec: &GitHubApp) -> Result<Fetched, Cause> {
    let app = assertion::signed(inner, &spec.app, None).await?;
    let path = format!("/app/installations/{}/access_tokens", spec.installation);
    let to = spec.api.join(&path).ok_or(Cause::Unknown)?;
    let errand = oauth2::json(Zeroizing::new(wanted(spec)), header(&app)?);
    let told = inner.errand(&to, errand).await?;
    if !told.status.is_success() {
        let reason = match told.status.as_u16() {
            401 => "it does not know the app by this key; check `app_id`, the key and the clock",
            403 | 404 => "there is no such installation for this app",
            422 => "the installation has not these repositories or permissions",
            _ => "it refuses",
        };
        return Err(answered(&to, &told, reason));
    }
    let given = oauth2::read(&to, &told, Wanted::Plain)?;
    oauth2::fetched(&to, &told, given)
}

fn wanted(spec: &GitHubApp) -> Vec<u8> {
    let mut wanted = Map::new();
    if !spec.repositories.is_empty() {
        wanted.insert("repositories".to_owned(), spec.repositories.clone().into());
    }
    if !spec.permissions.is_empty() {
        let permissions = spec.permissions.iter();
        let permissions: Map<String, Value> = permissions
            .map(|(what, how)| (what.clone(), how.as_str().into()))
            .collect();
        wanted.insert("permissions".to_owned(), permissions.into());
    }
    Value::from(wanted).to_string().into_bytes()
}
