//! The command line: one file per verb.

pub mod ca;
pub mod child;
pub mod secret;

/// Parses the command line and runs the verb.
pub fn main() -> std::process::ExitCode {
    if let Some(code) = child::become_if_asked() {
        return code;
    }
    std::process::ExitCode::SUCCESS
}
