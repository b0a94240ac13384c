//! `keyferry check`: every mistake at once.

use super::settings::{self, Failed};
use crate::config::{self, Config, Loaded, Mistakes};
use clap::Args;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// The exit code of a config that does not load.
const MISTAKEN: u8 = 2;

/// What `check` takes.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print mistakes and warnings as JSON
    #[arg(long)]
    json: bool,
}

/// Checks the config that would be used. What a program reads goes to stdout, mistakes and warnings
/// for a person to stderr.
///
/// # Errors
/// When there is no config to check.
pub fn run(args: &CheckArgs, explicit: Option<&Path>) -> anyhow::Result<ExitCode> {
    let path = config::find(explicit).ok_or(Failed::NoConfig)?;
    let outcome = Config::load(&path);
    match args.json {
        true => print_json(&path, &outcome),
        false => print(&outcome),
    }
    Ok(match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(MISTAKEN),
    })
}

#[expect(clippy::print_stdout, reason = "the answer of the verb")]
fn print(outcome: &Result<Loaded, Mistakes>) {
    match outcome {
        Ok(Loaded { config, warnings }) => {
            if !warnings.is_empty() {
                settings::say(warnings.render(settings::colour()).trim_end());
            }
            let counts = [
                (config.rules.len(), "rule"),
                (config.secrets.len(), "secret"),
                (config.agents.len(), "agent"),
            ];
            println!("ok: {}", counts.map(|(number, what)| counted(number, what)).join(", "));
        }
        Err(mistakes) => {
            let told = mistakes.render(settings::colour());
            let number = counted(mistakes.len(), "mistake");
            settings::say(&format!(
                "{}

{number}; the config does not load",
                told.trim_end()
            ));
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer of the verb")]
fn print_json(path: &Path, outcome: &Result<Loaded, Mistakes>) {
    let file = path.display().to_string();
    let told = match outcome {
        Ok(Loaded { config, warnings }) => json!({
            "ok": true,
            "file": file,
            "rules": config.rules.len(),
            "secrets": config.secrets.len(),
            "agents": config.agents.len(),
            "mistakes": [],
            "warnings": warnings.json(),
        }),
        Err(mistakes) => json!({ "ok": false, "file": file, "mistakes": mistakes.json(), "warnings": [] }),
    };
    println!("{told:#}");
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
