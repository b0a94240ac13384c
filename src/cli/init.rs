//! `keyferry init`: finds the credentials lying about and writes a config that moves them out of the
//! agent's reach. It tells where each one is, never what it is.

use crate::launch::found::{Around, Place, Plan, look};
use crate::store::{EncryptedFile, KeySource};
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `init` takes.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Where to write the config.
    #[arg(long, short, value_name = "FILE", default_value = "keyferry.yaml")]
    pub out: PathBuf,
    /// Replace a config that is already there.
    #[arg(long)]
    pub force: bool,
    /// Copy every value that was found into Keyferry's encrypted file.
    #[arg(long)]
    pub import: bool,
    /// Say what was found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Looks around, writes the config, copies values into the store in `data_dir` if asked to, and tells.
///
/// # Errors
/// When there is a config already, or something cannot be written. Nothing is left half done: the
/// config is written last.
pub fn run(args: &InitArgs, data_dir: &Path) -> anyhow::Result<ExitCode> {
    if !args.force && args.out.exists() {
        bail!(
            "{} is there already; look at it first, then use --force to replace it",
            args.out.display()
        );
    }
    let around = Around::caller().context("cannot tell where home or the current directory is; set HOME")?;
    let plan = Plan::new(look(&around), args.import);
    let yaml = plan.yaml();
    let told = if args.json {
        json(&plan, args)
    } else {
        prose(&plan, args)
    };
    if args.import {
        let store = EncryptedFile::new(data_dir, KeySource::from_env());
        for (name, value) in plan.into_stored() {
            store
                .set(&name, value)
                .with_context(|| format!("cannot store `{name}`"))?;
        }
    }
    write(&args.out, &yaml, args.force).with_context(|| format!("cannot write {}", args.out.display()))?;
    io::stdout().write_all(told.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Whole or not at all; without `force` a file that came up meanwhile is left alone too.
fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    if !force {
        return OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)?
            .write_all(text.as_bytes());
    }
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn prose(plan: &Plan, args: &InitArgs) -> String {
    let mut text = format!("Wrote {}.\n", args.out.display());
    if plan.moved.is_empty() && plan.stays.is_empty() {
        text.push_str("No credentials were found; add your own under `secrets` and `rules`.\n");
    }
    if !plan.moved.is_empty() {
        text.push_str("\nKeyferry puts these into requests; the agent gets stand-ins:\n");
    }
    for it in &plan.moved {
        let _ = writeln!(text, "  {:<14} from {}", it.how.name, it.place);
    }
    if !plan.stays.is_empty() {
        text.push_str("\nThese stay where they are:\n");
    }
    for (place, advice) in &plan.stays {
        let _ = writeln!(text, "  {place}\n      {advice}");
    }
    let steps = steps(plan, args);
    if !steps.is_empty() {
        text.push_str("\nNext:\n");
    }
    for step in steps {
        let _ = writeln!(text, "  {step}");
    }
    text
}

/// What is left for the user to do, in order.
fn steps(plan: &Plan, args: &InitArgs) -> Vec<String> {
    let mut steps = Vec::new();
    for it in plan.moved.iter().filter(|it| it.stored && !args.import) {
        steps.push(format!(
            "keyferry secret set {}    # or all at once: keyferry init --import --force",
            it.how.name
        ));
    }
    // As long as the value lies in a file the agent can read, nothing is gained.
    let files = plan.moved.iter().filter_map(|it| match &it.place {
        Place::File { .. } => Some(format!(
            "remove it from {}, or keep the file out of the agent's sandbox",
            it.place
        )),
        Place::Variable(_) => None,
    });
    steps.extend(files);
    steps.push(format!("keyferry check --config {}", args.out.display()));
    steps
}

fn json(plan: &Plan, args: &InitArgs) -> String {
    let place = |place: &Place| match place {
        Place::Variable(name) => serde_json::json!({ "variable": name }),
        Place::File { path, entry } => serde_json::json!({ "file": path.to_string_lossy(), "entry": entry }),
    };
    let moved = plan.moved.iter().map(|it| {
        serde_json::json!({ "name": it.how.name, "place": place(&it.place), "stored": it.stored, "imported": it.stored && args.import })
    });
    let stays = plan
        .stays
        .iter()
        .map(|(at, advice)| serde_json::json!({ "place": place(at), "advice": advice }));
    let told = serde_json::json!({
        "config": args.out.to_string_lossy(),
        "moved": moved.collect::<Vec<_>>(),
        "stays": stays.collect::<Vec<_>>(),
        "next": steps(plan, args),
    });
    format!("{told:#}\n")
}
