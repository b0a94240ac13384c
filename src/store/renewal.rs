//! What a store lends for a time: leases and tokens that are renewed there before their time is over, and the fields of what is
//! lent as a whole.

use super::{Current, Inner};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The terms on which something was lent.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// The name of its lease; empty for a token.
    pub(super) lease: String,
    /// For how long it was lent at first.
    pub(super) first: Duration,
    /// The version of the token that it was had with: it ends with that.
    pub(super) token: u64,
}

/// The terms of what is lent, by the secret's name; and of tokens that the operator gave, when each is renewed next. Both are
/// bounded by the config's names.
#[derive(Debug, Clone, Default)]
pub(super) struct Renewals {
    lent: Arc<Mutex<HashMap<Arc<str>, Terms>>>,
    due: Arc<Mutex<HashMap<Arc<str>, Due>>>,
}

/// When a token is renewed next.
#[derive(Debug)]
struct Due {
    version: u64,
    next: Instant,
}

impl Renewals {
    /// Notes on which terms something was lent; `None` where it cannot be renewed.
    pub(super) fn note(&self, name: &Arc<str>, terms: Option<Terms>) {
        let mut lent = self.lent.lock();
        match terms {
            Some(terms) => drop(lent.insert(Arc::clone(name), terms)),
            None => drop(lent.remove(name)),
        }
    }

    /// The terms of what may be renewed.
    pub(super) fn terms(&self, name: &str) -> Option<Terms> {
        self.lent.lock().get(name).cloned()
    }

    /// Has it made anew the next time, and not renewed.
    pub(super) fn forget(&self, name: &str) {
        self.lent.lock().remove(name);
    }

    /// Whether it is time to renew a token that the operator gave. Whoever is told so does it.
    pub(super) fn is_due(&self, name: &Arc<str>, version: u64) -> bool {
        let mut due = self.due.lock();
        let now = Instant::now();
        match due.get(name) {
            Some(known) if known.version == version && now < known.next => false,
            _ => {
                let next = now + PAUSE;
                due.insert(Arc::clone(name), Due { version, next });
                true
            }
        }
    }

    /// When it is to be renewed next.
    pub(super) fn next(&self, name: &Arc<str>, version: u64, after: Duration) {
        let next = Instant::now() + after;
        self.due.lock().insert(Arc::clone(name), Due { version, next });
    }
}

impl Inner {
    /// Has the fields of a whole that has a new value read anew, so that they belong together.
    pub(super) fn outdate_parts(&self, name: &str) {
        let is_part = |slot: &&super::Slot| {
            let whole = slot.whole().and_then(|id| self.slots.get(id.index()));
            whole.is_some_and(|whole| &*whole.name == name)
        };
        for part in self.slots.iter().filter(is_part) {
            if let Some(current) = part.current.load_full() {
                let now = Instant::now();
                part.current.store(Some(Arc::new(Current {
                    held: Arc::clone(&current.held),
                    before: current.before.clone(),
                    term: Some((now, now)),
                    since: current.since,
                })));
            }
        }
    }
}

/// From one try to renew a token to the next, unless the answer says otherwise.
const PAUSE: Duration = Duration::from_secs(60);
