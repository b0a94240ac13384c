//! What this program is when another of itself starts it; no one types these verbs.

use crate::app::guest;
use crate::launch::Error;
use crate::launch::child::{VERB, become_command};
use crate::launch::wall::vm::{self, enter, inside};
use std::convert::Infallible;
use std::ffi::OsString;
use std::process::ExitCode;

/// Becomes what the arguments say; `None` if they say nothing of the kind.
pub fn become_if_asked() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (verb, rest) = arguments.split_first()?;
    let never = |done: Result<Infallible, Error>| done.map(|never| match never {});
    let done = match verb.to_str()? {
        VERB => never(become_command(rest)),
        enter::VERB => never(enter::become_command(rest)),
        vm::PAIR => vm::pair(rest).map(|exit| ExitCode::from(exit.0)),
        vm::GUEST if std::process::id() == 1 => Ok(first_process()),
        _ => return None,
    };
    Some(done.unwrap_or_else(|error| {
        anstream::eprintln!("keyferry: {error}");
        ExitCode::from(error.exit_code())
    }))
}

/// The first process of a machine, which ends with it.
fn first_process() -> ExitCode {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = inside::wake()
        .map_err(anyhow::Error::from)
        .and_then(|()| runtime()?.block_on(guest::run()));
    if let Err(error) = done {
        anstream::eprintln!("keyferry: {error:#}");
    }
    inside::end();
    ExitCode::FAILURE
}
