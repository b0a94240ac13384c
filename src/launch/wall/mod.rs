//! Walls: a command with files, processes and a network of its own, in which Keyferry is the only way out.
//!
//! What a wall shows is one [`Plan`]; each kind of wall turns it into the command line of a program that builds it.

pub mod bounds;
pub mod bwrap;
pub mod seccomp;
pub mod sweep;

use super::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
pub use sweep::Masked;

/// What is shown to a command, and what it is.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Program and arguments.
    pub words: Vec<OsString>,
    /// Where the command begins; shown to it.
    pub workdir: Shared,
    /// What else of the machine's files it is shown.
    pub mounts: Vec<Shared>,
    /// What is covered of all these.
    pub masked: Vec<Masked>,
    /// Files the environment refers to, and [`Etc`]; shown at the same path, read-only.
    pub dir: PathBuf,
    /// The directory with the proxy's socket, of the name [`SOCKET`].
    pub socket_dir: PathBuf,
    /// This program, which is the bridge inside.
    pub program: PathBuf,
    /// The roots that lie over the system's own.
    pub bundle: PathBuf,
}

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
/// Where the proxy is, as seen from inside.
pub const ADDRESS: &str = "127.0.0.1:3128";
/// The command's home: empty, and gone with it.
pub const HOME: &str = "/home/agent";
/// Where Keyferry's own things are, inside.
const OWN: &str = "/run/keyferry";

impl Shared {
    /// Reads `PATH`, `PATH:ro` or `PATH:rw`; without a word, read-only unless `writable`.
    ///
    /// # Errors
    /// When there is no such path.
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
        Ok(Self { path, writable })
    }
}

/// The files of `/etc` that are made for a command.
#[derive(Debug)]
pub struct Etc;

impl Etc {
    /// Writes them into `dir`.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn write(dir: &Path, uid: u32, gid: u32) -> Result<(), Error> {
        let dir = dir.join("etc");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| Error::File {
                what: "cannot write",
                path,
                cause,
            }
        };
        fs::create_dir_all(&dir).map_err(failed(&dir))?;
        let files = [
            ("passwd", format!("agent:x:{uid}:{gid}:agent:{HOME}:/bin/sh\n")),
            ("group", format!("agent:x:{gid}:\n")),
            ("hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
            // There is no resolver inside: names are the proxy's business.
            ("resolv.conf", String::new()),
            (
                "nsswitch.conf",
                "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
            ),
        ];
        for (name, text) in files {
            let path = dir.join(name);
            fs::write(&path, text).map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// Of the caller's variables, those that say nothing but how a program should look and speak, and those of `keep`.
pub fn passes(name: &OsStr, keep: &[String]) -> bool {
    let name = name.to_string_lossy();
    PASSED.contains(&&*name) || name.starts_with("LC_") || keep.iter().any(|kept| *kept == name)
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

const PASSED: &[&str] = &[
    "PATH",
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
    "JAVA_HOME",
    "GOFLAGS",
    "NODE_ENV",
];
