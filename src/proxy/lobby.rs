//! Connections of which it is not known yet whose they are. They cost little, and anybody can make them: when there are
//! too many, the one that has waited longest goes, so that whoever says who it is at once always gets in.

use super::share::Taken;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// The unknown connections, in the order in which they came.
#[derive(Debug)]
pub struct Lobby {
    waiting: Mutex<BTreeMap<u64, Arc<Notify>>>,
    next: AtomicU64,
    most: usize,
}

/// A connection's time here, until it is admitted or ends. All clones are one.
#[derive(Debug, Clone)]
pub struct Guest(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    lobby: Arc<Lobby>,
    id: u64,
    asked_to_leave: Arc<Notify>,
    /// Its place among the connections of the agent it turned out to be.
    place: OnceLock<Taken>,
}

impl Lobby {
    /// Room for half of all `connections`: the other half is for those that are known.
    pub fn new(connections: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            most: (connections / 2).max(1),
        }
    }

    /// Lets a connection in, and asks the one that has waited longest to leave if there is no room.
    pub fn enter(self: &Arc<Self>) -> Guest {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let asked_to_leave = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.most
            && let Some((_, longest)) = waiting.pop_first()
        {
            longest.notify_one();
        }
        waiting.insert(id, Arc::clone(&asked_to_leave));
        Guest(Arc::new(Waiting {
            lobby: Arc::clone(self),
            id,
            asked_to_leave,
            place: OnceLock::new(),
        }))
    }
}

impl Guest {
    /// Serves the connection, unless it is asked to leave first.
    pub async fn stay(self, serving: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.0.asked_to_leave.notified() => tracing::debug!("a connection said nothing, and others came"),
            () = serving => {}
        }
    }

    /// Whether it was admitted before.
    pub fn is_admitted(&self) -> bool {
        self.0.place.get().is_some()
    }

    /// It is known whose it is: it has a place of its own from now on.
    pub fn admit(&self, place: Taken) {
        self.0.lobby.waiting.lock().remove(&self.0.id);
        let _ = self.0.place.set(place);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lobby.waiting.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::share::Share;
    use super::*;
    use futures_util::FutureExt as _;

    fn stays(guest: &Guest) -> bool {
        guest.clone().stay(std::future::pending()).now_or_never().is_none()
    }

    #[test]
    fn who_has_waited_longest_leaves_and_who_is_known_stays() {
        let lobby = Arc::new(Lobby::new(6));
        let share = Arc::new(Share::default());
        let known = lobby.enter();
        known.admit(share.connection(10).unwrap());
        let guests: Vec<Guest> = (0..3).map(|_| lobby.enter()).collect();
        assert!(guests.iter().all(stays));
        let _more = [lobby.enter(), lobby.enter()];
        let staying: Vec<bool> = guests.iter().map(stays).collect();
        assert_eq!(staying, [false, false, true]);
        assert!(stays(&known));
        drop((guests, _more));
        assert!(lobby.waiting.lock().is_empty(), "whoever ends makes room");
        drop(known);
        assert!(share.connection(1).is_ok(), "the place is given back");
    }
}
