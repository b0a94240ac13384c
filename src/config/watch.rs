//! Tells when a config file has changed.
//!
//! The directory is watched, not the file: editors and deployments put a new file in its place,
//! and a watch on the old one would see nothing more.

use crate::base::directories::{self, Directories};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The changes of one file, as they settle.
#[derive(Debug)]
pub struct Changes {
    path: PathBuf,
    last: Option<u64>,
    /// The file's, and that of the file it is a link to.
    names: Vec<OsString>,
    watched: Directories,
}

/// Why a file cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch `{}` for changes: {why}; send SIGHUP after a change", path.display())]
pub struct Unwatchable {
    path: PathBuf,
    why: io::Error,
}

/// Watches the file at `path`, where tokio runs.
///
/// # Errors
/// When its directory cannot be watched, as when the system's watches are used up.
pub fn watch(path: &Path) -> Result<Changes, Unwatchable> {
    let unwatchable = |why| Unwatchable {
        path: path.to_owned(),
        why,
    };
    let mut wanted = BTreeMap::new();
    for directory in around(path) {
        let found = directories::identity(&directory).map_err(unwatchable)?;
        wanted.insert(directory, found);
    }
    let mut watched = Directories::new().map_err(unwatchable)?;
    let mut failed = Ok(());
    watched.follow(wanted, |_, why| failed = Err(unwatchable(why)));
    failed?;
    Ok(Changes {
        last: fingerprint(path),
        names: [path.file_name(), real(path).as_deref().and_then(Path::file_name)]
            .into_iter()
            .flatten()
            .map(OsStr::to_owned)
            .collect(),
        path: path.to_owned(),
        watched,
    })
}

impl Changes {
    /// Waits until the file's content has changed and then stayed quiet for a moment. A file that is away for a while is
    /// waited for.
    pub async fn next(&mut self) {
        loop {
            self.event().await;
            self.settle().await;
            let now = fingerprint(&self.path);
            if now.is_some() && now != self.last {
                self.last = now;
                return;
            }
        }
    }

    /// Waits for what may have changed the file: it names it, or one of the `..data` links by which Kubernetes swaps a
    /// mounted directory.
    async fn event(&mut self) {
        while let Some(name) = self.watched.changed().await {
            if self.names.contains(&name) || name.as_encoded_bytes().starts_with(b"..") {
                return;
            }
        }
    }

    /// Waits until no event has come for [`QUIET`], but not for ever.
    async fn settle(&mut self) {
        let quiet = async { while let Ok(()) = tokio::time::timeout(QUIET, self.event()).await {} };
        let _ = tokio::time::timeout(LONGEST, quiet).await;
    }
}

/// The directory the file is in, and that of the file it is a link to.
fn around(path: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| directories::parent(path).to_owned();
    let near = parent(path);
    let far = real(path)
        .as_deref()
        .map(parent)
        .filter(|far| real(&near).as_ref() != Some(far));
    std::iter::once(near).chain(far).collect()
}

fn real(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

fn fingerprint(path: &Path) -> Option<u64> {
    let bytes = std::fs::read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Some(hasher.finish())
}

/// A file is taken as written once it has not changed for this long.
const QUIET: Duration = Duration::from_millis(200);
/// A file that never rests is looked at all the same.
const LONGEST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    async fn changed(changes: &mut Changes) {
        let waited = tokio::time::timeout(Duration::from_secs(20), changes.next()).await;
        waited.expect("a change is seen");
    }

    #[tokio::test]
    async fn writes_and_replacements_are_seen_and_a_file_that_is_away_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyferry.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut changes = watch(&path).unwrap();

        std::fs::write(&path, "b").unwrap();
        changed(&mut changes).await;

        let fresh = dir.path().join("fresh");
        std::fs::write(&fresh, "c").unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        changed(&mut changes).await;

        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(QUIET).await;
        std::fs::write(&path, "d").unwrap();
        changed(&mut changes).await;
    }

    #[tokio::test]
    async fn a_swapped_link_to_the_files_directory_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("one", "a"), ("two", "b")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("keyferry.yaml"), text).unwrap();
        }
        let path = dir.path().join("keyferry.yaml");
        std::os::unix::fs::symlink("one", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/keyferry.yaml", &path).unwrap();
        let mut changes = watch(&path).unwrap();

        std::os::unix::fs::symlink("two", dir.path().join("..next")).unwrap();
        std::fs::rename(dir.path().join("..next"), dir.path().join("..data")).unwrap();
        changed(&mut changes).await;
        assert_eq!(std::fs::read(&path).unwrap(), b"b");
    }

    #[tokio::test]
    async fn touching_a_file_or_writing_beside_it_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyferry.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut changes = watch(&path).unwrap();
        std::fs::write(dir.path().join("audit.jsonl"), "{}").unwrap();
        std::fs::write(&path, "a").unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(1), changes.next()).await;
        assert!(waited.is_err(), "there was no change to tell of");
    }
}
