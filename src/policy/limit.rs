//! Rate and concurrency for one rule and one agent, in memory fixed when the policy is made.

use crate::config::model::{Rate, RuleLimits};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The limits of one rule, counted for each agent by itself.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Option<Gcra>,
    concurrent: Option<u32>,
    agents: Box<[Arc<Count>]>,
}

#[derive(Debug, Default)]
struct Count {
    /// GCRA's theoretical arrival time, nanoseconds after `Limiter`'s start.
    arrival: AtomicU64,
    running: AtomicU32,
}

/// The generic cell rate algorithm (ITU-T I.371): one number a key, no timer.
#[derive(Debug)]
struct Gcra {
    start: Instant,
    interval: u64,
    tolerance: u64,
}

/// Over a limit; when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) retry_after: Duration,
    pub(super) what: &'static str,
}

/// A place among the concurrent requests, given back when dropped.
#[derive(Debug, Clone, Default)]
pub struct Held {
    _place: Option<Arc<Place>>,
}

#[derive(Debug)]
struct Place(Arc<Count>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Limiter {
    /// `None` where the rule has neither rate nor concurrency.
    pub(super) fn new(limits: &RuleLimits, agents: usize) -> Option<Self> {
        if limits.rate.is_none() && limits.concurrent.is_none() {
            return None;
        }
        let agents = std::iter::repeat_with(Arc::default).take(agents).collect();
        Some(Self {
            rate: limits.rate.map(Gcra::new),
            concurrent: limits.concurrent,
            agents,
        })
    }

    pub(super) fn admit(&self, agent: usize) -> Result<Held, Over> {
        let Some(count) = self.agents.get(agent) else {
            return Ok(Held::default());
        };
        let held = self.place(count)?;
        if let Some(rate) = &self.rate {
            rate.admit(&count.arrival)?;
        }
        Ok(held)
    }

    fn place(&self, count: &Arc<Count>) -> Result<Held, Over> {
        let Some(most) = self.concurrent else {
            return Ok(Held::default());
        };
        let add = |running| (running < most).then_some(running + 1);
        match count.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(Held {
                _place: Some(Arc::new(Place(Arc::clone(count)))),
            }),
            Err(_) => Err(Over {
                retry_after: Duration::from_secs(1),
                what: "requests at one time",
            }),
        }
    }
}

impl Gcra {
    fn new(rate: Rate) -> Self {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = per / u64::from(rate.count.max(1));
        Self {
            start: Instant::now(),
            interval,
            tolerance: per.saturating_sub(interval),
        }
    }

    fn admit(&self, arrival: &AtomicU64) -> Result<(), Over> {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let next = |due: u64| (due.saturating_sub(now) <= self.tolerance).then(|| due.max(now) + self.interval);
        match arrival.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(()),
            Err(due) => {
                let wait = due.saturating_sub(now).saturating_sub(self.tolerance);
                Err(Over {
                    retry_after: Duration::from_nanos(wait),
                    what: "requests in this time",
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rate_lets_its_count_through_and_then_says_when() {
        let rate = Rate {
            count: 3,
            per: Duration::from_secs(3600),
        };
        let limits = RuleLimits {
            rate: Some(rate),
            ..RuleLimits::default()
        };
        let limiter = Limiter::new(&limits, 2).unwrap();
        for _ in 0..3 {
            assert!(limiter.admit(0).is_ok());
        }
        let over = limiter.admit(0).unwrap_err();
        assert!(over.retry_after > Duration::from_secs(1000) && over.retry_after <= Duration::from_secs(1200));
        assert!(limiter.admit(1).is_ok(), "another agent has a count of its own");
    }

    #[test]
    fn a_place_is_given_back_when_the_exchange_ends() {
        let limits = RuleLimits {
            concurrent: Some(1),
            ..RuleLimits::default()
        };
        let limiter = Limiter::new(&limits, 1).unwrap();
        let held = limiter.admit(0).unwrap();
        let second = held.clone();
        drop(held);
        assert!(limiter.admit(0).is_err(), "one holder is left");
        drop(second);
        assert!(limiter.admit(0).is_ok());
    }
}
