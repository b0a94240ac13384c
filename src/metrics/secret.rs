//! The counters of secrets that are fetched, by name.

use super::{Error, Fetch, MOST_SECRETS, add};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(super) struct SecretFamilies {
    fetches: IntCounterVec,
    had: IntGaugeVec,
    /// Those with series of their own.
    names: Mutex<HashSet<Box<str>>>,
}

impl SecretFamilies {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        let fetches = Opts::new("keyferry_secret_fetches_total", "Secrets fetched, by name and result");
        let had = Opts::new(
            "keyferry_secret_fetched_timestamp_seconds",
            "When a secret's value was last had, Unix time",
        );
        Ok(Self {
            fetches: add(registry, IntCounterVec::new(fetches, &["secret", "result"])?)?,
            had: add(registry, IntGaugeVec::new(had, &["secret"])?)?,
            names: Mutex::default(),
        })
    }

    pub(super) fn fetched(&self, name: &str, fetch: Fetch) {
        let name = {
            let mut names = self.names.lock();
            let known = names.contains(name) || names.len() < MOST_SECRETS && names.insert(name.into());
            if known { name } else { "(other)" }
        };
        let result = match fetch {
            Fetch::Ok => "ok",
            Fetch::Failed => "failed",
        };
        self.fetches.with_label_values(&[name, result]).inc();
        if fetch == Fetch::Ok {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let had = self.had.with_label_values(&[name]);
            had.set(i64::try_from(now.as_secs()).unwrap_or_default());
        }
    }
}
