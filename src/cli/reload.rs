//! `keyferry reload`: checks the config, then tells the `serve` that uses it to read it again, or to have a new process
//! take its place.

use super::settings::{self, Failed};
use crate::config;
use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What `reload` takes.
#[derive(Debug, clap::Args)]
pub struct ReloadArgs {
    /// Have a new process take over the listeners, and wait until it serves: for another version of the program, or for
    /// changes that a reload cannot take up
    #[arg(long)]
    upgrade: bool,
}

/// How long a new process may take until it has the mark.
const PATIENCE: Duration = Duration::from_secs(75);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);

/// Signals the running `serve`, if the config is one it can load.
///
/// # Errors
/// When the config has mistakes, no `serve` uses it, or no new process took over.
pub fn run(args: &ReloadArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    let path = config::find(explicit).ok_or(Failed::NoConfig)?;
    settings::need_config(Some(&path))?;
    let at = mark_of(&path)?;
    let none = || format!("no `keyferry serve` of this user runs with {}", path.display());
    let serving = Seen::at(&at).with_context(none)?.with_context(none)?;
    let signal = if args.upgrade { Signal::USR2 } else { Signal::HUP };
    kill_process(serving.pid, signal).with_context(|| format!("cannot signal process {}", serving.pid))?;
    if !args.upgrade {
        settings::say("told the running `serve` to read its config again; it says on its stderr how that went");
        return Ok(ExitCode::SUCCESS);
    }
    let pid = serving.pid;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::sleep(PAUSE);
        // For a moment it is nobody's, between the two.
        match Seen::at(&at) {
            Ok(Some(now)) if now.pid != pid => {
                settings::say(&format!(
                    "process {} serves now; process {pid} finishes what it has begun",
                    now.pid
                ));
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Some(now)) if now.note != serving.note => anyhow::bail!("{}; process {pid} goes on", now.said()),
            Ok(_) | Err(_) => {}
        }
    }
    anyhow::bail!("no new process has taken over from process {pid} in time; it says on its stderr why")
}

/// What a mark says.
struct Seen {
    pid: Pid,
    /// Of the last upgrade that failed, with its number before.
    note: String,
}

impl Seen {
    /// Reads a mark, if whoever left it still serves.
    fn at(path: &Path) -> Result<Option<Self>> {
        let mut file = File::open(path)?;
        // Whoever serves holds the lock; a file without one is left over.
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(None);
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let (pid, note) = text.split_once('\n').unwrap_or((&text, ""));
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
        Ok(Some(Self {
            pid: pid.context("the mark of the running `serve` is not readable")?,
            note: note.trim_end().to_owned(),
        }))
    }

    fn said(&self) -> &str {
        self.note.split_once(' ').map_or(&self.note, |(_, said)| said)
    }
}

/// The mark of a running `serve`: its pid in a locked file, one for each config.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
    notes: u32,
}

impl Mark {
    /// Leaves the mark.
    ///
    /// # Errors
    /// When it cannot be written. Another `serve` with the same config keeps the mark it has.
    pub fn leave(config: &Path) -> Result<Option<Self>> {
        let path = mark_of(config)?;
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        let mut file = opened.with_context(|| format!("cannot write {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            tracing::warn!("another `serve` runs with this config; `keyferry reload` will reach that one");
            return Ok(None);
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Some(Self { file, path, notes: 0 }))
    }

    /// Leaves word of an upgrade that failed, for whoever waits for it.
    pub fn note(&mut self, said: &str) {
        self.notes += 1;
        let line = format!("{}\n{} {}\n", std::process::id(), self.notes, said.replace('\n', " "));
        // In one write, so that nobody reads half of it; and without it the one who waits hears in the end all the same.
        let _ = self.file.rewind().and_then(|()| self.file.write_all(line.as_bytes()));
        let _ = self.file.set_len(line.len() as u64);
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn mark_of(config: &Path) -> Result<PathBuf> {
    let full = config
        .canonicalize()
        .with_context(|| format!("cannot read {}", config.display()))?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, full.as_os_str().as_encoded_bytes());
    let name: String = digest
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(settings::data_dir()?.join("run").join(format!("{name}.pid")))
}
