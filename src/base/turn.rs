//! A turn at a file or folder that other processes use too.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An advisory lock (flock(2)), held until this is dropped; the system ends it when its holder dies.
#[derive(Debug)]
pub struct Turn(Arc<File>);

/// Why there is no turn to be had.
#[derive(Debug, thiserror::Error)]
pub enum NoTurn {
    /// Another holds on to it.
    #[error("another process has it")]
    Held,
    /// The file system has no locks, or refuses.
    #[error("it cannot be locked: {0}")]
    Io(#[from] io::Error),
}

impl Turn {
    /// Waits for a turn, no longer than `patience`; in place, so only where that may be.
    ///
    /// # Errors
    /// When another has it for longer, or the file system has no locks.
    pub fn take(file: &Arc<File>, patience: Duration) -> Result<Self, NoTurn> {
        let end = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(Arc::clone(file))),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return Err(NoTurn::Held),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What cannot be given back ends with the file.
        let _ = self.0.unlock();
    }
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);
