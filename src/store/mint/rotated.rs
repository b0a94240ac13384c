//! Refresh tokens that took the place of the ones before: kept in the encrypted file, spent by one at a time.

use super::super::error::Cause;
use super::super::{Inner, encrypted};
use crate::base::secret::Secret;
use crate::base::turn::{NoTurn, Turn};
use crate::sign::said::mark;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

/// Where what came after `original` is kept: once the operator gives another, what was kept of the old one is past.
pub(super) fn entry(name: &str, original: &Secret) -> String {
    format!("rotated/{name}/{}", mark(original))
}

/// The only one, of all processes, to spend refresh tokens now.
pub(super) async fn owner(inner: &Arc<Inner>) -> Result<Turn, Cause> {
    let file = inner.encrypted.clone();
    blocking(move || {
        let path = file.path().with_file_name("rotated.lock");
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(false).mode(0o600);
        let opened = made.and_then(|()| how.open(&path));
        let opened = opened.map_err(|error| encrypted::Error::io(&path, error))?;
        Turn::take(&Arc::new(opened), PATIENCE).map_err(|none| match none {
            NoTurn::Held => encrypted::Error::Busy(path),
            NoTurn::Io(error) => encrypted::Error::io(&path, error),
        })
    })
    .await
}

/// What was kept there last.
pub(super) async fn last(inner: &Arc<Inner>, entry: &str) -> Result<Option<Secret>, Cause> {
    let (file, name) = (inner.encrypted.clone(), entry.to_owned());
    let unstored = inner.rotated.lock().remove(entry);
    if let Some(token) = unstored.and_then(Arc::into_inner) {
        return Ok(Some(token));
    }
    blocking(move || file.get(&name)).await
}

/// Keeps a token. Where that fails it is kept in memory, and the operator told: it is the only one that is good.
pub(super) async fn keep(inner: &Arc<Inner>, entry: &str, token: Secret) {
    let (file, name) = (inner.encrypted.clone(), entry.to_owned());
    let token = Arc::new(token);
    let kept = Arc::clone(&token);
    if let Err(cause) = blocking(move || file.set_shared(&name, &kept)).await {
        tracing::error!(entry, %cause, "a new refresh token could not be stored; it is lost when keyferry stops");
        inner.rotated.lock().insert(entry.to_owned(), token);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, encrypted::Error> + Send + 'static,
) -> Result<T, Cause> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Cause::Stopping)?;
    done.map_err(|error| Cause::Encrypted(Arc::new(error)))
}

/// How long to wait for another process that refreshes.
const PATIENCE: Duration = Duration::from_secs(20);
