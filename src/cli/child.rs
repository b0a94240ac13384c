//! `keyferry __child`: becomes the command that `run` starts; no one types it.

use crate::launch::child::{VERB, become_command};
use std::ffi::OsString;
use std::process::ExitCode;

/// Becomes the command if the arguments say so; returns only if they do not, or if it cannot.
pub fn become_if_asked() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (verb, rest) = arguments.split_first()?;
    if verb != VERB {
        return None;
    }
    let Err(error) = become_command(rest);
    anstream::eprintln!("keyferry: {error}");
    Some(ExitCode::from(error.exit_code()))
}
