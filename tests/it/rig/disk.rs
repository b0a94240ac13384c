//! A disk of some kilobytes, to be filled: a file system in memory in a mount namespace of its own, which nobody sees
//! but the test and what it starts there.

use super::{PATIENCE, tools};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A small disk. It is gone with this value.
pub struct Disk {
    /// Holds the namespace open, and waits for its own input to end.
    keeper: Child,
    at: PathBuf,
}

impl Disk {
    /// A disk of so many kilobytes, mounted on the folder `at`, which is made.
    ///
    /// # Panics
    /// Where the system lets nobody mount anything.
    pub fn new(at: &Path, kilobytes: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let script = "mount -t tmpfs -o size=\"$1\",mode=0700 none \"$0\" && echo ready && cat >/dev/null";
        let mut command = Command::new(tools::need("unshare"));
        if !is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(at)
            .arg(format!("{kilobytes}k"));
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = String::new();
        BufReader::new(keeper.stdout.take().unwrap())
            .read_line(&mut told)
            .unwrap();
        assert_eq!(
            told.trim(),
            "ready",
            "no small disk can be mounted: run the tests as root, or where user namespaces are allowed \
            (`sysctl kernel.unprivileged_userns_clone=1`; in a container `--cap-add SYS_ADMIN`)"
        );
        Self {
            keeper,
            at: at.to_owned(),
        }
    }

    /// The words that put a command where the disk is.
    pub fn inside(&self) -> Vec<String> {
        let nsenter = tools::need("nsenter").display().to_string();
        let mut words = vec![nsenter, "--target".to_owned(), self.keeper.id().to_string()];
        if !is_root() {
            words.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        words.extend(["--mount", "--"].map(str::to_owned));
        words
    }

    /// A file on the disk, by a path that leads there from outside.
    pub fn file(&self, name: &str) -> PathBuf {
        let at = self.at.strip_prefix("/").unwrap();
        Path::new("/proc")
            .join(self.keeper.id().to_string())
            .join("root")
            .join(at)
            .join(name)
    }

    /// The names on the disk, without the one that fills it.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.file("")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != FILLER)
            .collect();
        names.sort();
        names
    }

    /// Leaves no room for a single byte more.
    pub fn fill(&self) {
        let mut filler = File::options()
            .append(true)
            .create(true)
            .open(self.file(FILLER))
            .unwrap();
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            match filler.write_all(&[0; 4096]) {
                Ok(()) => assert!(std::time::Instant::now() < end, "the disk has no end"),
                Err(error) => break assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}"),
            }
        }
    }

    /// Gives the room back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.file(FILLER)).unwrap();
    }
}

const FILLER: &str = "filler";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
