//! Reading files again when they change.
//!
//! Directories are watched rather than files: an editor renames a new file into place, and
//! Kubernetes swaps a symlink to a directory, so the file that was opened is never written to.

use super::error::Cause;
use super::{Held, Inner, Slot, source};
use crate::base::directories::{self, Directories, Identity};
use crate::base::ids::SecretId;
use crate::base::tasks::Tasks;
use crate::config::model::Source;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Reads again on each change, until the store or the program ends.
pub(super) async fn watch(store: Weak<Inner>, stop: CancellationToken, tasks: Tasks, poll: Duration) {
    let mut followed = Directories::new()
        .inspect_err(|error| tracing::warn!(%error, "changes of files are only seen by looking now and then"))
        .ok();
    loop {
        let Some(inner) = store.upgrade() else { return };
        // First followed, then read: what changes between the two is not missed.
        if let Some(followed) = &mut followed {
            followed.follow(inner.directories(), |path, error| {
                tracing::debug!(%error, path = %path.display(), "a directory cannot be watched");
            });
        }
        // A file system may hang, and an encrypted file takes its time to open.
        let _ = tokio::task::spawn_blocking(move || inner.read_again()).await;
        let changed = async {
            match &mut followed {
                Some(followed) => drop(followed.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tasks.stopping() => return,
            () = changed => {}
            () = tokio::time::sleep(poll) => {}
        }
        // A change comes in several steps; the last of them counts.
        tokio::time::sleep(SETTLE).await;
        if let Some(followed) = &mut followed {
            followed.forget();
        }
    }
}

/// From the first sign of a change to the reading.
const SETTLE: Duration = Duration::from_millis(100);

impl Inner {
    /// Every directory in which a change may mean a new value: the file's own, and that of the file
    /// it leads to.
    fn directories(&self) -> BTreeMap<PathBuf, Identity> {
        let watched = self.slots.iter().filter(|slot| slot.watched);
        let files = watched.map(|slot| slot.file.as_deref().unwrap_or(self.encrypted.path()));
        let mut out = BTreeMap::new();
        for file in files {
            let target = std::fs::canonicalize(file).ok();
            for file in [Some(file), target.as_deref()].into_iter().flatten() {
                let directory = directories::parent(file);
                if let Ok(found) = directories::identity(directory) {
                    out.insert(directory.to_owned(), found);
                }
            }
        }
        out
    }

    /// Reads every watched file, and takes up what is new. A bad value never replaces a good one.
    pub(super) fn read_again(&self) {
        let watched = || self.slots.iter().filter(|slot| slot.watched);
        for slot in watched() {
            if let Some(path) = &slot.file {
                self.take_up(slot, source::regular(path, &slot.shape).map(Held::new));
            }
        }
        if watched().any(|slot| matches!(slot.source, Source::Store(_))) {
            self.read_encrypted_again();
        }
    }

    /// The same for one of them, at once.
    pub(super) async fn read_file_again(self: &Arc<Self>, id: SecretId) {
        let inner = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            if let Some(slot) = inner.slots.get(id.index())
                && let Some(path) = &slot.file
            {
                inner.take_up(slot, source::regular(path, &slot.shape).map(Held::new));
            }
        });
        // What came of it is in the slot.
        let _ = reading.await;
    }

    fn read_encrypted_again(&self) {
        let stamp = self.encrypted.stamp();
        if *self.seen.lock() == stamp {
            return;
        }
        let stored = super::stored(&self.encrypted);
        if stored.is_ok() {
            // One that cannot be opened is tried again: its key may come back.
            *self.seen.lock() = stamp;
        }
        for slot in &self.slots {
            let Source::Store(entry) = &slot.source else { continue };
            self.take_up(slot, super::stored_entry(&stored, entry, &slot.shape));
        }
    }

    fn take_up(&self, slot: &Slot, read: Result<Arc<Held>, Cause>) {
        let complaint = match read {
            Ok(held) => {
                if slot.renew(&held, None).1 {
                    self.fetched(slot, true);
                    tracing::info!(secret = %slot.name, "a secret has a new value");
                }
                String::new()
            }
            Err(cause) => cause.to_string(),
        };
        let mut before = slot.complaint.lock();
        if *before != complaint && !complaint.is_empty() {
            self.fetched(slot, false);
            tracing::warn!(secret = %slot.name, %complaint, "a secret changed for the worse; its old value stays in use");
        }
        *before = complaint;
    }
}
