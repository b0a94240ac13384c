//! The root of a container that has no image: empty directories and the links that lead into `/usr`, over which the
//! machine's own files are shown.

use super::inside::BESIDE_USR;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An empty directory.
    Dir(PathBuf),
    /// A symbolic link, and where it leads.
    Link(PathBuf, PathBuf),
}

/// Its entries, as this machine has them.
pub fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = DIRS.iter().map(|dir| Entry::Dir((*dir).into())).collect();
    for name in BESIDE_USR {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(target) => entries.push(Entry::Link((*name).into(), target)),
            Err(_) if path.is_dir() => entries.push(Entry::Dir((*name).into())),
            Err(_) => {}
        }
    }
    entries.push(Entry::Link("var/tmp".into(), "/tmp".into()));
    entries
}

/// Makes it in a directory.
///
/// # Errors
/// When the system does not let it.
pub fn make(root: &Path) -> io::Result<()> {
    for entry in entries() {
        match entry {
            Entry::Dir(path) => {
                let mode = fs::Permissions::from_mode(mode(&path));
                let path = root.join(path);
                fs::create_dir_all(&path)?;
                fs::set_permissions(&path, mode)?;
            }
            Entry::Link(path, target) => symlink(target, root.join(path))?,
        }
    }
    Ok(())
}

/// The same as an archive, for `docker import` (the ustar format of POSIX's pax).
pub fn tar() -> Vec<u8> {
    let mut archive: Vec<u8> = entries().iter().flat_map(header).collect();
    archive.extend([0; 1024]);
    archive
}

/// A name for the archive's content: another machine's may differ.
pub fn tag() -> String {
    // FNV-1a: a name, not a proof.
    let hash = tar().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("keyferry-host:{hash:016x}")
}

/// A directory's mode; what is mounted over it takes that on.
fn mode(path: &Path) -> u32 {
    let open = [Path::new("tmp"), Path::new("home/agent")].contains(&path);
    if open { 0o1777 } else { 0o755 }
}

fn header(entry: &Entry) -> [u8; 512] {
    let (path, target, kind, mode) = match entry {
        Entry::Dir(path) => (path, Path::new(""), b"5", mode(path)),
        Entry::Link(path, target) => (path, target.as_path(), b"2", 0o777),
    };
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in header.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, path.to_string_lossy().as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    for (at, zero) in [
        (108, "0000000"),
        (116, "0000000"),
        (124, "00000000000"),
        (136, "00000000000"),
    ] {
        put(at, zero.as_bytes());
    }
    // The sum counts its own field as blanks.
    put(148, b"        ");
    put(156, kind);
    put(157, target.to_string_lossy().as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let told = format!("{sum:06o}\0 ");
    for (to, from) in header.iter_mut().skip(148).zip(told.bytes()) {
        *to = from;
    }
    header
}

/// Where something is mounted in every container, or looked for.
const DIRS: &[&str] = &[
    "dev",
    "etc",
    "home",
    "home/agent",
    "proc",
    "root",
    "run",
    "run/keyferry",
    "sys",
    "tmp",
    "usr",
    "var",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_archive_holds_what_the_directory_does() {
        let (made, unpacked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(made.path()).unwrap();
        let mut tar = Command::new("tar")
            .args(["-xf", "-", "-C"])
            .arg(unpacked.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&super::tar()).unwrap();
        assert!(tar.wait().unwrap().success());
        let same = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([made.path(), unpacked.path()])
            .output()
            .unwrap();
        assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
        assert_eq!(
            fs::read_link(unpacked.path().join("var/tmp")).unwrap(),
            Path::new("/tmp")
        );
        assert!(unpacked.path().join("home/agent").is_dir());
    }
}
