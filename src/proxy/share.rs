//! How much of the proxy each agent takes up at one time, so that none can take it all.

use super::fault::Fault;
use crate::base::budget::Budget;
use http::StatusCode;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What all agents take up. It outlives a configuration: a reload forgets nothing.
#[derive(Debug, Default)]
pub struct Shares {
    known: Mutex<HashMap<Arc<str>, Arc<Share>>>,
    /// Bytes that bodies of all agents together take.
    memory: Budget,
}

/// What one agent takes up.
#[derive(Debug, Default)]
pub struct Share {
    connections: AtomicUsize,
    requests: AtomicUsize,
    memory: Budget,
}

/// A place taken, given back when dropped.
#[derive(Debug)]
pub struct Taken {
    share: Arc<Share>,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Connection,
    Request,
}

impl Shares {
    /// The shares of these agents, in this order, and what bodies may take of memory from now on: of several agents
    /// each may have half. The shares of others are forgotten once nothing of them is left.
    pub fn of(&self, agents: impl ExactSizeIterator<Item = Arc<str>>, bodies: u64) -> Vec<Arc<Share>> {
        self.memory.set(bodies);
        let part = if agents.len() > 1 { bodies / 2 } else { bodies };
        let mut known = self.known.lock();
        let share = |name| {
            let new = || Share {
                memory: self.memory.part(part),
                ..Share::default()
            };
            let share = known.entry(name).or_insert_with(|| Arc::new(new()));
            share.memory.set(part);
            Arc::clone(share)
        };
        let shares = agents.map(share).collect();
        known.retain(|_, share| Arc::strong_count(share) > 1);
        shares
    }
}

impl Share {
    /// Takes a place among the agent's connections, of which there are at most so many.
    ///
    /// # Errors
    /// When there is none left.
    pub fn connection(self: &Arc<Self>, most: usize) -> Result<Taken, Fault> {
        self.take(What::Connection, most)
    }

    /// Takes a place among the agent's requests.
    ///
    /// # Errors
    /// When there is none left.
    pub fn request(self: &Arc<Self>, most: usize) -> Result<Taken, Fault> {
        self.take(What::Request, most)
    }

    /// What the agent's bodies may take of memory, in bytes.
    pub fn memory(&self) -> &Budget {
        &self.memory
    }

    fn take(self: &Arc<Self>, what: What, most: usize) -> Result<Taken, Fault> {
        let add = |taken: usize| (taken < most).then_some(taken + 1);
        match self.count(what).fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(Taken {
                share: Arc::clone(self),
                what,
            }),
            Err(_) => Err(over(what, most)),
        }
    }

    fn count(&self, what: What) -> &AtomicUsize {
        match what {
            What::Connection => &self.connections,
            What::Request => &self.requests,
        }
    }
}

fn over(what: What, most: usize) -> Fault {
    let told = match what {
        What::Connection => format!("this agent has all of the {most} connections that it may have at one time"),
        What::Request => format!("this agent has all of the {most} requests that it may have at one time"),
    };
    let fault = Fault::refused(StatusCode::TOO_MANY_REQUESTS, "agent_limited", told);
    Fault {
        hint: Some("close some, or wait for them to end"),
        retry_after: Some(Duration::from_secs(1)),
        ..fault
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.share.count(self.what).fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn of_several_agents_each_has_half_of_the_memory_and_a_sole_one_all() {
        let shares = Shares::default();
        let names = |names: &[&str]| shares.of(names.iter().map(|name| Arc::from(*name)), 100);
        let both = names(&["one", "two"]);
        let taken = both[0].memory().take(50).unwrap();
        assert!(both[0].memory().take(1).is_err() && both[1].memory().take(50).is_ok());
        let alone = names(&["one"]);
        assert!(alone[0].memory().take(50).is_ok() && alone[0].memory().take(51).is_err());
        drop(taken);
        assert!(alone[0].memory().take(100).is_ok());
    }

    #[test]
    fn a_share_is_each_agents_own_and_outlives_a_reload() {
        let shares = Shares::default();
        let names = |names: &[&str]| shares.of(names.iter().map(|name| Arc::from(*name)), 100);
        let before = names(&["one", "two"]);
        let taken = before[0].connection(1).unwrap();
        assert!(before[0].connection(1).is_err());
        let _other = (before[1].connection(1).unwrap(), before[0].request(1).unwrap());
        let after = names(&["two", "one"]);
        assert!(after[1].connection(1).is_err(), "the same agent, wherever it stands");
        drop(taken);
        assert!(after[1].connection(1).is_ok());
        drop((before, after));
        names(&[]);
        assert_eq!(shares.known.lock().len(), 2, "something of both is left");
        drop(_other);
        names(&[]);
        assert!(shares.known.lock().is_empty());
    }
}
