//! `keyferry completions`: what a shell needs to complete our verbs.

use clap_complete::Shell;
use std::io::{self, Write};

/// Writes the completions of `command` for `shell` to standard output.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(shell: Shell, command: &mut clap::Command) -> io::Result<()> {
    let name = command.get_name().to_owned();
    // The library panics on a closed pipe; a buffer cannot be closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    let mut out = io::stdout().lock();
    match out.write_all(&script).and_then(|()| out.flush()) {
        Err(closed) if closed.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
