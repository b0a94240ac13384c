//! Upstream connections kept for the next request. Shared only among requests of the same agent, with the same
//! scheme, target, parent proxy, client certificate and protocol; each configuration has a pool of its own, so TLS settings never mix.

use super::ClientCertificate;
use super::http2::{Place, Shared};
use crate::base::ask::Scheme;
use crate::base::body::Body;
use crate::base::host::Target;
use crate::base::ids::AgentId;
use crate::config::parent::Parent;
use hyper::client::conn::http1;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What two requests must share to share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Whose requests they are, `None` for Keyferry's own: on a shared HTTP/2 connection, whoever does not read holds up
    /// all others.
    pub(super) agent: Option<AgentId>,
    pub(super) scheme: Scheme,
    pub(super) target: Target,
    /// The proxy it goes through.
    pub(super) parent: Option<Arc<Parent>>,
    /// What the connection is authenticated with.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Offered only HTTP/1.1: for upgrades and for `Expect`, which hyper can relay over it alone.
    pub(super) http1_only: bool,
}

/// The connections of one configuration.
#[derive(Debug)]
pub(super) struct Pool {
    shards: Box<[Mutex<HashMap<Key, Origin, foldhash::fast::RandomState>>]>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Debug)]
struct Origin {
    idle: Vec<Idle>,
    shared: Vec<Arc<Shared>>,
    /// One dial at a time until it is known that the origin speaks HTTP/1.1, so that a burst of
    /// first requests ends up on one HTTP/2 connection.
    turn: Arc<Semaphore>,
    speaks_http1: bool,
    /// It was offered HTTP/1.1 alone, and refused.
    has_no_http1: bool,
    used: Instant,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
}

/// What the pool has for a key.
pub(super) enum Found {
    Http1(http1::SendRequest<Body>),
    Http2(Place),
    /// Nothing: dial, holding this turn if there is one.
    Dial(Option<Arc<Semaphore>>),
}

/// Idle HTTP/1.1 connections kept for one key.
const IDLE_PER_KEY: usize = 256;
/// How long one is kept. Servers commonly close at 60 to 75 seconds; being first avoids the race.
const IDLE_TIME: Duration = Duration::from_secs(50);
/// Keys kept in one shard; the least recently used goes first.
const KEYS_PER_SHARD: usize = 512;
const SHARDS: usize = 16;

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    fn shard(&self, key: &Key) -> Option<&Mutex<HashMap<Key, Origin, foldhash::fast::RandomState>>> {
        let at = usize::try_from(self.hasher.hash_one(key) >> 8).unwrap_or(0) % SHARDS;
        self.shards.get(at)
    }

    /// Takes an idle connection, or a stream of a shared one.
    pub(super) fn take(&self, key: &Key) -> Found {
        let Some(shard) = self.shard(key) else {
            return Found::Dial(None);
        };
        let mut shard = shard.lock();
        if shard.len() >= KEYS_PER_SHARD && !shard.contains_key(key) {
            evict(&mut shard);
        }
        if !shard.contains_key(key) {
            shard.insert(key.clone(), Origin::new(key.http1_only));
        }
        let Some(origin) = shard.get_mut(key) else {
            return Found::Dial(None);
        };
        origin.used = Instant::now();
        origin
            .shared
            .retain(|shared| !shared.is_closed() && !shared.is_done_for());
        if let Some(place) = origin.shared.iter().find_map(Shared::enter) {
            return Found::Http2(place);
        }
        while let Some(idle) = origin.idle.pop() {
            if !idle.sender.is_closed() && idle.since.elapsed() < IDLE_TIME {
                return Found::Http1(idle.sender);
            }
        }
        Found::Dial((!origin.speaks_http1).then(|| Arc::clone(&origin.turn)))
    }

    /// Gives an HTTP/1.1 connection back after a whole exchange.
    pub(super) fn give_back(&self, key: &Key, sender: http1::SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock();
        let Some(origin) = shard.get_mut(key) else { return };
        if origin.idle.len() < IDLE_PER_KEY {
            origin.idle.push(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }

    /// Notes that a dial found HTTP/1.1: from now on requests need not wait for each other's dials.
    pub(super) fn found_http1(&self, key: &Key) {
        if let Some(shard) = self.shard(key)
            && let Some(origin) = shard.lock().get_mut(key)
        {
            origin.speaks_http1 = true;
        }
    }

    /// Notes that a dial that offered HTTP/1.1 alone was refused.
    pub(super) fn found_no_http1(&self, key: &Key) {
        if let Some(shard) = self.shard(key)
            && let Some(origin) = shard.lock().get_mut(key)
        {
            origin.has_no_http1 = true;
        }
    }

    /// Whether HTTP/1.1 was refused here before: asking for it each time would cost a handshake.
    pub(super) fn has_no_http1(&self, key: &Key) -> bool {
        let Some(shard) = self.shard(key) else { return false };
        let mut shard = shard.lock();
        let Some(origin) = shard.get_mut(key).filter(|origin| origin.has_no_http1) else {
            return false;
        };
        origin.used = Instant::now();
        true
    }

    /// Shares a new HTTP/2 connection.
    pub(super) fn share(&self, key: &Key, shared: Arc<Shared>) {
        if let Some(shard) = self.shard(key)
            && let Some(origin) = shard.lock().get_mut(key)
        {
            origin.speaks_http1 = false;
            origin.shared.push(shared);
        }
    }

    /// Drops what has idled too long. Called from time to time.
    pub(super) fn sweep(&self) {
        for shard in &self.shards {
            shard.lock().retain(|_, origin| {
                origin
                    .idle
                    .retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_TIME);
                let unused = origin.used.elapsed() > IDLE_TIME;
                origin
                    .shared
                    .retain(|shared| !(shared.is_closed() || unused && shared.in_use() == 0));
                !(unused && origin.idle.is_empty() && origin.shared.is_empty())
            });
        }
    }
}

fn evict(shard: &mut HashMap<Key, Origin, foldhash::fast::RandomState>) {
    let oldest = shard
        .iter()
        .min_by_key(|(_, origin)| origin.used)
        .map(|(key, _)| key.clone());
    if let Some(key) = oldest {
        shard.remove(&key);
    }
}

impl Origin {
    fn new(http1_only: bool) -> Self {
        Self {
            idle: Vec::new(),
            shared: Vec::new(),
            turn: Arc::new(Semaphore::new(1)),
            speaks_http1: http1_only,
            has_no_http1: false,
            used: Instant::now(),
        }
    }
}
