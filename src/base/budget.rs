//! So much of something, shared out and given back: connections, requests, bytes held in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cap and what is taken of it. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    most: AtomicU64,
    used: AtomicU64,
    /// What is taken here is taken there as well.
    whole: Option<Budget>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: Budget,
    amount: u64,
}

/// There is not so much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of the budget that was asked.
    #[error("the budget is used up")]
    Own,
    /// Of the one that it is a part of.
    #[error("the budget that this is part of is used up")]
    Whole,
}

impl Budget {
    /// At most so much at one time.
    pub fn new(most: u64) -> Self {
        Self::made(most, None)
    }

    /// At most so much of this one at one time.
    pub fn part(&self, most: u64) -> Self {
        Self::made(most, Some(self.clone()))
    }

    fn made(most: u64, whole: Option<Self>) -> Self {
        Self(Arc::new(Counts {
            most: AtomicU64::new(most),
            used: AtomicU64::new(0),
            whole,
        }))
    }

    /// Changes the cap. What is taken already stays taken.
    pub fn set(&self, most: u64) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// Takes so much, or nothing.
    ///
    /// # Errors
    /// When there is not so much left.
    pub fn take(&self, amount: u64) -> Result<Share, Full> {
        self.add(amount)?;
        Ok(Share {
            of: self.clone(),
            amount,
        })
    }

    fn add(&self, amount: u64) -> Result<(), Full> {
        let Counts { most, used, whole } = &*self.0;
        let most = most.load(Ordering::Relaxed);
        let add = |used: u64| used.checked_add(amount).filter(|sum| *sum <= most);
        used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .map_err(|_| Full::Own)?;
        if let Some(whole) = whole
            && whole.add(amount).is_err()
        {
            used.fetch_sub(amount, Ordering::AcqRel);
            return Err(Full::Whole);
        }
        Ok(())
    }

    /// Whether more than half of it is taken, or of the one that it is a part of.
    pub fn is_scarce(&self) -> bool {
        let Counts { most, used, whole } = &*self.0;
        used.load(Ordering::Relaxed) > most.load(Ordering::Relaxed) / 2 || whole.as_ref().is_some_and(Self::is_scarce)
    }

    fn give_back(&self, amount: u64) {
        self.0.used.fetch_sub(amount, Ordering::AcqRel);
        if let Some(whole) = &self.0.whole {
            whole.give_back(amount);
        }
    }
}

impl Default for Budget {
    /// Without a cap.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.give_back(self.amount);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_share_is_taken_whole_and_given_back_when_dropped() {
        let budget = Budget::new(10);
        let six = budget.take(6).unwrap();
        assert_eq!(budget.take(5).unwrap_err(), Full::Own);
        let four = budget.take(4).unwrap();
        assert_eq!(budget.take(1).unwrap_err(), Full::Own);
        drop(six);
        assert!(budget.take(6).is_ok());
        drop(four);
        assert!(budget.take(10).is_ok() && budget.take(u64::MAX).is_err());
        budget.set(1);
        assert!(budget.take(2).is_err());
    }

    #[test]
    fn a_part_takes_from_the_whole_and_from_no_other_part() {
        let whole = Budget::new(10);
        let (one, other) = (whole.part(6), whole.part(6));
        let held = one.take(6).unwrap();
        assert_eq!(one.take(1).unwrap_err(), Full::Own);
        assert_eq!(other.take(5).unwrap_err(), Full::Whole);
        // What was refused by the whole is not missing from the part.
        let four = other.take(4).unwrap();
        assert!(other.is_scarce());
        drop(held);
        let two = other.take(2).unwrap();
        drop((four, two));
        assert!(!other.is_scarce() && !whole.is_scarce());
        assert!(whole.take(10).is_ok());
    }
}
