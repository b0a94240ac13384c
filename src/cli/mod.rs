//! The command line: one file per verb.

pub mod ca;

/// Parses the command line and runs the verb.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
