//! What is around the command of one run: its directory, its environment, and the wall, if there is one.

use super::serve::loopback;
use crate::config::model::{Bind, Listen, Speak};
use crate::launch::wall::bounds::{Bounds, Most};
use crate::launch::wall::{self, Masked, Shared};
use crate::launch::{self, Environment, Given};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A wall around a command, and what is shown to it of the machine.
#[derive(Debug)]
pub struct Wall {
    /// Where it begins.
    pub workdir: Shared,
    /// What else it sees.
    pub mounts: Vec<Shared>,
    /// What of these looks like a credential and is shown all the same.
    pub unmask: Vec<PathBuf>,
    /// What it may use.
    pub most: Most,
}

/// A command, as it is started.
#[derive(Debug)]
pub struct Surrounded {
    /// Program and arguments, the wall's before the command's own.
    pub words: Vec<OsString>,
    /// Its environment.
    pub environment: Environment,
    /// What is covered of the files it is shown.
    pub masked: Vec<Masked>,
    /// Open until the command ends, for the program that builds the wall.
    filter: Option<File>,
    bounds: Option<Bounds>,
}

impl Surrounded {
    /// Makes the environment, and the wall that is asked for.
    ///
    /// # Errors
    /// When a file cannot be read or written, what is to be shown cannot be looked through, or the wall cannot be had.
    pub(super) fn build(
        wall: Option<Wall>,
        words: Vec<OsString>,
        caller: Vec<(OsString, OsString)>,
        given: &Given,
    ) -> Result<Self> {
        let caller = caller.into_iter();
        let Some(wall) = wall else {
            return Ok(Self {
                words,
                environment: launch::agent_environment(caller, given)?,
                masked: Vec::new(),
                filter: None,
                bounds: None,
            });
        };
        let passing = caller.filter(|(name, _)| wall::passes(name, &given.keep));
        let mut environment = launch::agent_environment(passing, given)?;
        wall::settle(&mut environment.vars);
        let shown = wall.mounts.iter().chain([&wall.workdir]);
        let roots: Vec<PathBuf> = shown.map(|one| one.path.clone()).collect();
        let plan = wall::Plan {
            words,
            masked: wall::sweep::sweep(&roots, &wall.unmask)?,
            workdir: wall.workdir,
            mounts: wall.mounts,
            socket_dir: given.dir.with_file_name(SOCKET_DIR),
            dir: given.dir.clone(),
            program: std::env::current_exe().context("cannot find this program's own file")?,
            bundle: given.dir.join("bundle.pem"),
        };
        let built = wall::bwrap::build(&plan)?;
        Ok(Self {
            words: built.words,
            environment,
            masked: plan.masked,
            filter: Some(built.filter),
            bounds: Bounds::make(wall.most).ok(),
        })
    }

    /// Whether it is behind a wall that bounds neither its memory nor its processes.
    pub fn unbounded(&self) -> bool {
        self.filter.is_some() && self.bounds.is_none()
    }

    /// The control groups it enters.
    pub(super) fn groups(&self) -> Vec<PathBuf> {
        self.bounds.as_ref().map(Bounds::entries).unwrap_or_default()
    }
}

/// A directory for one run; those of runs that were killed go.
pub(super) fn directory() -> Result<TempDir> {
    sweep();
    let made = TempDir::with_prefix(format!("{RUN_DIR}{}-", std::process::id()));
    made.context("cannot make a directory for this run")
}

/// Where the proxy of a run listens: on loopback, or behind a wall on a socket that can be shown to the command.
pub(super) fn listener(wall: Option<&Wall>, run_dir: &Path) -> Result<Listen> {
    if wall.is_none() {
        return Ok(loopback(Speak::Proxy));
    }
    let dir = run_dir.join(SOCKET_DIR);
    std::fs::create_dir(&dir).context("cannot make a directory for the proxy's socket")?;
    Ok(Listen {
        bind: Bind::Unix(dir.join(wall::SOCKET)),
        mode: Some(0o600),
        ..loopback(Speak::Proxy)
    })
}

/// In a run's directory, the one with the proxy's socket.
const SOCKET_DIR: &str = "proxy";
/// How the directory of a run is named, before its process and what makes it its own.
const RUN_DIR: &str = "keyferry-run-";

/// Removes what runs of this user left that were killed.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    let ours = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(RUN_DIR)?.split('-').next());
        let meta = entry.metadata().ok().filter(|meta| meta.is_dir() && meta.uid() == ours);
        if let (Some(process), Some(_)) = (process, meta)
            && !Path::new("/proc").join(process).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
