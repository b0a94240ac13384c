//! The command itself: started, signalled, waited for.

use super::Error;
use super::wall::lifeline::Lifeline;
use crate::base::wire::Wire;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
    waitpid,
};
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::task::Poll;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The hidden first argument under which Keyferry turns itself into the command; see [`become_command`].
pub const VERB: &str = "__child";

/// How a command ended, as the code a shell would give: its own, or 128 and the signal's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        let killed = || status.signal().map(|number| 128 + number);
        let code = status.code().or_else(killed).unwrap_or(1);
        Self(u8::try_from(code).unwrap_or(u8::MAX))
    }
}

/// Whether the command dies with Keyferry.
///
/// The kernel can send a process a signal when its parent dies, but only the process itself can ask
/// for it, between fork and exec; running code of ours there is `unsafe` in Rust. So Keyferry starts
/// itself, asks, and becomes the command: the wish outlives an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tether {
    /// By way of this program and [`VERB`].
    Through {
        /// The program.
        own: PathBuf,
        /// Control groups that it enters on the way, by the files that let it in.
        enter: Vec<PathBuf>,
    },
    /// It may outlive us.
    Loose,
}

impl Tether {
    /// By way of the running program, even if its file was replaced since.
    pub fn own_program() -> Self {
        Self::Through {
            own: "/proc/self/exe".into(),
            enter: Vec::new(),
        }
    }

    /// The same, within these control groups.
    pub fn entering(mut self, groups: Vec<PathBuf>) -> Self {
        if let Self::Through { enter, .. } = &mut self {
            *enter = groups;
        }
        self
    }
}

/// How signals reach a command.
#[derive(Debug)]
pub enum Signals<'s> {
    /// What reaches us is sent to it.
    Own,
    /// What reaches us is said to the bridge that stands before it.
    Said(&'s Lifeline),
    /// As [`Own`](Self::Own); and each byte that is read is sent to it, until there are no more, which ends it. `typed` says
    /// that what a terminal sends comes to it by itself, and not to us alone.
    Heard {
        /// Where the bytes come from.
        lifeline: &'s mut Wire,
        /// Whether it is at a terminal.
        typed: bool,
    },
}

impl Signals<'_> {
    /// The next byte that is said; never one where none is to come.
    async fn heard(&mut self) -> io::Result<u8> {
        match self {
            Self::Heard { lifeline, .. } => lifeline.read_u8().await,
            Self::Own | Self::Said(_) => std::future::pending().await,
        }
    }

    fn pass_on(&self, pid: Pid, signal: Signal) {
        let typed = matches!(signal, Signal::INT | Signal::QUIT);
        let has_it = match self {
            Self::Heard { typed: true, .. } => typed,
            _ => typed && at_the_terminal(),
        };
        let said = match self {
            Self::Said(lifeline) if !has_it => lifeline.say(signal).is_ok(),
            _ => has_it,
        };
        if !said {
            // It may have ended just now; then there is no one to tell.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Runs a command with exactly the variables of `env` and our standard streams, and waits for it.
///
/// What a terminal sends (`SIGINT`, `SIGQUIT`, `SIGWINCH`, stop and continue) goes to the whole
/// foreground group, so the command has it already and Keyferry only steps aside; without a
/// terminal, and for `SIGTERM` and `SIGHUP`, it is passed on.
///
/// # Errors
/// When there is no such command, it cannot be executed, or the system refuses to start it.
pub async fn run(
    command: &[OsString],
    env: Vec<(OsString, OsString)>,
    tether: &Tether,
    mut signals: Signals<'_>,
) -> Result<Exit, Error> {
    let (program, spawn) = tethered(command, env, tether)?;
    let mut arrivals = match signals {
        // Whoever built the wall ignores what a terminal sends; the command does not.
        Signals::Heard { typed: true, .. } => Arrivals::of(HEEDED),
        _ => Arrivals::watch(),
    };
    let failed = |cause| refused(&program, cause);
    let (pid, mut ended) = start(spawn).map_err(failed)?;
    let pid = pid.await.unwrap_or_else(|_| Err(lost())).map_err(failed)?;
    loop {
        tokio::select! {
            biased;
            status = &mut ended => return status.unwrap_or_else(|_| Err(lost())).map(Exit::from).map_err(failed),
            signal = arrivals.next() => signals.pass_on(pid, signal),
            heard = signals.heard() => match heard {
                Ok(number) => signalled(pid, number),
                Err(_) => return Err(failed(io::Error::other("Keyferry itself has ended"))),
            },
        }
    }
}

/// A command that is ready to be started, and where its program is.
pub(super) fn tethered(
    command: &[OsString],
    env: Vec<(OsString, OsString)>,
    tether: &Tether,
) -> Result<(PathBuf, Command), Error> {
    let (name, arguments) = command.split_first().ok_or(Error::NoCommand)?;
    let program = find(name, &env)?;
    let mut spawn = match tether {
        Tether::Loose => {
            let mut spawn = Command::new(&program);
            spawn.arg0(name);
            spawn
        }
        Tether::Through { own, enter } => {
            let mut spawn = Command::new(own);
            spawn
                .arg(VERB)
                .arg(std::process::id().to_string())
                .arg(enter.len().to_string())
                .args(enter)
                .arg(&program)
                .arg(name);
            spawn
        }
    };
    spawn.args(arguments).env_clear().envs(env);
    Ok((program, spawn))
}

pub(super) type Started = oneshot::Receiver<io::Result<Pid>>;
pub(super) type Ended = oneshot::Receiver<io::Result<ExitStatus>>;

/// Starts and waits on a thread of its own: the kernel's word on a dead parent is about the thread
/// that forked, and a worker of the runtime may end before the command does.
pub(super) fn start(mut spawn: Command) -> io::Result<(Started, Ended)> {
    let (pid_to, pid) = oneshot::channel();
    let (status_to, status) = oneshot::channel();
    let work = move || match spawn.spawn() {
        Err(cause) => drop(pid_to.send(Err(cause))),
        Ok(mut child) => {
            drop(pid_to.send(Ok(Pid::from_child(&child))));
            let first = std::process::id() == 1;
            drop(status_to.send(if first { wait_for_all(&child) } else { child.wait() }));
        }
    };
    std::thread::Builder::new().name("command".into()).spawn(work)?;
    Ok((pid, status))
}

/// Waits as the first process of a container does: whoever loses its parent becomes a child of ours, and would stay a
/// zombie, which counts against the container's processes.
fn wait_for_all(command: &Child) -> io::Result<ExitStatus> {
    let command = Pid::from_child(command);
    loop {
        match waitpid(None, WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => return Ok(ExitStatus::from_raw(status.as_raw())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) fn lost() -> io::Error {
    io::Error::other("the thread that waits for it ended")
}

/// Turns this process into the command: `PARENT COUNT GROUPS… PROGRAM ARG0 ARGS…`, for `keyferry __child`.
///
/// # Errors
/// Always, as success does not return.
pub fn become_command(arguments: &[OsString]) -> Result<Infallible, Error> {
    let [parent, count, rest @ ..] = arguments else {
        return Err(Error::NoCommand);
    };
    let count = count.to_str().and_then(|count| count.parse().ok());
    let Some((groups, [program, name, arguments @ ..])) = count.and_then(|count| rest.split_at_checked(count)) else {
        return Err(Error::NoCommand);
    };
    let failed = |cause: io::Error| Error::Start {
        command: name.clone(),
        cause,
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| failed(e.into()))?;
    // It may have died before the wish was made; then no signal will come.
    let alive = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if alive.as_deref().map(OsStr::new) != Some(parent.as_os_str()) {
        return Err(failed(io::Error::other("Keyferry itself has ended")));
    }
    for group in groups {
        std::fs::write(group, std::process::id().to_string()).map_err(failed)?;
    }
    let cause = Command::new(program).arg0(name).args(arguments).exec();
    Err(refused(Path::new(program), cause))
}

/// What the system's refusal to start it means.
pub(super) fn refused(program: &Path, cause: io::Error) -> Error {
    let no_program = cause.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error());
    match cause.kind() {
        io::ErrorKind::NotFound => Error::NotFound(program.into()),
        io::ErrorKind::PermissionDenied => Error::NotExecutable(program.into()),
        _ if no_program => Error::NotExecutable(program.into()),
        _ => Error::Start {
            command: program.into(),
            cause,
        },
    }
}

/// Finds the command as a shell would, on the `PATH` it will itself have.
pub(super) fn find(name: &OsStr, env: &[(OsString, OsString)]) -> Result<PathBuf, Error> {
    if name.as_bytes().contains(&b'/') {
        return runnable(Path::new(name)).map(|()| name.into());
    }
    let path = env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.as_os_str());
    let mut refused = None;
    for dir in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let dir = if dir.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            dir
        };
        let candidate = dir.join(name);
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Error::NotExecutable(there)) if there.is_file() => refused = Some(there),
            Err(_) => {}
        }
    }
    Err(refused.map_or_else(|| Error::NotFound(name.into()), Error::NotExecutable))
}

fn runnable(path: &Path) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(Error::NotExecutable(path.into())),
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Err(Error::NotExecutable(path.into())),
        Err(_) => Err(Error::NotFound(path.into())),
    }
}

/// Bounds the processes and threads of this user, where it is one of a namespace of its own, to so many.
///
/// # Errors
/// When the system does not let it.
pub fn bound_tasks(most: u64) -> Result<(), Error> {
    let held = getrlimit(Resource::Nproc).maximum;
    let most = Some(held.map_or(most, |held| held.min(most)));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nproc, limit).map_err(|error| Error::Start {
        command: "the command".into(),
        cause: error.into(),
    })
}

/// Those that are passed on.
const HEEDED: [Signal; 4] = [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT];

/// The signals that come in.
#[derive(Debug)]
pub struct Arrivals(Vec<(Signal, tokio::signal::unix::Signal)>);

impl Arrivals {
    /// Watches those the caller had not ignored: one that was (as under `nohup`) stays so, for us
    /// and for the command.
    pub fn watch() -> Self {
        let ignored = ignored();
        Self::of(HEEDED.into_iter().filter(|it| ignored & (1 << (it.as_raw() - 1)) == 0))
    }

    fn of(heeded: impl IntoIterator<Item = Signal>) -> Self {
        let heeded = heeded.into_iter();
        Self(
            heeded
                .filter_map(|it| Some((it, signal(SignalKind::from_raw(it.as_raw())).ok()?)))
                .collect(),
        )
    }

    /// The next of them.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (which, arrivals) in &mut self.0 {
                if arrivals.poll_recv(cx) == Poll::Ready(Some(())) {
                    return Poll::Ready(*which);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Sends a signal by its number, if there is one of that number.
fn signalled(pid: Pid, number: u8) {
    if let Some(signal) = Signal::from_named_raw(number.into()) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether our group is the one a terminal's keys go to.
fn at_the_terminal() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else {
        return false;
    };
    rustix::termios::tcgetpgrp(&terminal).is_ok_and(|front| front == rustix::process::getpgrp())
}

/// The mask of signals this process ignores; 0 when it cannot be read.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
