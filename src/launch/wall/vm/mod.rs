//! A virtual machine: a kernel of the command's own, and no network card.
//!
//! QEMU makes the machine, behind bubblewrap, in a namespace where the [`Plan`] is already built and masked; what the
//! machine gets of files is an export of that. So not even root inside, nor a hole in QEMU, sees more than the plan
//! shows. The first process inside is this program. It says where it is over vsock, gets the command ([`talk`]), and is
//! the bridge. The vsock device is a program of its own, which knows no port but those that have a socket in the run's
//! directory; the kernel's (`/dev/vhost-vsock`) would reach every vsock listener of the host.

mod cpio;
pub mod enter;
mod firecracker;
pub mod image;
pub mod initramfs;
pub mod inside;
pub mod kernel;
mod pack;
mod pair;
mod qemu;
pub mod start;
pub mod talk;
mod view;

pub use super::super::Error;
pub use pair::{VERB as PAIR, run as pair};

use super::bwrap;
use super::inside::{Etc, over_image, unwritten};
use super::{Built, GATEWAY, OWN, Plan, User};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use talk::Order;

/// The hidden first argument under which this program is a machine's first process.
pub const GUEST: &str = "__guest";
/// How the sockets of the host's side are named, before the port. Firecracker names them in the same way.
pub const SOCKET_PREFIX: &str = "vsock_";

/// How a machine is made.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its kernel; without, this machine's own.
    pub kernel: Option<PathBuf>,
    /// The program that plays its vsock device; without, one that is installed.
    pub device: Option<PathBuf>,
    /// What it is built like, if QEMU makes it.
    pub hardware: Hardware,
    /// Whether Firecracker makes it.
    pub firecracker: bool,
    /// The directory that is its root, instead of the host's programs.
    pub rootfs: Option<PathBuf>,
    /// Whether it gets a copy of what is shown, and no directory of the host's.
    pub pack: bool,
    /// Whether the command is root inside.
    pub root: bool,
}

impl Settings {
    /// Whether it gets a copy of what is shown: Firecracker knows no other way.
    pub fn is_packed(&self) -> bool {
        self.pack || self.firecracker
    }

    fn transport(&self) -> &'static str {
        if self.firecracker {
            return Hardware::Microvm.transport();
        }
        self.hardware.transport()
    }
}

/// What a machine is built like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Hardware {
    /// As a computer is, with PCI.
    #[default]
    Q35,
    /// With as little as will do, as Firecracker's are.
    Microvm,
}

/// What runs a machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU, which takes ten times as long or more.
    Emulated,
}

impl Hardware {
    fn name(self) -> &'static str {
        match self {
            Self::Q35 => "q35",
            Self::Microvm => "microvm",
        }
    }

    /// What its devices are called after.
    fn bus(self) -> &'static str {
        match self {
            Self::Q35 => "pci",
            Self::Microvm => "device",
        }
    }

    fn transport(self) -> &'static str {
        match self {
            Self::Q35 => "virtio_pci",
            Self::Microvm => "virtio_mmio",
        }
    }
}

impl Accelerator {
    /// Whether the processor's help can be asked for. Whether it is any is seen when a machine begins.
    pub fn is_offered() -> bool {
        File::options().read(true).write(true).open("/dev/kvm").is_ok()
    }
}

/// A machine that can be started.
#[derive(Debug)]
pub struct Machine {
    /// What its first process is told.
    pub order: Order,
    /// Where the host's sockets are.
    pub sockets: PathBuf,
    view: Vec<OsString>,
    maker: Maker,
    packed: bool,
    hardware: Hardware,
    memory: u64,
    /// Open until the machine ends, for the program that builds the wall around it.
    filter: File,
}

/// Paths within the namespace that QEMU runs in.
const KERNEL: &str = "/run/keyferry/kernel";
const INITRAMFS: &str = "/run/keyferry/initramfs";
const DEVICE: &str = "/run/keyferry/vhost-device-vsock";
const SOCKETS: &str = "/run/keyferry/sockets";
const DEVICE_SOCKET: &str = "/tmp/device";
const FIRECRACKER: &str = "/run/keyferry/firecracker";
const CONFIG: &str = "/run/keyferry/machine.json";
/// To this the machine's side adds the port.
const SOCKETS_BEFORE_PORT: &str = "/run/keyferry/sockets/vsock";
/// The two directories that are exported, as named inside: what is the machine's, and what is the caller's.
const SYSTEM: &str = "/view/system";
const SHARED: &str = "/view/shared";
/// Their names for the machine, and whether it may write there.
const EXPORTS: [(&str, &str, bool); 2] = [("system", SYSTEM, false), ("shared", SHARED, true)];
/// Less, and no kernel boots.
const LEAST_MEMORY: u64 = 256;

/// Prepares a machine for the plan's command.
///
/// # Errors
/// When a program, a kernel or one of its modules is not there, or a file cannot be written.
pub fn build(plan: &Plan) -> Result<Built, Error> {
    let settings = &plan.machine;
    if cfg!(not(target_arch = "x86_64")) {
        return Err(failed("they are made on x86-64 only"));
    }
    let bwrap = bwrap::find().ok_or(Error::NoWall("bubblewrap", "install the package `bubblewrap`"))?;
    let maker = maker(settings)?;
    let image = kernel::find(settings.kernel.as_deref())?;
    let root = User { uid: 0, gid: 0 };
    let owner = if settings.root { root } else { plan.user };
    let filter = bwrap::filter(plan)?;
    Etc::write(&plan.dir, owner)?;
    let initramfs = initramfs(plan, &image, owner)?;
    let memory = (plan.most.memory / (1024 * 1024)).max(LEAST_MEMORY);
    let mut own = vec![
        (&*image, KERNEL, false),
        (&*initramfs, INITRAMFS, false),
        (&*plan.socket_dir, SOCKETS, true),
    ];
    let config = plan.dir.with_file_name("machine.json");
    match &maker {
        Maker::Qemu { device } => own.push((device, DEVICE, false)),
        Maker::Firecracker { program } => {
            firecracker::takes(&image)?;
            write(&config, firecracker_config(memory).to_string().as_bytes())?;
            own.extend([(&**program, FIRECRACKER, false), (&*config, CONFIG, false)]);
        }
    }
    let machine = Machine {
        order: order(plan, owner),
        sockets: plan.socket_dir.clone(),
        view: view::words(bwrap, plan, filter.as_raw_fd(), &own),
        maker,
        packed: settings.is_packed(),
        hardware: settings.hardware,
        memory,
        filter,
    };
    Ok(Built {
        words: Vec::new(),
        vars: Vec::new(),
        open: None,
        machine: Some(machine),
    })
}

/// What makes machines, and the programs of it.
#[derive(Debug)]
enum Maker {
    /// QEMU, and the program that plays its vsock device.
    Qemu { device: PathBuf },
    /// Firecracker, which has one.
    Firecracker { program: PathBuf },
}

fn maker(settings: &Settings) -> Result<Maker, Error> {
    if settings.firecracker {
        let program = find("firecracker", &homes());
        let program = program.ok_or(Error::NoWall(
            "Firecracker",
            "put its `firecracker` into /usr/local/bin",
        ))?;
        return Ok(Maker::Firecracker { program });
    }
    find(QEMU, &[]).ok_or(Error::NoWall("QEMU", "install the package `qemu-system-x86`"))?;
    let told = "install `vhost-device-vsock` (a package of some systems, or `cargo install vhost-device-vsock`)";
    let device = settings.device.clone().or_else(|| find("vhost-device-vsock", &homes()));
    let device = device.ok_or(Error::NoWall("vhost-device-vsock", told))?;
    Ok(Maker::Qemu { device })
}

fn firecracker_config(memory: u64) -> serde_json::Value {
    let first = first_process();
    firecracker::config(&firecracker::Machine {
        memory,
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: KERNEL,
        initramfs: INITRAMFS,
        first: &first,
        cid: firecracker::Cid::MACHINE,
        sockets: SOCKETS_BEFORE_PORT,
    })
}

/// Writes the first file system, with a copy of all that is shown if that is how the machine gets it.
fn initramfs(plan: &Plan, image: &Path, owner: User) -> Result<PathBuf, Error> {
    let settings = &plan.machine;
    let packed = settings.is_packed();
    // A kernel that is made for Firecracker has built in what there is to it.
    let modules = if settings.firecracker && !kernel::has_modules(image) {
        Vec::new()
    } else {
        kernel::modules(image, settings.transport(), !packed)?
    };
    let mut archive = initramfs::pack(&plan.program, &modules)?;
    if packed {
        let told = "a copy of the machine's own programs would not fit; name a smaller root with `--rootfs DIR`, such as \
                    an image that is unpacked there";
        let rootfs = settings.rootfs.as_deref().ok_or_else(|| failed(told))?;
        pack::files(&mut archive, plan, rootfs, owner)?;
    }
    let bytes = archive.finish().map_err(|error| failed(error.to_string()))?;
    let path = plan.dir.with_file_name("initramfs");
    write(&path, &bytes)?;
    Ok(path)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|cause| unwritten(path, cause))
}

/// For the kernel: its first process, and what that is told.
fn first_process() -> String {
    format!("rdinit=/{} -- {GUEST}", initramfs::PROGRAM)
}

fn order(plan: &Plan, owner: User) -> Order {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let own = (bytes(&plan.dir), false);
    let shown = plan.shared().into_iter().map(|one| (bytes(&one.path), one.writable));
    let over = plan
        .machine
        .rootfs
        .as_ref()
        .map(|_| over_image(plan))
        .unwrap_or_default();
    let variable = |(name, value): &(OsString, OsString)| [name.as_bytes(), b"=", value.as_bytes()].concat();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Order {
        words: plan.words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        variables: plan.vars.iter().map(variable).collect(),
        workdir: bytes(&plan.workdir.path),
        shown: [own].into_iter().chain(shown).collect(),
        over: over.iter().map(|bind| (bytes(&bind.from), bytes(&bind.to))).collect(),
        packed: plan.machine.is_packed(),
        owner: (owner.uid, owner.gid),
        // Each takes some memory of the machine's, whatever it does.
        tasks: plan
            .most
            .tasks
            .min(u32::try_from(plan.most.memory >> 21).unwrap_or(u32::MAX)),
        gateway: plan.ways.iter().any(|(address, _)| *address == GATEWAY),
        terminal: None,
        now: now.map_or(0, |now| now.as_secs()),
    }
}

impl Machine {
    /// The command line that makes it; none where its maker does without that.
    pub fn words(&self, accelerator: Accelerator) -> Option<Vec<OsString>> {
        let mut words = self.view.clone();
        match &self.maker {
            Maker::Qemu { .. } => words.extend(self.pair(accelerator)),
            Maker::Firecracker { .. } if accelerator == Accelerator::Kvm => {
                words.extend([FIRECRACKER, "--no-api", "--config-file", CONFIG].map(OsString::from));
            }
            Maker::Firecracker { .. } => return None,
        }
        Some(words)
    }

    /// The device, and QEMU.
    fn pair(&self, accelerator: Accelerator) -> Vec<OsString> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let exports: &[_] = if self.packed { &[] } else { &EXPORTS };
        let machine = qemu::Machine {
            hardware: self.hardware,
            accelerator,
            memory: self.memory,
            // More are emulated in turn, and each costs time at the start.
            cpus: if accelerator == Accelerator::Kvm {
                cpus
            } else {
                cpus.min(2)
            },
            kernel: Path::new(KERNEL),
            initramfs: Path::new(INITRAMFS),
            vsock: Path::new(DEVICE_SOCKET),
            exports,
        };
        let number = firecracker::Cid::MACHINE.number();
        let vm = format!("guest-cid={number},socket={DEVICE_SOCKET},uds-path={SOCKETS_BEFORE_PORT}");
        let device = [DEVICE, "--vm", &vm].map(OsString::from);
        let mut words: Vec<OsString> = vec![format!("{OWN}/keyferry").into(), PAIR.into(), DEVICE_SOCKET.into()];
        words.push(device.len().to_string().into());
        words.extend(device);
        words.push(QEMU.into());
        words.extend(qemu::arguments(&machine));
        words
    }
}

const QEMU: &str = "qemu-system-x86_64";

/// Where a program is, on a path that no caller's `PATH` leads astray, or in one of `more`.
fn find(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let dirs = ["/usr/bin", "/usr/local/bin", "/usr/libexec"].map(PathBuf::from);
    let found = dirs.iter().chain(more).map(|dir| dir.join(name));
    found.into_iter().find(|path| path.is_file())
}

#[expect(clippy::disallowed_methods, reason = "cargo installs into the caller's own home")]
fn homes() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    home.into_iter().map(|home| home.join(".cargo/bin")).collect()
}

fn failed(why: impl Into<String>) -> Error {
    Error::Machine(why.into())
}
