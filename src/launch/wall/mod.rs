//! Walls: a command with files, processes and a network of its own, in which Keyferry is the only way out.
//!
//! What a wall shows is one [`Plan`]; each kind of wall turns it into the command line of a program that builds it.

pub mod bounds;
pub mod bwrap;
pub mod carried;
pub mod choice;
pub mod daemon;
pub mod docker;
pub mod engine;
pub mod gvisor;
pub mod inside;
pub mod lifeline;
pub mod mark;
pub mod oci;
pub mod printed;
pub mod seatbelt;
pub mod seccomp;
pub mod skeleton;
pub mod sweep;
pub mod vm;

use super::Error;
use bounds::Most;
use engine::{Engine, Image};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
pub use sweep::Masked;

/// What builds a wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// bubblewrap.
    Bwrap,
    /// Docker or Podman, with the machine's kernel or gVisor's.
    Container(Engine),
    /// gVisor, without an engine.
    Gvisor,
    /// A virtual machine, by QEMU.
    Machine,
    /// macOS' own, which is only printed.
    Seatbelt,
}

/// What is shown to a command, and what it is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Program and arguments.
    pub words: Vec<OsString>,
    /// Its environment.
    pub vars: Vec<(OsString, OsString)>,
    /// Whose process it is, inside.
    pub user: User,
    /// Whether it has the caller's terminal, which an interactive program needs to hear of its size and keys.
    pub terminal: bool,
    /// What it may use.
    pub most: Most,
    /// Where the command begins; shown to it.
    pub workdir: Shared,
    /// What else of the machine's files it is shown.
    pub mounts: Vec<Shared>,
    /// What is covered of all these.
    pub masked: Vec<Masked>,
    /// Files the environment refers to, and [`Etc`](inside::Etc); shown at the same path, read-only.
    pub dir: PathBuf,
    /// The directory with the proxy's sockets.
    pub socket_dir: PathBuf,
    /// This program, which is the bridge inside.
    pub program: PathBuf,
    /// The roots that lie over the system's own.
    pub bundle: PathBuf,
    /// Addresses inside, and the sockets in that directory that they lead to.
    pub ways: Ways,
    /// Whether the bridge, and all with it, ends when nobody holds [`LIFELINE`] any more.
    pub lifeline: bool,
    /// What is around the command instead of the machine's own programs.
    pub image: Option<Image>,
    /// How gVisor gets hold of system calls; of no meaning to others.
    pub platform: &'static str,
    /// Whose wall this is, on a machine that has several; nobody's, if it is only printed.
    pub mark: Option<mark::Mark>,
    /// How a machine is made, if it is one.
    pub machine: vm::Settings,
}

/// Addresses inside, and the sockets that they lead to.
pub type Ways = Vec<(String, OsString)>;

/// Whose process a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A command line that builds a wall with the command inside.
#[derive(Debug)]
pub struct Built {
    /// Program and arguments.
    pub words: Vec<OsString>,
    /// The variables of the program that builds it, which need not be the command's.
    pub vars: Vec<(OsString, OsString)>,
    /// To be kept open until the wall stands.
    pub open: Option<File>,
    /// The machine to start, instead of the program.
    pub machine: Option<vm::Machine>,
}

impl Kind {
    /// What it is called, as `--sandbox` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bwrap => "bwrap",
            Self::Container(engine) => engine.wall(),
            Self::Gvisor => "gvisor",
            Self::Machine => "vm",
            Self::Seatbelt => "seatbelt",
        }
    }

    /// What the proxy's sockets are called in their directory: its own, and that of base URLs.
    pub fn sockets(self) -> [String; 2] {
        match self {
            Self::Machine => [vm::talk::PROXY, vm::talk::GATEWAY].map(|port| format!("{}{port}", vm::SOCKET_PREFIX)),
            Self::Bwrap | Self::Container(_) | Self::Gvisor | Self::Seatbelt => {
                [SOCKET, GATEWAY_SOCKET].map(str::to_owned)
            }
        }
    }

    /// Whether Keyferry itself has to bound memory and processes ([`bounds`]).
    pub fn wants_bounds(self) -> bool {
        match self {
            Self::Bwrap | Self::Gvisor => true,
            Self::Container(_) | Self::Machine | Self::Seatbelt => false,
        }
    }

    /// Whose process a command is, that begins in `workdir`.
    pub fn user(self, workdir: &Path) -> User {
        match self {
            Self::Bwrap | Self::Machine | Self::Seatbelt => User::caller(),
            Self::Container(_) => User::owner(workdir),
            // Without root it maps no other user than its own root, who is the caller outside.
            Self::Gvisor if !rustix::process::geteuid().is_root() => User { uid: 0, gid: 0 },
            Self::Gvisor => User::owner(workdir),
        }
    }

    /// The command line for a plan, and the files that it needs. `caller` is the caller's own environment.
    ///
    /// # Errors
    /// When the program that builds the wall is missing, or the files cannot be written.
    pub fn build(self, plan: &Plan, caller: Vec<(OsString, OsString)>) -> Result<Built, Error> {
        match self {
            Self::Bwrap => bwrap::build(plan),
            Self::Container(engine) => docker::build(engine, plan, caller),
            Self::Gvisor => gvisor::build(plan, caller),
            Self::Machine => vm::build(plan),
            Self::Seatbelt => Err(Error::NoWall(
                "macOS' sandbox",
                "`keyferry sandbox print` prints its profile",
            )),
        }
    }
}

impl User {
    /// The caller; for root, 1000: root's files are its own inside as well where users are mapped, but many programs
    /// refuse to be root.
    pub fn caller() -> Self {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let inside = |id: u32| if id == 0 { ORDINARY } else { id };
        Self {
            uid: inside(uid.as_raw()),
            gid: inside(gid.as_raw()),
        }
    }

    /// The caller; for root, whoever owns the directory, so that it can be written to, and 1000 where that is root too.
    pub fn owner(dir: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        match fs::metadata(dir) {
            Ok(meta) if rustix::process::getuid().is_root() && meta.uid() != 0 => Self {
                uid: meta.uid(),
                gid: meta.gid(),
            },
            _ => Self::caller(),
        }
    }

    /// Whether it may write into a directory of the machine's that is shown to it, as far as owners and modes tell.
    pub fn may_write(self, dir: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(dir).is_ok_and(|meta| {
            let bits = match (meta.uid() == self.uid, meta.gid() == self.gid) {
                (true, _) => meta.mode() >> 6,
                (false, true) => meta.mode() >> 3,
                (false, false) => meta.mode(),
            };
            bits & 0o3 == 0o3
        })
    }
}

/// Root's, inside.
const ORDINARY: u32 = 1000;

/// A directory or file of the machine's, shown at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Which; absolute, with no link in it.
    pub path: PathBuf,
    /// Whether the command may write there.
    pub writable: bool,
}

/// The proxy's socket in its directory.
pub const SOCKET: &str = "proxy.sock";
/// That of base URLs.
pub const GATEWAY_SOCKET: &str = "gateway.sock";
/// One that is there as long as Keyferry is.
pub const LIFELINE: &str = "life.sock";
/// Where the proxy is, as seen from inside.
pub const ADDRESS: &str = "127.0.0.1:3128";
/// Where base URLs are, as seen from inside.
pub const GATEWAY: &str = "127.0.0.1:3129";
/// Bytes that fit into `/tmp`, into the home and into `/dev/shm`, each.
const ROOM: u64 = 2 * 1024 * 1024 * 1024;
/// The command's home: empty, and gone with it.
pub const HOME: &str = "/home/agent";
/// Where Keyferry's own things are, inside.
const OWN: &str = "/run/keyferry";

impl Shared {
    /// Reads `PATH`, `PATH:ro` or `PATH:rw`; without a word, read-only unless `writable`.
    ///
    /// # Errors
    /// When there is no such path, or an engine's socket is there.
    pub fn parse(text: &OsStr, writable: bool) -> Result<Self, Error> {
        let spelled = text.to_str();
        let (path, writable) = match spelled.and_then(|text| text.rsplit_once(':')) {
            Some((path, "ro")) => (Path::new(path), false),
            Some((path, "rw")) => (Path::new(path), true),
            _ => (Path::new(text), writable),
        };
        let path = fs::canonicalize(path).map_err(|cause| Error::File {
            what: "cannot share",
            path: path.to_owned(),
            cause,
        })?;
        if let Some(socket) = engine_socket(&path) {
            return Err(Error::EngineSocket(path, socket));
        }
        Ok(Self { path, writable })
    }
}

/// A socket at or below a path by which whoever reaches it has containers made, and so is as good as root.
fn engine_socket(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let own = format!("/run/user/{}", rustix::process::getuid().as_raw());
    let places = [
        "/run",
        "/run/containerd",
        "/run/podman",
        "/run/crio",
        &own,
        &format!("{own}/podman"),
    ]
    .map(PathBuf::from);
    let places = places
        .into_iter()
        .filter(|place| place.starts_with(path))
        .chain([path.to_owned()]);
    let below = places.flat_map(|place| SOCKETS.iter().map(move |name| place.join(name)));
    let itself = SOCKETS.iter().any(|name| path.ends_with(name)).then(|| path.to_owned());
    below
        .chain(itself)
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket()))
}

/// What engines call theirs.
const SOCKETS: &[&str] = &["docker.sock", "podman.sock", "containerd.sock", "crio.sock"];

impl Plan {
    /// `keyferry bridge` with its flags, up to the command; `program` is how it is started inside.
    fn bridge(&self, program: &[String]) -> Vec<OsString> {
        let place = |socket: &OsStr| {
            let mut place = OsString::from(format!("unix:{OWN}/proxy/"));
            place.push(socket);
            place
        };
        let mut words: Vec<OsString> = program.iter().map(Into::into).collect();
        words.push("bridge".into());
        for (listen, socket) in &self.ways {
            words.extend(["--listen".into(), listen.into(), "--to".into(), place(socket)]);
        }
        if self.lifeline {
            words.extend(["--lifeline".into(), place(LIFELINE.as_ref())]);
        }
        words.push("--".into());
        words
    }

    /// What the caller shares, the shallower first.
    fn shared(&self) -> Vec<&Shared> {
        let mut shared: Vec<&Shared> = self.mounts.iter().chain([&self.workdir]).collect();
        shared.sort_by_key(|one| one.path.components().count());
        shared
    }
}

/// Of the caller's variables, those that say nothing but how a program should look and speak, and those of `keep`. Those that
/// lead to the machine's own programs mean nothing in an image.
pub fn passes(name: &OsStr, imaged: bool, keep: &[String]) -> bool {
    let name = name.to_string_lossy();
    let passed = PASSED.contains(&&*name) || name.starts_with("LC_") || !imaged && MACHINES.contains(&&*name);
    passed || keep.iter().any(|kept| *kept == name)
}

/// Has the environment say where and who the command is behind a wall.
pub fn settle(vars: &mut Vec<(OsString, OsString)>) {
    let inside = [
        ("HOME", HOME),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("TMPDIR", "/tmp"),
    ];
    vars.retain(|(name, _)| inside.iter().all(|(own, _)| name != own));
    vars.extend(inside.map(|(name, value)| (name.into(), value.into())));
}

const MACHINES: &[&str] = &["PATH", "JAVA_HOME"];

const PASSED: &[&str] = &[
    "LANG",
    "LANGUAGE",
    "TERM",
    "TERM_PROGRAM",
    "COLORTERM",
    "COLORFGBG",
    "COLUMNS",
    "LINES",
    "TZ",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "CI",
    "DEBIAN_FRONTEND",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "GOFLAGS",
    "NODE_ENV",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_engines_socket_is_shared_with_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let share = |path: &Path| Shared::parse(path.as_os_str(), false);
        fs::write(dir.path().join("podman.sock"), "a file").unwrap();
        assert!(share(dir.path()).is_ok());
        let socket = dir.path().join("docker.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [dir.path(), &socket] {
            let told = share(path).unwrap_err().to_string();
            assert!(told.contains("as good as root"), "{told}");
        }
    }
}
