//! How much of the proxy each agent takes up at one time, so that none can take it all.

use super::fault::Fault;
use http::StatusCode;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What all agents take up. It outlives a configuration: a reload forgets nothing.
#[derive(Debug, Default)]
pub struct Shares(Mutex<HashMap<Arc<str>, Arc<Share>>>);

/// What one agent takes up.
#[derive(Debug, Default)]
pub struct Share {
    connections: AtomicUsize,
    requests: AtomicUsize,
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
    /// The shares of these agents, in this order. Those of others are forgotten once nothing of them is left.
    pub fn of(&self, agents: impl Iterator<Item = Arc<str>>) -> Vec<Arc<Share>> {
        let mut known = self.0.lock();
        let shares = agents.map(|name| Arc::clone(known.entry(name).or_default())).collect();
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
    fn a_share_is_each_agents_own_and_outlives_a_reload() {
        let shares = Shares::default();
        let names = |names: &[&str]| shares.of(names.iter().map(|name| Arc::from(*name)));
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
        assert_eq!(shares.0.lock().len(), 2, "something of both is left");
        drop(_other);
        names(&[]);
        assert!(shares.0.lock().is_empty());
    }
}
