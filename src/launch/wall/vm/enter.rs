//! The last step inside a machine: from the first process, which is root, to the command, which is nobody's.

use super::super::super::child::{find, refused};
use super::super::seccomp;
use super::talk::Order;
use super::{Error, failed, inside};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::CapabilitySet;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The hidden first argument under which this program becomes the command.
pub const VERB: &str = "__enter";
/// Instead of a terminal's path.
const NONE: &str = "-";

/// Starts the order's command, on this terminal if it is to have one, else on pipes. The first process waits for it.
///
/// # Errors
/// What the kernel said.
pub fn start(order: &Order, terminal: Option<&Path>) -> io::Result<Child> {
    let text = |bytes: &Vec<u8>| OsString::from_vec(bytes.clone());
    let (uid, gid) = order.owner;
    let mut spawn = Command::new("/proc/self/exe");
    spawn.arg(VERB);
    spawn.args([uid, gid, order.tasks].map(|number| number.to_string()));
    spawn.arg(terminal.map_or(OsStr::new(NONE), Path::as_os_str));
    spawn.arg(text(&order.workdir)).args(order.words.iter().map(text));
    spawn.env_clear();
    for variable in &order.variables {
        let at = variable.iter().position(|byte| *byte == b'=').unwrap_or(variable.len());
        let (name, value) = variable.split_at(at);
        spawn.env(
            OsStr::from_bytes(name),
            OsStr::from_bytes(value.get(1..).unwrap_or_default()),
        );
    }
    let stream = || {
        if terminal.is_some() {
            Stdio::null()
        } else {
            Stdio::piped()
        }
    };
    spawn.stdin(stream()).stdout(stream()).stderr(stream()).spawn()
}

/// `UID GID TASKS TERMINAL WORKDIR PROGRAM ARGS…`: gives up what the first process has, and becomes the command.
///
/// # Errors
/// Always, as success does not return.
pub fn become_command(arguments: &[OsString]) -> Result<Infallible, Error> {
    let [uid, gid, tasks, terminal, workdir, words @ ..] = arguments else {
        return Err(Error::NoCommand);
    };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u32>().ok());
    let (Some(uid), Some(gid), Some(tasks)) = (number(uid), number(gid), number(tasks)) else {
        return Err(Error::NoCommand);
    };
    let [name, rest @ ..] = words else {
        return Err(Error::NoCommand);
    };
    let apart = rustix::process::setsid().map_err(io::Error::from);
    let entered = apart.and_then(|_| inside::enter_root());
    let ready = entered.and_then(|()| {
        if terminal == NONE {
            Ok(())
        } else {
            take(Path::new(terminal))
        }
    });
    ready
        .and_then(|()| drop_all(uid, gid, tasks))
        .map_err(|error| failed(format!("cannot prepare the command: {error}")))?;
    std::env::set_current_dir(workdir).map_err(|error| failed(format!("{}: {error}", workdir.display())))?;
    let env: Vec<_> = std::env::vars_os().collect();
    let program = find(name, &env)?;
    let cause = Command::new(&program).arg0(name).args(rest).exec();
    Err(refused(&program, cause))
}

/// Makes a terminal the session's own, and its streams ours. What opens it first in a session has it.
fn take(terminal: &Path) -> io::Result<()> {
    let terminal = rustix::fs::open(terminal, OFlags::RDWR, Mode::empty())?;
    rustix::stdio::dup2_stdin(&terminal)?;
    rustix::stdio::dup2_stdout(&terminal)?;
    rustix::stdio::dup2_stderr(&terminal)?;
    Ok(())
}

/// Becomes that user for good. Root of a machine keeps what root has: the machine is its wall.
fn drop_all(uid: u32, gid: u32, tasks: u32) -> io::Result<()> {
    if uid == 0 {
        return Ok(());
    }
    let most = Some(u64::from(tasks));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    rustix::process::setrlimit(Resource::Nproc, limit)?;
    for bit in 0..64 {
        // Beyond the last one that this kernel knows there is nothing to drop.
        let _ = rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit));
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::set_no_new_privs(true)?;
    seccomp::enter().map_err(io::Error::other)
}
