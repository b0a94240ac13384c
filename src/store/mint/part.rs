//! Fields of a credential that is had as a whole, so that they belong together.

use super::super::Inner;
use super::super::error::Cause;
use super::super::fetch::Fetched;
use crate::config::mint::Uses;
use crate::sign::picked;
use std::sync::Arc;
use tokio::time::Instant;

/// One field, for as long as the whole is good.
pub(super) async fn part(inner: &Arc<Inner>, whole: &Uses, field: &str, below: &str) -> Result<Fetched, Cause> {
    let held = inner.used(whole).await?;
    let pointer = match field.starts_with('/') {
        true => format!("{below}{field}"),
        false => format!("{below}/{}", field.replace('~', "~0").replace('/', "~1")),
    };
    let no_credential = |reason: String| Cause::NoCredential {
        at: whole.name.to_string(),
        reason,
    };
    let secret = picked::field(&held.secret, &pointer);
    let secret = secret.ok_or_else(|| no_credential(format!("it has no text under `{field}`")))?;
    if secret.is_line().is_err() {
        let reason = format!("`{field}` is of several lines; a credential is one line of text");
        return Err(no_credential(reason));
    }
    let current = inner
        .slots
        .get(whole.id.index())
        .and_then(|slot| slot.current.load_full());
    let end = current.and_then(|current| Some(current.term?.1));
    Ok(Fetched::new(
        secret,
        end.map(|end| end.saturating_duration_since(Instant::now())),
    ))
}
