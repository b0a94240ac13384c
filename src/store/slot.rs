//! One secret: where it lives, the value of now and the one before, and how long it is good for.

use super::error::Cause;
use super::fetch::Fetching;
use super::{EncryptedFile, Held, Store, encrypted, source};
use crate::base::ids::SecretId;
use crate::base::secret::Secret;
use crate::config::mint::How;
use crate::config::model::{SecretSpec, Source};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::Instant;

/// One secret: where it lives, and the value of now.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) source: Source,
    /// The file it is in, if that is where it lives.
    pub(super) file: Option<PathBuf>,
    /// What its value is to be.
    pub(super) shape: source::Shape,
    /// Whether a file may be read again.
    pub(super) watched: bool,
    pub(super) current: ArcSwapOption<Current>,
    pub(super) fetching: Mutex<Fetching>,
    /// The last complaint, so that each is logged once.
    pub(super) complaint: Mutex<String>,
}

/// A value and how long it is good for.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) held: Arc<Held>,
    /// The value before it, which may be good for a while yet, and which an upstream may well remember.
    pub(super) before: Option<Arc<Held>>,
    /// From when on a use has it fetched again, and from when on it is no good.
    pub(super) term: Option<(Instant, Instant)>,
    /// When it was taken up.
    pub(super) since: Instant,
}

/// What a slot has to give.
pub(super) enum AtHand {
    /// A value.
    Good(Arc<Held>),
    /// A value that is still good, and not for long.
    Ageing(Arc<Held>),
    /// Nothing, or nothing good.
    None,
}

impl AtHand {
    pub(super) fn held(self) -> Option<Arc<Held>> {
        match self {
            Self::Good(held) | Self::Ageing(held) => Some(held),
            Self::None => None,
        }
    }
}

impl Slot {
    pub(super) fn open(spec: &SecretSpec, stored: &Stored, previous: Option<&Store>) -> Result<Self, Cause> {
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
    pub(super) fn whole(&self) -> Option<SecretId> {
        match &self.source {
            Source::Minted(mint) => match &mint.how {
                How::Part { whole, .. } => Some(whole.id),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a store lends it for a time, and renews it.
    pub(super) fn is_lent(&self) -> bool {
        match &self.source {
            Source::Minted(mint) => matches!(mint.how, How::VaultLogin(_) | How::VaultLease(_)),
            _ => false,
        }
    }

    pub(super) fn at_hand(&self) -> AtHand {
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
    pub(super) fn followed_by(&self, held: &Arc<Held>, term: Option<(Instant, Instant)>) -> Arc<Current> {
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
    pub(super) fn renew(&self, made: &Arc<Held>, term: Option<(Instant, Instant)>) -> (Arc<Held>, bool) {
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

/// What the encrypted file holds, or why it cannot be read.
pub(super) type Stored = Result<BTreeMap<String, Arc<Held>>, Cause>;

pub(super) fn stored(encrypted: &EncryptedFile) -> Stored {
    let all = encrypted.all().map_err(|error| Cause::Encrypted(Arc::new(error)))?;
    Ok(all
        .into_iter()
        .map(|(name, secret)| (name, Held::new(secret)))
        .collect())
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

pub(super) fn stored_entry(stored: &Stored, entry: &str, shape: &source::Shape) -> Result<Arc<Held>, Cause> {
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
