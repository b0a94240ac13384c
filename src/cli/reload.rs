//! `keyferry reload`: checks the config, then tells the `serve` that uses it to read it again.

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

/// Signals the running `serve`, if the config is one it can load.
///
/// # Errors
/// When the config has mistakes, or no `serve` uses it.
pub fn run(explicit: Option<&Path>) -> Result<ExitCode> {
    let path = config::find(explicit).ok_or(Failed::NoConfig)?;
    settings::need_config(Some(&path))?;
    let mark = mark_of(&path)?;
    let none = || format!("no `keyferry serve` of this user runs with {}", path.display());
    let mut file = File::open(&mark).with_context(none)?;
    // Whoever serves holds the lock; a file without one is left over.
    anyhow::ensure!(flock(&file, FlockOperation::NonBlockingLockShared).is_err(), none());
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let pid = text
        .trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .context("the mark of the running `serve` is not readable")?;
    kill_process(pid, Signal::HUP).with_context(|| format!("cannot signal process {text}"))?;
    settings::say("told the running `serve` to read its config again; it says on its stderr how that went");
    Ok(ExitCode::SUCCESS)
}

/// The mark of a running `serve`: its pid in a locked file, one for each config.
#[derive(Debug)]
pub struct Mark {
    file: File,
    path: PathBuf,
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
        Ok(Some(Self { file, path }))
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
