//! bubblewrap: namespaces of the command's own for users, processes, files, network, IPC and host name.
//!
//! Inside is no network but loopback, where Keyferry's bridge listens and passes on to the proxy's socket.

use super::super::Error;
use super::inside::{BESIDE_USR, ETC, Etc, HIDDEN, MACHINES, PRIVATE, STORES, unwritten};
use super::{Built, HOME, OWN, Plan, ROOM, seccomp};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Makes the filter and the files of `/etc`, and the command line that puts the plan's command behind the wall.
///
/// # Errors
/// When there is no `bwrap`, or the files cannot be written.
pub fn build(plan: &Plan) -> Result<Built, Error> {
    let bwrap = find().ok_or(Error::NoWall("bubblewrap", "install the package `bubblewrap`"))?;
    let filter = filter(plan)?;
    let mut words: Vec<OsString> = Vec::new();
    if plan.terminal {
        // What its keys send is for the command, which is in the same group; who keeps the wall up must not end of it.
        words.extend(["/bin/sh", "-c", "trap '' INT QUIT; exec \"$@\"", "sh"].map(OsString::from));
    }
    words.push(bwrap.into_os_string());
    words.extend(arguments(plan, filter.as_raw_fd()));
    Ok(Built {
        words,
        vars: plan.vars.clone(),
        open: Some(filter),
        machine: None,
    })
}

/// The filter of system calls, in a file that whatever is started inherits; and the files of `/etc`.
///
/// # Errors
/// When they cannot be written.
pub(super) fn filter(plan: &Plan) -> Result<File, Error> {
    let path = write(plan)?;
    let failed = |cause| unwritten(&path, cause);
    let filter = File::open(&path).map_err(failed)?;
    // The wall's builder reads it, so it must outlive the exec.
    rustix::io::fcntl_setfd(&filter, rustix::io::FdFlags::empty()).map_err(|e| failed(e.into()))?;
    Ok(filter)
}

/// Writes the files of `/etc` and the filter, and says where that is.
///
/// # Errors
/// When the system does not let it.
pub(super) fn write(plan: &Plan) -> Result<PathBuf, Error> {
    Etc::write(&plan.dir, plan.user)?;
    let path = plan.dir.with_file_name("seccomp.bpf");
    let program = seccomp::program().map_err(|why| unwritten(&path, io::Error::other(why)))?;
    fs::write(&path, program).map_err(|cause| unwritten(&path, cause))?;
    Ok(path)
}

/// The arguments for `bwrap`, which reads the filter of system calls from that descriptor.
pub fn arguments(plan: &Plan, filter: i32) -> Vec<OsString> {
    let mut line = Line(Vec::new());
    line.namespaces(plan, plan.terminal);
    line.system(plan);
    line.own(plan);
    line.shared(plan, "");
    line.add(["--remount-ro", "/"]);
    line.add([OsStr::new("--chdir"), plan.workdir.path.as_os_str()]);
    line.add(["--seccomp".to_owned(), filter.to_string()]);
    line.add(["--"]);
    let mut bridge = plan.bridge(&[format!("{OWN}/keyferry")]);
    // Before the command. Processes are counted in the namespace of users, for which no right is needed.
    let end = bridge.split_off(bridge.len() - 1);
    bridge.extend(["--tasks".into(), plan.most.tasks.to_string().into()]);
    for place in writable(plan) {
        bridge.extend(["--writable".into(), place.into()]);
    }
    bridge.extend((plan.terminal && plan.lifeline).then(|| "--foreground".into()));
    line.add(bridge);
    line.add(end);
    line.add(&plan.words);
    line.0
}

/// Where the command may write, as its mounts are and as Landlock is told, so that a mistake in one of them is none in both.
fn writable(plan: &Plan) -> Vec<PathBuf> {
    let own = ["/tmp", "/dev/shm", HOME].map(PathBuf::from);
    let shared = plan.shared().into_iter().filter(|one| one.writable);
    own.into_iter().chain(shared.map(|one| one.path.clone())).collect()
}

/// Arguments being written.
pub(super) struct Line(pub(super) Vec<OsString>);

impl Line {
    pub(super) fn add<T: Into<OsString>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.0.extend(words.into_iter().map(Into::into));
    }

    pub(super) fn bind(&mut self, how: &str, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) {
        self.add([OsStr::new(how), from.as_ref(), to.as_ref()].map(OsStr::to_owned));
    }

    pub(super) fn namespaces(&mut self, plan: &Plan, terminal: bool) {
        self.add([
            "--unshare-all",
            "--unshare-user",
            "--disable-userns",
            "--die-with-parent",
        ]);
        if !terminal {
            self.add(["--new-session"]);
        }
        self.add(["--cap-drop", "ALL", "--hostname", "agent"]);
        self.add(["--uid".to_owned(), plan.user.uid.to_string()]);
        self.add(["--gid".to_owned(), plan.user.gid.to_string()]);
    }

    fn system(&mut self, plan: &Plan) {
        self.programs(plan, "");
        self.proc(plan);
        self.add(["--dev", "/dev"]);
        self.room("/dev/shm");
        self.add(["--remount-ro", "/dev"]);
        self.room("/tmp");
        self.add(["--symlink", "/tmp", "/var/tmp"]);
        self.add(["--perms", "0700"]);
        self.room(HOME);
    }

    /// The programs and libraries of the machine, and what of `/etc` they need, below `at`; nothing that is somebody's.
    pub(super) fn programs(&mut self, plan: &Plan, at: &str) {
        self.bind("--ro-bind", "/usr", format!("{at}/usr"));
        for name in BESIDE_USR {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => self.bind("--symlink", target, below(at, &path)),
                Err(_) if path.is_dir() => self.bind("--ro-bind", &path, below(at, &path)),
                Err(_) => {}
            }
        }
        for path in ETC {
            self.bind("--ro-bind-try", path, format!("{at}{path}"));
        }
        for dir in PRIVATE.iter().map(Path::new).filter(|dir| dir.is_dir()) {
            self.hide(&below(at, dir));
        }
        for store in STORES.iter().map(Path::new) {
            // Where it is a link, what it leads to is among these too, or in /usr.
            if fs::symlink_metadata(store).is_ok_and(|meta| meta.is_file()) {
                self.bind("--ro-bind", &plan.bundle, below(at, store));
            }
        }
        for name in Etc::NAMES {
            self.bind("--ro-bind", plan.dir.join("etc").join(name), format!("{at}/etc/{name}"));
        }
    }

    /// What of `/proc` is the machine's. Its files are root's, and root inside, whatever its number there, owns them:
    /// no capability is asked of who writes `/proc/sys/kernel/core_pattern`.
    fn proc(&mut self, plan: &Plan) {
        self.add(["--proc", "/proc"]);
        for path in MACHINES.iter().map(Path::new).filter(|path| path.exists()) {
            self.bind("--ro-bind", path, path);
        }
        for path in HIDDEN.iter().map(Path::new).filter(|path| path.exists()) {
            if path.is_dir() {
                self.hide(path);
            } else {
                self.bind("--ro-bind", plan.dir.join("etc/resolv.conf"), path);
            }
        }
    }

    fn room(&mut self, path: &str) {
        self.add(["--size".to_owned(), ROOM.to_string(), "--tmpfs".into(), path.into()]);
    }

    fn own(&mut self, plan: &Plan) {
        self.bind("--ro-bind", &plan.program, format!("{OWN}/keyferry"));
        self.bind("--ro-bind", &plan.socket_dir, format!("{OWN}/proxy"));
        self.bind("--ro-bind", &plan.dir, &plan.dir);
    }

    /// What the caller shares, and over it what is masked; all of it below `at`.
    pub(super) fn shared(&mut self, plan: &Plan, at: &str) {
        for one in plan.shared() {
            let how = if one.writable { "--bind" } else { "--ro-bind" };
            self.bind(how, &one.path, below(at, &one.path));
        }
        let empty = plan.dir.join("etc/resolv.conf");
        for masked in &plan.masked {
            if masked.dir {
                self.hide(&below(at, &masked.path));
            } else {
                self.bind("--ro-bind", &empty, below(at, &masked.path));
            }
        }
    }

    fn hide(&mut self, dir: &Path) {
        for how in ["--tmpfs", "--remount-ro"] {
            self.add([OsStr::new(how), dir.as_os_str()]);
        }
    }
}

/// An absolute path as it is called below another.
pub(super) fn below(at: &str, path: &Path) -> PathBuf {
    let mut below = OsString::from(at);
    below.push(path);
    below.into()
}

/// Where `bwrap` is, on a path that no caller's `PATH` leads astray.
pub fn find() -> Option<PathBuf> {
    let dirs = ["/usr/bin", "/usr/local/bin", "/bin", "/run/current-system/sw/bin"];
    dirs.iter()
        .map(|dir| Path::new(dir).join("bwrap"))
        .find(|path| path.is_file())
}
