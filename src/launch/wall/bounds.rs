//! A control group of a command's own, which bounds its memory and its processes: neither namespaces nor resource limits
//! do (resource limits count for each process by itself, and not at all for root).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a command may use at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Bytes of memory, files in memory among them.
    pub memory: u64,
    /// Processes and threads.
    pub tasks: u32,
    /// Processors' time, in whole processors; only containers are held to it.
    pub cpus: usize,
}

impl Default for Most {
    /// Half of the machine's memory, as many tasks as a large build or a JVM takes, and every processor.
    fn default() -> Self {
        let machine = total_memory().unwrap_or(8 * 1024 * 1024 * 1024);
        Self {
            memory: machine / 2,
            tasks: 4096,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The groups of one command; removed when dropped.
#[derive(Debug)]
pub struct Bounds {
    dirs: Vec<PathBuf>,
}

const PREFIX: &str = "keyferry-";

impl Bounds {
    /// Makes groups that bound memory and tasks.
    ///
    /// # Errors
    /// When the system has none that we may divide, which is so for most users without root.
    pub fn make(most: Most) -> io::Result<Self> {
        let name = format!("{PREFIX}{}", std::process::id());
        let mut bounds = Self { dirs: Vec::new() };
        for (parent, files) in places()? {
            sweep(&parent);
            let dir = parent.join(&name);
            fs::create_dir(&dir)?;
            bounds.dirs.push(dir.clone());
            for (file, what) in files {
                let value = match what {
                    What::Memory => most.memory.to_string(),
                    What::Tasks => most.tasks.to_string(),
                };
                fs::write(dir.join(file), value)?;
            }
        }
        Ok(bounds)
    }

    /// The files into which a process writes its number to enter.
    pub fn entries(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs")).collect()
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // The last process may take a moment to be gone.
            for _ in 0..50 {
                match fs::remove_dir(dir) {
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum What {
    Memory,
    Tasks,
}

type Place = (PathBuf, Vec<(&'static str, What)>);

/// Where groups can be made, and which files of theirs hold the bounds.
fn places() -> io::Result<Vec<Place>> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    if let Some(place) = unified(&own, &mounts) {
        return Ok(vec![place]);
    }
    let memory = legacy(&own, &mounts, "memory").map(|dir| (dir, vec![("memory.limit_in_bytes", What::Memory)]));
    let tasks = legacy(&own, &mounts, "pids").map(|dir| (dir, vec![("pids.max", What::Tasks)]));
    match (memory, tasks) {
        (Some(memory), Some(tasks)) => Ok(vec![memory, tasks]),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "no control group bounds memory and tasks here",
        )),
    }
}

/// In the one tree of cgroup v2. Ours holds processes and so cannot be divided; what it stands in can.
fn unified(own: &str, mounts: &str) -> Option<Place> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find_map(|line| mounted(line, "cgroup2", None))?;
    let ours = mount.join(path.trim_start_matches('/'));
    let parent = if path == "/" { ours } else { ours.parent()?.to_owned() };
    let divided = fs::read_to_string(parent.join("cgroup.subtree_control")).ok()?;
    let has = |name| divided.split_whitespace().any(|one| one == name);
    (has("memory") && has("pids")).then(|| (parent, vec![("memory.max", What::Memory), ("pids.max", What::Tasks)]))
}

/// In the tree that a controller of cgroup v1 has to itself.
fn legacy(own: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers
            .split(',')
            .any(|one| one == controller)
            .then(|| fields.next())?
    })?;
    let mount = mounts
        .lines()
        .find_map(|line| mounted(line, "cgroup", Some(controller)))?;
    Some(mount.join(path.trim_start_matches('/')))
}

/// The mount point, if a line of mountinfo (proc(5)) is about a file system of this kind, and with this option.
fn mounted(line: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let options = (after.next()? == kind).then(|| after.nth(1))??;
    let fits = option.is_none_or(|option| options.split(',').any(|one| one == option));
    fits.then(|| before.split(' ').nth(4).map(PathBuf::from))?
}

/// Removes what a Keyferry left that was killed. A group in use cannot be removed, so nothing else is.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.as_bytes().strip_prefix(PREFIX.as_bytes()).map(OsStr::from_bytes);
        if let Some(number) = number
            && !Path::new("/proc").join(number).exists()
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn total_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
38 31 0:35 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn the_group_of_a_controller_is_found_in_its_own_tree() {
        let own = "4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/d\n";
        assert_eq!(legacy(own, MOUNTS, "memory"), Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(legacy(own, MOUNTS, "cpuacct"), Some("/sys/fs/cgroup/cpu/c".into()));
        assert_eq!(legacy(own, MOUNTS, "pids"), None);
        let all = MOUNTS.lines().find_map(|line| mounted(line, "cgroup2", None));
        assert_eq!(all, Some("/sys/fs/cgroup/unified".into()));
    }
}
