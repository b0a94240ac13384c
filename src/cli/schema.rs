//! `keyferry schema`: the JSON schema of the config, for editors.

use crate::config::schema;
use std::process::ExitCode;

/// Prints the schema to stdout.
///
/// # Errors
/// None; it has the shape of every verb.
#[expect(clippy::print_stdout, reason = "a verb prints")]
pub fn run() -> anyhow::Result<ExitCode> {
    println!("{:#}", schema::schema());
    Ok(ExitCode::SUCCESS)
}
