//! What is around the command of one run: its directory, its environment, and the wall, if there is one.

use super::serve::loopback;
use crate::config::model::{Bind, Listen, Speak};
use crate::launch::wall::bounds::{Bounds, Most};
use crate::launch::wall::engine::{self, Looking};
use crate::launch::wall::gvisor::{self, Appending};
use crate::launch::wall::lifeline::Lifeline;
use crate::launch::wall::mark::Mark;
use crate::launch::wall::{self, Built, Kind, Masked, Shared, User, vm};
use crate::launch::{self, Environment, Exit, Given};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A wall around a command, and what is shown to it of the machine.
#[derive(Debug)]
pub struct Wall {
    /// What builds it.
    pub kind: Kind,
    /// What is around the command, instead of the machine's own programs.
    pub image: Option<String>,
    /// How a machine is made, if it is one.
    pub machine: vm::Settings,
    /// Where it begins.
    pub workdir: Shared,
    /// What else it sees.
    pub mounts: Vec<Shared>,
    /// What of these looks like a credential and is shown all the same.
    pub unmask: Vec<PathBuf>,
    /// What it may use.
    pub most: Most,
}

impl Wall {
    /// Whose process the command is, inside.
    pub fn user(&self) -> User {
        self.kind.user(&self.workdir.path)
    }

    /// What of the files that are shown looks like a credential.
    fn masked(&self) -> Result<Vec<Masked>> {
        let shown = self.mounts.iter().chain([&self.workdir]);
        let roots: Vec<PathBuf> = shown.map(|one| one.path.clone()).collect();
        Ok(wall::sweep::sweep(&roots, &self.unmask)?)
    }

    /// Begins to ask for what the wall needs, which takes a while.
    pub(super) fn look(&self, caller: &[(OsString, OsString)], data_dir: &Path) -> Option<Looking> {
        let caller = caller.to_vec();
        match self.kind {
            Kind::Bwrap | Kind::Machine | Kind::Seatbelt => None,
            Kind::Container(engine) => Some(Looking::image(engine, self.image.clone(), caller)),
            Kind::Gvisor => Some(Looking::platform(caller, data_dir.join(gvisor::KNOWN))),
        }
    }
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
    wall: Option<Standing>,
}

/// What holds a wall up, and is to be gone with it.
#[derive(Debug)]
struct Standing {
    kind: Kind,
    built: Built,
    mark: Mark,
    terminal: bool,
    bounds: Option<Bounds>,
    /// The command may write there, and cannot.
    unwritable: Option<PathBuf>,
    /// As long as this is open, the bridge inside knows that Keyferry is there.
    lifeline: Lifeline,
}

impl Surrounded {
    /// Makes the environment, and the wall that is asked for. `further` are variables that come last, so they stand.
    ///
    /// # Errors
    /// When a file cannot be read or written, what is to be shown cannot be looked through, or the wall cannot be had.
    pub(super) fn build(
        wall: Option<(Wall, Option<Looking>)>,
        words: Vec<OsString>,
        caller: Vec<(OsString, OsString)>,
        given: &Given,
        further: Vec<(OsString, OsString)>,
    ) -> Result<Self> {
        let Some((wall, looking)) = wall else {
            let mut environment = launch::agent_environment(caller.into_iter(), given)?;
            environment.vars.extend(further);
            return Ok(Self {
                words,
                environment,
                masked: Vec::new(),
                wall: None,
            });
        };
        let environment = behind(&wall, &caller, given, further)?;
        let socket_dir = given.dir.with_file_name(SOCKET_DIR);
        let lifeline = Lifeline::open(&socket_dir).context("cannot make a socket for the bridge")?;
        let ways = [wall::ADDRESS, wall::GATEWAY].into_iter().zip(wall.kind.sockets());
        let ways = ways.filter(|(_, socket)| socket_dir.join(socket).exists());
        let place = Place {
            dir: given.dir.clone(),
            ways: ways
                .map(|(address, socket)| (address.to_owned(), socket.into()))
                .collect(),
            socket_dir,
            mark: Some(Mark::own()),
        };
        let (kind, most) = (wall.kind, wall.most);
        let plan = plan(wall, looking, words, environment.vars.clone(), place)?;
        let built = kind.build(&plan, caller)?;
        // Only root's command is another user outside.
        let foreign = !matches!(kind, Kind::Bwrap | Kind::Machine) && rustix::process::geteuid().is_root();
        let writable = plan.workdir.writable.then_some(plan.workdir.path);
        let bounds = kind.wants_bounds().then(|| Bounds::make(most).ok()).flatten();
        Ok(Self {
            words: built.words.clone(),
            environment,
            masked: plan.masked,
            wall: Some(Standing {
                kind,
                mark: Mark::own(),
                terminal: plan.terminal,
                bounds,
                unwritable: writable.filter(|dir| foreign && !plan.user.may_write(dir)),
                lifeline,
                built,
            }),
        })
    }

    /// The machine to be started, if that is its wall.
    pub(super) fn machine(&mut self) -> Option<vm::Machine> {
        self.wall.as_mut()?.built.machine.take()
    }

    /// How signals reach the command, where they would end the program that keeps its wall up.
    pub(super) fn lifeline(&self) -> Option<&Lifeline> {
        let wall = self.wall.as_ref().filter(|wall| wall.kind == Kind::Bwrap);
        wall.map(|wall| &wall.lifeline)
    }

    /// The wall's name.
    pub fn wall(&self) -> Option<&'static str> {
        self.wall.as_ref().map(|wall| wall.kind.name())
    }

    /// What its wall does not bound, in words, if that is anything.
    pub fn unbounded(&self) -> Option<&'static str> {
        let wall = self.wall.as_ref()?;
        let unbounded = wall.kind.wants_bounds() && wall.bounds.is_none();
        // Processes, bubblewrap's bridge bounds by itself.
        let what = if wall.kind == Kind::Bwrap {
            "memory is"
        } else {
            "memory and processes are"
        };
        unbounded.then_some(what)
    }

    /// Where it begins and is meant to write, if its user may not.
    pub fn unwritable(&self) -> Option<&Path> {
        self.wall.as_ref()?.unwritable.as_deref()
    }

    /// The control groups it enters.
    pub(super) fn groups(&self) -> Vec<PathBuf> {
        let bounds = self.wall.as_ref().and_then(|wall| wall.bounds.as_ref());
        bounds.map(Bounds::entries).unwrap_or_default()
    }

    /// The variables of the program that is started: those of the command, or of whoever builds its wall.
    pub(super) fn vars(&self) -> Vec<(OsString, OsString)> {
        let built = self.wall.as_ref().map(|wall| &wall.built.vars);
        built.unwrap_or(&self.environment.vars).clone()
    }

    /// Has the files that it prints to taken to their ends for as long as it runs, where its wall asks for that.
    pub(super) fn appending(&self) -> Option<Appending> {
        let wall = self.wall.as_ref()?;
        (wall.kind == Kind::Gvisor).then(Appending::begin)
    }

    /// Begins to remove what Keyferrys that were killed have left with an engine.
    pub(super) fn sweep(&self) {
        if let Some(Standing {
            kind: Kind::Container(engine),
            built,
            ..
        }) = &self.wall
        {
            let (engine, caller) = (*engine, built.vars.clone());
            std::thread::spawn(move || engine::sweep(engine, &caller));
        }
    }

    /// Removes what may be left of the wall now that its program has ended so.
    pub(super) fn clear(&self, exit: Option<Exit>) {
        let Some(Standing {
            kind: Kind::Container(engine),
            built,
            mark,
            terminal,
            ..
        }) = &self.wall
        else {
            return;
        };
        // A client that ended by itself has seen the end of the container, unless it was left by its keys, lost its
        // daemon, or was killed.
        let seen = exit.is_some_and(|Exit(code)| code < 125);
        if *terminal || !seen {
            engine::remove(*engine, &mark.name(), &built.vars);
        }
    }
}

/// The environment of a command behind a wall.
pub(super) fn behind(
    wall: &Wall,
    caller: &[(OsString, OsString)],
    given: &Given,
    further: Vec<(OsString, OsString)>,
) -> Result<Environment> {
    let imaged = wall.image.is_some();
    let passing = caller
        .iter()
        .filter(|(name, _)| wall::passes(name, imaged, &given.keep));
    let mut environment = launch::agent_environment(passing.cloned(), given)?;
    environment.vars.extend(further);
    wall::settle(&mut environment.vars);
    Ok(environment)
}

/// Where the files of a plan are, and what of Keyferry's is beside them.
pub(super) struct Place {
    /// As [`wall::Plan::dir`]; the roots are in it.
    pub(super) dir: PathBuf,
    /// As [`wall::Plan::socket_dir`].
    pub(super) socket_dir: PathBuf,
    /// As [`wall::Plan::ways`].
    pub(super) ways: wall::Ways,
    /// As [`wall::Plan::mark`]; without one, nobody holds a lifeline.
    pub(super) mark: Option<Mark>,
}

/// What a wall shows of all this, once everything it shares was looked through.
pub(super) fn plan(
    wall: Wall,
    looking: Option<Looking>,
    words: Vec<OsString>,
    vars: Vec<(OsString, OsString)>,
    place: Place,
) -> Result<wall::Plan> {
    let masked = wall.masked()?;
    let found = looking.map(Looking::end).transpose()?.unwrap_or_default();
    Ok(wall::Plan {
        words,
        vars,
        user: wall.user(),
        terminal: terminal(wall.kind),
        most: wall.most,
        masked,
        workdir: wall.workdir,
        mounts: wall.mounts,
        bundle: place.dir.join("bundle.pem"),
        dir: place.dir,
        socket_dir: place.socket_dir,
        ways: place.ways,
        program: std::env::current_exe().context("cannot find this program's own file")?,
        lifeline: place.mark.is_some(),
        image: found.image,
        platform: found.platform,
        mark: place.mark,
        machine: wall.machine,
    })
}

/// Whether a command gets the caller's terminal. An engine makes one of its own, which is of use only where both ends of
/// the caller's are.
fn terminal(kind: Kind) -> bool {
    let whole = kind == Kind::Bwrap || std::io::stdout().is_terminal();
    std::io::stdin().is_terminal() && whole
}

/// A directory for one run; those of runs that were killed go.
pub(super) fn directory() -> Result<TempDir> {
    sweep();
    let made = TempDir::with_prefix(format!("{RUN_DIR}{}-", std::process::id()));
    made.context("cannot make a directory for this run")
}

/// Where the proxy of a run listens: on loopback, or behind a wall on sockets that can be shown to the command. Whoever is
/// to come to these is another user inside some walls; nobody outside gets into the run's directory.
pub(super) fn listeners(wall: Option<&Wall>, gateway: bool, run_dir: &Path) -> Result<Vec<Listen>> {
    let [proxy, urls] = wall.map_or(Kind::Bwrap, |wall| wall.kind).sockets();
    let mut spoken = vec![(Speak::Proxy, proxy)];
    let base_urls = Speak::Gateway { names: Arc::default() };
    spoken.extend(gateway.then_some((base_urls, urls)));
    if wall.is_none() {
        return Ok(spoken.into_iter().map(|(speak, _)| loopback(speak)).collect());
    }
    let dir = run_dir.join(SOCKET_DIR);
    std::fs::create_dir(&dir)
        .and_then(|()| std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)))
        .context("cannot make a directory for the proxy's socket")?;
    let listen = |(speak, socket)| Listen {
        bind: Bind::Unix(dir.join(socket)),
        mode: Some(0o666),
        ..loopback(speak)
    };
    Ok(spoken.into_iter().map(listen).collect())
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
