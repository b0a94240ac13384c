//! One line for each exchange, and where the lines go.
//!
//! A record never holds a secret, a placeholder's real value, or a body; what an agent chose of it
//! is bounded in length. Writing one never waits: an own thread serialises and writes, behind a
//! bounded queue, and what does not fit is counted and said.

mod file;
mod line;
mod log;
mod record;
mod rotating;
mod writer;

pub use log::{Denial, Log, Totals};
pub use record::{Durations, MaskedPath, Mode, Outcome, Record, Way};

use std::path::PathBuf;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened for writing.
    #[error("cannot open the audit log `{}`: {cause}; check the directory and its permissions, or set `audit` to another file", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        cause: std::io::Error,
    },
    /// The log's thread could not be started.
    #[error("cannot start the audit log's thread: {0}")]
    Thread(std::io::Error),
    /// Standard output cannot be written to.
    #[error("cannot write the audit log to standard output: {0}")]
    Stdout(std::io::Error),
}
