//! What every wall shows of the machine's own programs, libraries and settings, and what lies over them.

use super::super::Error;
use super::{HOME, Plan, User};
use std::fs;
use std::path::{Path, PathBuf};

/// A file or directory of the machine's, as it is shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Outside.
    pub from: PathBuf,
    /// Inside.
    pub to: PathBuf,
    /// Whether it may be written to.
    pub writable: bool,
}

impl Bind {
    /// To be read only.
    pub fn read(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            writable: false,
        }
    }

    /// At the same path.
    fn same(path: &str) -> Self {
        Self::read(path, path)
    }
}

/// The machine's programs, for where there is no image: `/usr`, the directories beside it that are no links into it, and
/// what of `/etc` they need; nothing that is somebody's.
pub fn system(plan: &Plan) -> Vec<Bind> {
    let mut binds = vec![Bind::same("/usr")];
    let beside = BESIDE_USR.iter().map(|name| format!("/{name}"));
    binds.extend(
        beside
            .filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()))
            .map(|path| Bind::same(&path)),
    );
    binds.extend(
        ETC.iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| Bind::same(path)),
    );
    let private = PRIVATE.iter().filter(|path| Path::new(path).is_dir());
    binds.extend(private.map(|path| Bind::read(plan.dir.join(Etc::EMPTY), path)));
    for store in STORES {
        // Where it is a link, what it leads to is among these too, or in /usr.
        if fs::symlink_metadata(store).is_ok_and(|meta| meta.is_file()) {
            binds.push(Bind::read(&plan.bundle, store));
        }
    }
    let made = |name: &&str| Bind::read(plan.dir.join("etc").join(name), Path::new("/etc").join(name));
    binds.extend(Etc::NAMES.iter().map(made));
    binds
}

/// What lies over an image: the roots, wherever a distribution may look for them, and names.
pub fn over_image(plan: &Plan) -> Vec<Bind> {
    let stores = STORES.iter().map(|store| Bind::read(&plan.bundle, store));
    let made = ["hosts", "resolv.conf"];
    let made = made.map(|name| Bind::read(plan.dir.join("etc").join(name), Path::new("/etc").join(name)));
    stores.chain(made).collect()
}

/// What the caller shares, and over it what is masked.
pub fn shared(plan: &Plan) -> Vec<Bind> {
    let shared = plan.shared().into_iter().map(|one| Bind {
        from: one.path.clone(),
        to: one.path.clone(),
        writable: one.writable,
    });
    let masked = plan.masked.iter().map(|masked| {
        let empty = if masked.dir { Etc::EMPTY } else { "etc/resolv.conf" };
        Bind::read(plan.dir.join(empty), &masked.path)
    });
    shared.chain(masked).collect()
}

/// Read-only binds of what is mounted below others of these: an engine makes one mount read-only, and not those that come
/// along with it.
pub fn below(binds: &[Bind]) -> Vec<Bind> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points: Vec<PathBuf> = mounts.lines().filter_map(point).collect();
    let of = |bind: &Bind| {
        let within = points.iter().filter_map(|point| {
            let rest = point.strip_prefix(&bind.from).ok()?;
            (rest != Path::new("")).then(|| Bind::read(point, bind.to.join(rest)))
        });
        within.collect::<Vec<_>>()
    };
    binds.iter().filter(|bind| !bind.writable).flat_map(of).collect()
}

/// Where a line of mountinfo (proc(5)) says that something is mounted.
fn point(line: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let written = line.split(' ').nth(4)?.as_bytes();
    let mut path = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let octal = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(octal.unwrap_or(*first));
        rest = after.get(if octal.is_some() { 3 } else { 0 }..)?;
    }
    Some(std::ffi::OsString::from_vec(path).into())
}

/// The files of `/etc` that are made for a command.
#[derive(Debug)]
pub struct Etc;

impl Etc {
    /// What they are called.
    pub const NAMES: [&str; 5] = ["passwd", "group", "hosts", "resolv.conf", "nsswitch.conf"];
    /// A directory with nothing in it, below the one that they are written into.
    pub const EMPTY: &str = "etc/empty";

    /// Writes them into `etc` below `dir`.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn write(dir: &Path, user: User) -> Result<(), Error> {
        let empty = dir.join(Self::EMPTY);
        fs::create_dir_all(&empty).map_err(|cause| unwritten(&empty, cause))?;
        let User { uid, gid } = user;
        let texts = [
            format!("agent:x:{uid}:{gid}:agent:{HOME}:/bin/sh\n"),
            format!("agent:x:{gid}:\n"),
            "127.0.0.1 localhost\n::1 localhost\n".to_owned(),
            // There is no resolver inside: names are the proxy's business.
            String::new(),
            "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
        ];
        for (name, text) in Self::NAMES.iter().zip(texts) {
            let path = dir.join("etc").join(name);
            fs::write(&path, text).map_err(|cause| unwritten(&path, cause))?;
        }
        Ok(())
    }
}

/// Gives the files of a run to the user that the command is, where that is another than who writes them.
///
/// # Errors
/// When the system does not let it.
pub fn hand_over(dir: &Path, user: User) -> Result<(), Error> {
    // Without root, the user outside is the caller, whatever its number inside.
    let ours = rustix::process::geteuid();
    if !ours.is_root() || ours.as_raw() == user.uid {
        return Ok(());
    }
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let failed = |cause| unwritten(&path, cause);
        std::os::unix::fs::lchown(&path, Some(user.uid), Some(user.gid)).map_err(failed)?;
        if fs::symlink_metadata(&path).map_err(failed)?.is_dir() {
            let inside = fs::read_dir(&path).map_err(failed)?;
            left.extend(inside.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

/// That a file could not be written.
pub(super) fn unwritten(path: &Path, cause: std::io::Error) -> Error {
    Error::File {
        what: "cannot write",
        path: path.to_owned(),
        cause,
    }
}

/// Directories of programs and libraries beside `/usr`; on most systems links into it.
pub const BESIDE_USR: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What programs look up; none of it is a secret.
pub const ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/java",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl",
    "/etc/terminfo",
    "/etc/timezone",
];

/// What of `/proc` may be read only, as Docker has it.
pub const MACHINES: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// What of `/proc` tells too much, as Docker has it.
pub const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// Of these, what is not for everybody; as root one would see into it.
pub const PRIVATE: &[&str] = &["/etc/ssl/private", "/etc/pki/tls/private", "/etc/pki/rpm-gpg/private"];

/// The files that hold the system's roots, over which Keyferry's bundle lies: wget, apt and git read no variable.
pub const STORES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mount_below_a_read_only_one_is_read_only_too() {
        let line = "36 35 98:0 / /mnt/my\\040disk rw,noatime - ext3 /dev/root rw";
        assert_eq!(point(line).unwrap(), Path::new("/mnt/my disk"));
        // Whatever is mounted at /proc is below the root.
        let below = below(&[
            Bind::read("/", "/host"),
            Bind {
                writable: true,
                ..Bind::read("/", "/other")
            },
        ]);
        assert!(below.contains(&Bind::read("/proc", "/host/proc")), "{below:?}");
        assert!(!below.iter().any(|bind| bind.to.starts_with("/other")));
    }
}
