//! What the first process of a machine does before anything of the command's runs: modules, loopback, the clock, and the
//! file system that the command is to see. A failure is told to Keyferry outside, and the machine ends.

use super::super::bwrap::below;
use super::super::{HOME, ROOM};
use super::initramfs::MODULES;
use super::talk::Order;
use rustix::fs::{FileType, Gid, Mode, Uid, chown, makedev, mknodat};
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};
use rustix::net::{AddressFamily, SendFlags, SocketType};
use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What could not be done, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct Failed {
    what: String,
    cause: io::Error,
}

trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Failed> {
        self.map_err(|cause| Failed {
            what: what.into(),
            cause: cause.into(),
        })
    }
}

/// The command's root.
const ROOT: &str = "/root";
/// What is made here, whatever an image has of the name.
const OURS: [&str; 6] = ["/dev", "/home", "/proc", "/run", "/sys", "/tmp"];
/// No device and no file with a user of its own counts.
const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Loads the modules and brings loopback up: then there is vsock.
///
/// # Errors
/// What failed.
pub fn wake() -> Result<(), Failed> {
    mount("proc", "/proc", "proc", PLAIN, None).doing("cannot mount /proc")?;
    let modules = Path::new("/").join(MODULES);
    let entries = fs::read_dir(&modules).doing("no modules")?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|one| one.path()).collect();
    files.sort();
    for file in files {
        let doing = || format!("cannot load {}", file.display());
        let module = fs::File::open(&file).doing(doing())?;
        rustix::system::finit_module(module, c"", 0).doing(doing())?;
        // Its memory is the command's from now on.
        let _ = fs::remove_file(&file);
    }
    loopback().doing("cannot bring up loopback")
}

/// Sets the flag `IFF_UP` of the first interface, which is loopback (`RTM_NEWLINK` in rtnetlink(7)).
fn loopback() -> io::Result<()> {
    const NEWLINK: u16 = 16;
    const REQUEST: u16 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(NEWLINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence, sender
    message.extend([0; 4]); // family, kind
    message.extend(1_i32.to_ne_bytes()); // the interface
    message.extend(1_u32.to_ne_bytes()); // up
    message.extend(1_u32.to_ne_bytes()); // of its flags, this one
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    Ok(())
}

/// Sets the clock, and builds what the order shows, below `ROOT`. This process keeps the root that has its own program.
///
/// # Errors
/// What failed.
pub fn furnish(order: &Order) -> Result<(), Failed> {
    let now = rustix::time::Timespec {
        tv_sec: i64::try_from(order.now).unwrap_or(0),
        tv_nsec: 0,
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, now).doing("cannot set the clock")?;
    if !order.packed {
        exports()?;
    }
    mount("root", ROOT, "tmpfs", PLAIN, c"mode=755").doing("cannot mount a root")?;
    system()?;
    devices()?;
    let (uid, gid) = order.owner;
    room("/tmp", "mode=1777")?;
    room(HOME, &format!("mode=700,uid={uid},gid={gid}"))?;
    directory("/var")?;
    if at("/var/tmp").is_dir() {
        room("/var/tmp", "mode=1777")?;
    } else {
        symlink("/tmp", at("/var/tmp")).doing("cannot link /var/tmp")?;
    }
    directory("/proc")?;
    // Of others' processes, and that is this one, a user sees nothing.
    mount("proc", at("/proc"), "proc", PLAIN | MountFlags::NOEXEC, c"hidepid=2").doing("cannot mount /proc")?;
    for (path, writable) in &order.shown {
        show(Path::new(OsStr::from_bytes(path)), *writable)?;
    }
    for (from, to) in &order.over {
        let to = Path::new(OsStr::from_bytes(to));
        if at(to).is_file() {
            bind(&below("/shared", Path::new(OsStr::from_bytes(from))), to, false)?;
        }
    }
    // Where this process makes the command's terminal.
    mount_bind_recursive(at("/dev"), "/dev").doing("cannot show the devices")?;
    let _ = mount_remount(ROOT, MountFlags::RDONLY | PLAIN, "");
    Ok(())
}

/// Has the command's root as root from now on.
///
/// # Errors
/// What the kernel said.
pub fn enter_root() -> io::Result<()> {
    rustix::process::chroot(ROOT)?;
    std::env::set_current_dir("/")
}

fn exports() -> Result<(), Failed> {
    // Nothing outside changes the system's files meanwhile; of shared ones each look is a new one.
    export(
        "system",
        MountFlags::RDONLY,
        c"trans=virtio,version=9p2000.L,msize=512000,cache=loose",
    )?;
    export(
        "shared",
        MountFlags::empty(),
        c"trans=virtio,version=9p2000.L,msize=512000,cache=mmap",
    )
}

fn export(name: &str, flags: MountFlags, options: &CStr) -> Result<(), Failed> {
    mount(name, format!("/{name}"), "9p", PLAIN | flags, options).doing(format!("cannot mount the export `{name}`"))
}

/// A path of the command's as it is called here.
fn at(path: impl AsRef<Path>) -> PathBuf {
    below(ROOT, path.as_ref())
}

fn directory(path: &str) -> Result<(), Failed> {
    fs::create_dir_all(at(path)).doing(format!("cannot make {path}"))
}

/// What the host has at its root of programs and settings, in the same places.
fn system() -> Result<(), Failed> {
    for entry in fs::read_dir("/system").doing("cannot read the system")?.flatten() {
        let (from, name) = (entry.path(), Path::new("/").join(entry.file_name()));
        if OURS.iter().any(|own| name == Path::new(own)) {
            continue;
        }
        if let Ok(target) = fs::read_link(&from) {
            symlink(target, at(&name)).doing("cannot link")?;
        } else if from.is_dir() {
            fs::create_dir(at(&name)).doing("cannot make a directory")?;
            bind(&from, &name, false)?;
        }
    }
    Ok(())
}

/// The devices that belong to nobody, and terminals; none of the machine's.
fn devices() -> Result<(), Failed> {
    directory("/dev")?;
    mount("dev", at("/dev"), "tmpfs", MountFlags::NOSUID, c"mode=755,size=64k").doing("cannot mount /dev")?;
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        device(name, 1, minor)?;
    }
    device("tty", 5, 0)?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, at("/dev").join(name)).doing("cannot link a device")?;
    }
    directory("/dev/pts")?;
    let options = c"newinstance,ptmxmode=0666,mode=620";
    mount(
        "pts",
        at("/dev/pts"),
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        options,
    )
    .doing("cannot mount /dev/pts")?;
    room("/dev/shm", "mode=1777")
}

fn device(name: &str, major: u32, minor: u32) -> Result<(), Failed> {
    let path = at("/dev").join(name);
    let doing = || format!("cannot make /dev/{name}");
    let mode = Mode::from_raw_mode(0o666);
    mknodat(
        rustix::fs::CWD,
        &path,
        FileType::CharacterDevice,
        mode,
        makedev(major, minor),
    )
    .doing(doing())?;
    // The mask of a new file does not hold here.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).doing(doing())
}

/// A file system in memory with a bound.
fn room(path: &str, options: &str) -> Result<(), Failed> {
    directory(path)?;
    let options = CString::new(format!("size={ROOM},{options}")).unwrap_or_default();
    mount("room", at(path), "tmpfs", PLAIN, options.as_c_str()).doing(format!("cannot mount {path}"))
}

/// Shows a path of the host's at the same path.
fn show(path: &Path, writable: bool) -> Result<(), Failed> {
    let from = below("/shared", path);
    let doing = || format!("cannot show {}", path.display());
    let to = at(path);
    if from.is_dir() {
        fs::create_dir_all(&to).doing(doing())?;
    } else if !to.exists() {
        fs::create_dir_all(to.parent().unwrap_or(&to)).doing(doing())?;
        fs::write(&to, "").doing(doing())?;
    }
    bind(&from, path, writable)
}

fn bind(from: &Path, to: &Path, writable: bool) -> Result<(), Failed> {
    let doing = || format!("cannot show {}", to.display());
    let place = at(to);
    mount_bind(from, &place).doing(doing())?;
    if !writable {
        mount_remount(&place, MountFlags::BIND | MountFlags::RDONLY | PLAIN, "").doing(doing())?;
    }
    Ok(())
}

/// Ends the machine: QEMU ends where it would start it anew.
pub fn end() {
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
}

/// Makes a terminal the command's own.
///
/// # Errors
/// What the kernel said.
pub fn own_terminal(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    Ok(chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}
