//! Where secrets live, and how the value of now is had.
//!
//! What can be read at once (environment, files, Keyferry's own encrypted file) is read when the
//! store is opened, so that everything missing is told of together; files are read again when they
//! change. A program is run when its secret is first wanted, once for all who wait.

mod aws;
pub mod encrypted;
mod error;
mod exec;
mod fetch;
mod kept;
mod key;
mod mint;
mod program;
mod remote;
mod renewal;
mod slot;
mod source;
mod watch;

pub use encrypted::EncryptedFile;
pub use error::{Cause, Error};
pub use key::KeySource;
pub use program::{Answer, Program, Question};

use crate::base::ids::SecretId;
use crate::base::secret::Secret;
use crate::base::tasks::Tasks;
use crate::config::model::{SecretSpec, Source};
use crate::net::Upstream;
use futures_util::StreamExt;
use parking_lot::Mutex;
use slot::{AtHand, Current, Slot, stored, stored_entry};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A value, and a number that no other value has.
#[derive(Debug)]
pub struct Held {
    /// The value.
    pub secret: Secret,
    /// Differs whenever the value differs, across secrets and reloads, so that what is made from a
    /// value (a header, a searcher) may be kept under it.
    pub version: u64,
}

impl Held {
    fn new(secret: Secret) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let version = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { secret, version })
    }
}

/// Who is told of each try at a value.
pub type OnFetch = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The directory of the encrypted file.
    pub data_dir: PathBuf,
    /// What opens the encrypted file.
    pub key: KeySource,
    /// Whether files are read again when they change. Wants a running runtime.
    pub watch: bool,
    /// How often files are looked at even when the system reports no change, as network and some
    /// container file systems report none.
    pub poll: Duration,
    /// The store of the configuration before: what has not changed keeps its version, and programs
    /// whose output still holds are not run again.
    pub previous: Option<Store>,
    /// Told of each try at a value: of which secret, and whether it gave one.
    pub on_fetch: Option<OnFetch>,
}

impl StoreOptions {
    /// The usual: watching, with what the environment says opens the encrypted file.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            key: KeySource::from_env(),
            watch: true,
            poll: Duration::from_secs(30),
            previous: None,
            on_fetch: None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("StoreOptions");
        out.field("data_dir", &self.data_dir).field("key", &self.key);
        out.field("watch", &self.watch).field("poll", &self.poll);
        out.finish_non_exhaustive()
    }
}

/// Every secret of one configuration. Cheap to clone; watching ends with the last clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    _watching: Arc<DropGuard>,
}

struct Inner {
    slots: Vec<Slot>,
    encrypted: EncryptedFile,
    tasks: Tasks,
    on_fetch: Option<OnFetch>,
    /// The way to token services, once there is one.
    way: OnceLock<Weak<Upstream>>,
    /// Refresh tokens that could not be stored, by the entry they belong in.
    rotated: Mutex<HashMap<String, Arc<Secret>>>,
    /// What is lent by a store, and may be renewed there.
    renewals: renewal::Renewals,
    /// What the encrypted file looked like when it was last read.
    seen: Mutex<Option<encrypted::Stamp>>,
}

impl Store {
    /// Reads what can be read at once, and watches files.
    ///
    /// # Errors
    /// All that are missing, each with its name, where it should be, and what to do.
    pub fn open(specs: &[SecretSpec], options: StoreOptions, tasks: &Tasks) -> Result<Self, Vec<Error>> {
        let encrypted = EncryptedFile::new(&options.data_dir, options.key.clone());
        let seen = encrypted.stamp();
        // Opening it costs time, so only when somebody asks.
        let asked = specs.iter().any(|spec| matches!(spec.source, Source::Store(_)));
        let stored = if asked { stored(&encrypted) } else { Ok(BTreeMap::new()) };
        let mut slots = Vec::with_capacity(specs.len());
        let mut errors = Vec::new();
        for spec in specs {
            match Slot::open(spec, &stored, options.previous.as_ref()) {
                Ok(slot) => slots.push(slot),
                Err(cause) => errors.push(Error {
                    name: Arc::clone(&spec.name),
                    cause,
                }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let inner = Arc::new(Inner {
            slots,
            encrypted,
            tasks: tasks.clone(),
            on_fetch: options.on_fetch,
            way: OnceLock::new(),
            rotated: Mutex::default(),
            renewals: options
                .previous
                .as_ref()
                .map_or_else(renewal::Renewals::default, |store| store.inner.renewals.clone()),
            seen: Mutex::new(seen),
        });
        let stop = CancellationToken::new();
        if options.watch && inner.slots.iter().any(|slot| slot.watched) {
            let watching = watch::watch(Arc::downgrade(&inner), stop.clone(), tasks.clone(), options.poll);
            tasks.spawn(watching);
        }
        Ok(Self {
            inner,
            _watching: Arc::new(stop.drop_guard()),
        })
    }

    /// Gives it the way to token services. What is asked of them goes the way of every request.
    pub fn reach(&self, way: &Arc<Upstream>) {
        // There is one for each configuration, and so for each store.
        let _ = self.inner.way.set(Arc::downgrade(way));
    }

    /// A program that is asked for each request, by this name in errors and records.
    pub fn program(&self, name: Arc<str>, spec: &crate::config::program::Program) -> Program {
        Program::new(name, spec, &self.inner.tasks)
    }

    /// Has a value that a host did not take fetched anew, and tells whether there is another then. The old one stays in
    /// use until there is; and one that was fetched a moment ago is left at that: whoever can bring about refusals must
    /// not be able to have it fetched without end.
    pub async fn refused(&self, id: SecretId, version: u64) -> bool {
        self.inner.refused(id, version).await
    }

    /// The value of now, if it is at hand; then no lock is taken. If it is not, or not for long, and
    /// a program gives it, that is started (on the running runtime), for the next who ask.
    pub fn current(&self, id: SecretId) -> Option<Arc<Held>> {
        let found = self.inner.slots.get(id.index())?.at_hand();
        if !matches!(found, AtHand::Good(_)) {
            // How it ends is told to those who wait for it.
            let _ = fetch::join(&self.inner, id);
        }
        found.held()
    }

    /// The last value that was had, good or not any more; nothing is fetched for it.
    pub fn known(&self, id: SecretId) -> Option<Arc<Held>> {
        let current = self.inner.slots.get(id.index())?.current.load();
        current.as_ref().map(|current| Arc::clone(&current.held))
    }

    /// The value before the [`known`](Self::known) one, if there was another.
    pub fn before(&self, id: SecretId) -> Option<Arc<Held>> {
        let current = self.inner.slots.get(id.index())?.current.load();
        current.as_ref()?.before.clone()
    }

    /// The value of now, fetched if it must be.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn get(&self, id: SecretId) -> Result<Arc<Held>, Error> {
        if let Some(held) = self.current(id) {
            return Ok(held);
        }
        fetch::wait(&self.inner, id).await.map_err(|cause| Error {
            name: self.inner.name(id),
            cause,
        })
    }

    /// Runs every program whose secret is not at hand, a few at a time, so that the first request
    /// need not wait. Returns those that failed; they are tried again when wanted.
    pub async fn prefetch(&self) -> Vec<Error> {
        let missing = (0..)
            .zip(&self.inner.slots)
            .filter(|(_, slot)| slot.at_hand().held().is_none());
        let missing: Vec<_> = missing.map(|(id, _)| SecretId(id)).collect();
        let fetched = futures_util::stream::iter(missing).map(|id| self.get(id)).buffered(4);
        fetched.filter_map(async |result| result.err()).collect().await
    }
}

impl Inner {
    fn name(&self, id: SecretId) -> Arc<str> {
        self.slots
            .get(id.index())
            .map_or_else(|| "?".into(), |slot| Arc::clone(&slot.name))
    }

    /// As [`Store::refused`]. Boxed, as one may be had with others.
    async fn refused(self: &Arc<Self>, id: SecretId, version: u64) -> bool {
        let Some(slot) = self.slots.get(id.index()) else {
            return false;
        };
        let Some(current) = slot.current.load_full() else {
            return false;
        };
        if current.held.version != version {
            return true;
        }
        if current.since.elapsed() < LEAST_AGE {
            return false;
        }
        if slot.file.is_some() && slot.watched {
            self.read_file_again(id).await;
            return slot
                .current
                .load()
                .as_ref()
                .is_some_and(|now| now.held.version != version);
        }
        if !slot.source.is_fetched() {
            return false;
        }
        // What is part of a whole comes with a new whole; and what was lent is not renewed when it is refused.
        if let Some(whole) = slot.whole() {
            if let Some(now) = self.slots.get(whole.index()).and_then(|slot| slot.current.load_full()) {
                Box::pin(self.refused(whole, now.held.version)).await;
            }
        } else {
            self.renewals.forget(&slot.name);
        }
        let next = fetch::another(self, id, version).await;
        next.is_ok_and(|held| held.version != version)
    }

    fn fetched(&self, slot: &Slot, well: bool) {
        if let Some(tell) = &self.on_fetch {
            tell(&slot.name, well);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// How old a value must be to be fetched again because a host refused it.
const LEAST_AGE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
