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
mod source;
mod watch;

pub use encrypted::EncryptedFile;
pub use error::{Cause, Error};
pub use key::KeySource;
pub use program::{Answer, Program, Question};

use crate::base::ids::SecretId;
use crate::base::secret::Secret;
use crate::base::tasks::Tasks;
use crate::config::mint::How;
use crate::config::model::{SecretSpec, Source};
use crate::net::Upstream;
use arc_swap::ArcSwapOption;
use fetch::Fetching;
use futures_util::StreamExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::time::Instant;
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

/// One secret: where it lives, and the value of now.
#[derive(Debug)]
struct Slot {
    name: Arc<str>,
    source: Source,
    /// The file it is in, if that is where it lives.
    file: Option<PathBuf>,
    /// What its value is to be.
    shape: source::Shape,
    /// Whether a file may be read again.
    watched: bool,
    current: ArcSwapOption<Current>,
    fetching: Mutex<Fetching>,
    /// The last complaint, so that each is logged once.
    complaint: Mutex<String>,
}

/// A value and how long it is good for.
#[derive(Debug)]
struct Current {
    held: Arc<Held>,
    /// The value before it, which may be good for a while yet, and which an upstream may well remember.
    before: Option<Arc<Held>>,
    /// From when on a use has it fetched again, and from when on it is no good.
    term: Option<(Instant, Instant)>,
    /// When it was taken up.
    since: Instant,
}

/// What a slot has to give.
enum AtHand {
    /// A value.
    Good(Arc<Held>),
    /// A value that is still good, and not for long.
    Ageing(Arc<Held>),
    /// Nothing, or nothing good.
    None,
}

impl AtHand {
    fn held(self) -> Option<Arc<Held>> {
        match self {
            Self::Good(held) | Self::Ageing(held) => Some(held),
            Self::None => None,
        }
    }
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
        let next = fetch::wait(self, id).await;
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

/// What the encrypted file holds, or why it cannot be read.
type Stored = Result<BTreeMap<String, Arc<Held>>, Cause>;

fn stored(encrypted: &EncryptedFile) -> Stored {
    let all = encrypted.all().map_err(|error| Cause::Encrypted(Arc::new(error)))?;
    Ok(all
        .into_iter()
        .map(|(name, secret)| (name, Held::new(secret)))
        .collect())
}
impl Slot {
    fn open(spec: &SecretSpec, stored: &Stored, previous: Option<&Store>) -> Result<Self, Cause> {
        let before = previous.and_then(|store| store.inner.slots.iter().find(|slot| slot.name == spec.name));
        let same_source = before.filter(|slot| slot.source == spec.source && slot.shape.field == spec.field);
        let shape = source::Shape::of(spec);
        let file = match &spec.source {
            Source::File(path) => Some(path.clone()),
            Source::Credential(name) => Some(source::credential(name)?),
            _ => None,
        };
        let held = match &spec.source {
            Source::Env(variable) => Some(Held::new(source::env(variable, &shape)?)),
            Source::File(_) | Source::Credential(_) => match &file {
                // A pipe gave its value at the start, and has no more to give.
                Some(path) if same_source.is_some_and(|slot| !slot.watched) && !source::is_regular(path) => None,
                Some(path) => Some(Held::new(read_file(spec, path, previous.is_none())?)),
                None => None,
            },
            Source::Store(entry) => Some(stored_entry(stored, entry, &shape)?),
            Source::Exec { .. } | Source::Minted(_) | Source::Kept(_) => None,
        };
        let current = match held {
            Some(held) => {
                Some(before.map_or_else(|| Current::first(&held, None), |slot| slot.followed_by(&held, None)))
            }
            None => same_source.and_then(|slot| slot.current.load_full()),
        };
        let watched = match &spec.source {
            Source::File(_) | Source::Credential(_) => file.as_deref().is_some_and(source::is_regular),
            Source::Store(_) => true,
            Source::Env(_) | Source::Exec { .. } | Source::Minted(_) | Source::Kept(_) => false,
        };
        Ok(Self {
            name: Arc::clone(&spec.name),
            source: spec.source.clone(),
            file,
            shape,
            watched,
            current: ArcSwapOption::new(current),
            fetching: Mutex::default(),
            complaint: Mutex::default(),
        })
    }

    /// The secret that this one is a field of, if it is.
    fn whole(&self) -> Option<SecretId> {
        match &self.source {
            Source::Minted(mint) => match &mint.how {
                How::Part { whole, .. } => Some(whole.id),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a store lends it for a time, and renews it.
    fn is_lent(&self) -> bool {
        match &self.source {
            Source::Minted(mint) => matches!(mint.how, How::VaultLogin(_) | How::VaultLease(_)),
            _ => false,
        }
    }

    fn at_hand(&self) -> AtHand {
        let current = self.current.load();
        let Some(current) = current.as_ref() else {
            return AtHand::None;
        };
        let held = Arc::clone(&current.held);
        match current.term.map(|(renew, end)| (Instant::now(), renew, end)) {
            Some((now, _, end)) if now >= end => AtHand::None,
            Some((now, renew, _)) if now >= renew => AtHand::Ageing(held),
            _ => AtHand::Good(held),
        }
    }

    /// What is current once `held` was read: the value at hand when it is the same, so that it keeps its version.
    fn followed_by(&self, held: &Arc<Held>, term: Option<(Instant, Instant)>) -> Arc<Current> {
        let Some(now) = self.current.load_full() else {
            return Current::first(held, term);
        };
        let same = now.held.secret.is_same(&held.secret);
        let (held, before) = if same {
            (&now.held, now.before.clone())
        } else {
            (held, Some(Arc::clone(&now.held)))
        };
        let held = Arc::clone(held);
        let since = Instant::now();
        Arc::new(Current {
            held,
            before,
            term,
            since,
        })
    }

    /// Takes up a value. True when it differs from the one before.
    fn renew(&self, made: &Arc<Held>, term: Option<(Instant, Instant)>) -> (Arc<Held>, bool) {
        let current = self.followed_by(made, term);
        let held = Arc::clone(&current.held);
        self.current.store(Some(current));
        let new = Arc::ptr_eq(&held, made);
        (held, new)
    }
}

impl Current {
    fn first(held: &Arc<Held>, term: Option<(Instant, Instant)>) -> Arc<Self> {
        Arc::new(Self {
            held: Arc::clone(held),
            before: None,
            term,
            since: Instant::now(),
        })
    }
}

/// A pipe is waited for at the start only: later on there are agents to serve.
fn read_file(spec: &SecretSpec, path: &Path, may_wait: bool) -> Result<Secret, Cause> {
    let shape = source::Shape::of(spec);
    let secret = if may_wait {
        source::file(path, &shape)?
    } else {
        source::regular(path, &shape)?
    };
    if source::is_open_to_others(path) {
        tracing::warn!(secret = %spec.name, path = %path.display(), "the file can be read by other users; `chmod 600` closes it");
    }
    Ok(secret)
}

fn stored_entry(stored: &Stored, entry: &str, shape: &source::Shape) -> Result<Arc<Held>, Cause> {
    let all = stored.as_ref().map_err(Cause::clone)?;
    let found = all.get(entry).ok_or_else(|| Cause::NotStored(entry.to_owned()))?;
    let unfit = |reason| {
        let name = entry.to_owned();
        Cause::Encrypted(Arc::new(encrypted::Error::Value { name, reason }))
    };
    if let Some(part) = shape.part(&found.secret) {
        return part.map(Held::new).map_err(unfit);
    }
    match found.secret.is_line() {
        Err(reason) if !shape.document => Err(unfit(reason)),
        _ => Ok(Arc::clone(found)),
    }
}

#[cfg(test)]
mod tests;
