//! The system's own trust store: puts a CA into it and takes it out again, by the distribution's own
//! command. For programs that neither `keyferry run` nor a variable reaches.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why the system's trust store could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None of the known ones is here.
    #[error(
        "this system's trust store is of no kind Keyferry knows (is the package `ca-certificates` installed?); \
         write the certificate to a file with `keyferry ca export --out ca.crt` and add it by the system's own means"
    )]
    Unknown,
    /// Only root may.
    #[error("`{}` may only be changed by root; run: {by_hand}", folder.display())]
    NotRoot {
        /// Where certificates are put.
        folder: PathBuf,
        /// Commands that do the same with `sudo`.
        by_hand: String,
    },
    /// A file could not be read, written or removed.
    #[error("{what} `{}`: {source}", path.display())]
    File {
        /// `cannot write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The distribution's command did not do its part.
    #[error("`{}` failed ({why}); run it again once the cause is gone", program.display())]
    Command {
        /// Which.
        program: PathBuf,
        /// Its exit status and last words, or why it did not start.
        why: String,
    },
}

/// One way in which distributions keep what their programs trust.
#[derive(Debug)]
struct Kind {
    /// A folder that only this kind has.
    known_by: &'static str,
    /// Where an administrator's certificates go.
    folder: &'static str,
    /// What their names must end in.
    suffix: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    // Fedora, RHEL, Amazon Linux.
    Kind {
        known_by: "/etc/pki/ca-trust/source/anchors",
        folder: "/etc/pki/ca-trust/source/anchors",
        suffix: "pem",
        program: "update-ca-trust",
        arguments: &["extract"],
    },
    // Arch.
    Kind {
        known_by: "/etc/ca-certificates/trust-source/anchors",
        folder: "/etc/ca-certificates/trust-source/anchors",
        suffix: "crt",
        program: "update-ca-trust",
        arguments: &[],
    },
    // SUSE.
    Kind {
        known_by: "/etc/pki/trust/anchors",
        folder: "/etc/pki/trust/anchors",
        suffix: "pem",
        program: "update-ca-certificates",
        arguments: &[],
    },
    // Debian, Ubuntu, Alpine.
    Kind {
        known_by: "/usr/share/ca-certificates",
        folder: "/usr/local/share/ca-certificates",
        suffix: "crt",
        program: "update-ca-certificates",
        arguments: &[],
    },
];

/// Where administrators' programs are; a user's own search path often lacks them, and must not
/// choose what runs as root.
const PROGRAMS: &[&str] = &[
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// The trust store of this system.
#[derive(Debug)]
pub struct SystemStore {
    kind: &'static Kind,
    program: PathBuf,
}

impl SystemStore {
    /// Finds out which kind this system has.
    ///
    /// # Errors
    /// When it has none that is known, or its command is missing.
    pub fn detect() -> Result<Self, Error> {
        let here = |kind: &&'static Kind| Path::new(kind.known_by).is_dir();
        let found = KINDS.iter().filter(here).find_map(|kind| {
            let candidates = PROGRAMS.iter().map(|folder| Path::new(folder).join(kind.program));
            let program = candidates.into_iter().find(|path| path.is_file())?;
            Some(Self { kind, program })
        });
        found.ok_or(Error::Unknown)
    }

    /// Where the certificate of this name stands when it is installed.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.kind.folder).join(format!("{name}.{}", self.kind.suffix))
    }

    /// Puts the certificate in and has the system take note. Doing it again changes nothing, but
    /// finishes what was broken off. `false` says that it was there already.
    ///
    /// # Errors
    /// When this process is not allowed to, or the system's command fails.
    pub fn install(&self, name: &str, pem: &str) -> Result<bool, Error> {
        let path = self.path(name);
        let new = !fs::read(&path).is_ok_and(|there| there == pem.as_bytes());
        if new {
            place(&path, pem.as_bytes())
                .map_err(|e| self.refused("cannot write", &path, e, || self.install_by_hand(name)))?;
        }
        self.take_note()?;
        Ok(new)
    }

    /// Takes the certificate out and has the system take note; `false` says that it was not there.
    ///
    /// # Errors
    /// When this process is not allowed to, or the system's command fails.
    pub fn uninstall(&self, path: &Path) -> Result<bool, Error> {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.refused("cannot remove", path, error, || self.uninstall_by_hand(path))),
        }
        self.take_note()?;
        Ok(true)
    }

    /// The certificates that are in it whose names begin so.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn installed(&self, prefix: &str) -> Result<Vec<PathBuf>, Error> {
        let folder = Path::new(self.kind.folder);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(file("cannot list", folder, source)),
        };
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            name.starts_with(prefix) && path.extension() == Some(OsStr::new(self.kind.suffix))
        };
        let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(ours).collect();
        found.sort();
        Ok(found)
    }

    fn take_note(&self) -> Result<(), Error> {
        let failed = |why| Error::Command {
            program: self.program.clone(),
            why,
        };
        let output = Command::new(&self.program)
            .args(self.kind.arguments)
            .env_clear()
            .env("PATH", PROGRAMS.join(":"))
            .stdin(Stdio::null())
            .output()
            .map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().next_back().unwrap_or_default();
        Err(failed(format!("{}: {last}", output.status)))
    }

    fn refused(&self, what: &'static str, path: &Path, source: io::Error, by_hand: impl FnOnce() -> String) -> Error {
        if source.kind() != io::ErrorKind::PermissionDenied {
            return file(what, path, source);
        }
        Error::NotRoot {
            folder: self.kind.folder.into(),
            by_hand: by_hand(),
        }
    }

    // Not `sudo keyferry ca install`: with root's home that would be another CA.
    fn install_by_hand(&self, name: &str) -> String {
        format!(
            "keyferry ca export --out keyferry-ca.crt && sudo install -D -m 644 keyferry-ca.crt {} && {}",
            self.path(name).display(),
            self.note_by_hand()
        )
    }

    fn uninstall_by_hand(&self, path: &Path) -> String {
        format!("sudo rm {} && {}", path.display(), self.note_by_hand())
    }

    fn note_by_hand(&self) -> String {
        let words = ["sudo", self.kind.program].into_iter();
        words
            .chain(self.kind.arguments.iter().copied())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn file(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File {
        what,
        path: path.into(),
        source,
    }
}

/// Whole or not at all: the system's command may run at any moment.
fn place(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut staged = tempfile::NamedTempFile::with_prefix_in(".keyferry-", folder)?;
    staged.write_all(content)?;
    staged.as_file().set_permissions(Permissions::from_mode(0o644))?;
    staged.persist(path).map(drop).map_err(|e| e.error)
}
