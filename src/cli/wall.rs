//! What `run` and `sandbox print` take about a wall.

use super::settings::{self, Failed};
use crate::app::surround::Wall;
use crate::launch::Withheld;
use crate::launch::wall::bounds::Most;
use crate::launch::wall::engine::Engine;
use crate::launch::wall::{Kind, Masked, Shared, choice, vm};
use std::ffi::OsString;
use std::path::PathBuf;

/// Which wall, and what it shows.
#[derive(Debug, clap::Args)]
pub struct WallArgs {
    /// What to put around the command: `bwrap` (bubblewrap), `docker`, `podman`, `gvisor`, `vm` (a virtual machine),
    /// `firecracker` (one too), `seatbelt` (macOS' own, to print), `none`, or `auto`, the strongest that this machine has at no great cost
    #[arg(long, value_name = "WALL", default_value = "none")]
    sandbox: Sandbox,
    /// In a container: the image to start, with its own entrypoint; without it, the machine's own programs are shown
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Behind a wall: where the command begins, and may write unless `:ro` follows; without it, the current directory
    #[arg(long, value_name = "DIR[:ro|:rw]")]
    workdir: Option<OsString>,
    /// Behind a wall: another file or directory to show, read-only unless `:rw` follows (repeatable)
    #[arg(long, value_name = "PATH[:ro|:rw]")]
    mount: Vec<OsString>,
    /// Behind a wall: show this, although it looks like a credential (repeatable)
    #[arg(long, value_name = "PATH")]
    unmask: Vec<PathBuf>,
    /// Behind a wall: the most memory the command may use, in MiB; without it, half of the machine's
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// In a container: the most processors' time the command may use; without it, all of the machine's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cpus: Option<u16>,
    #[command(flatten)]
    machine: MachineArgs,
}

/// How a virtual machine is made.
#[derive(Debug, clap::Args)]
struct MachineArgs {
    /// With `vm`: the machine's kernel; without it, this machine's own in /boot
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// With `vm`: the program `vhost-device-vsock`, where it is not installed in a usual place
    #[arg(long, value_name = "FILE")]
    vsock_device: Option<PathBuf>,
    /// With `vm`: what the machine is built like; without it, `q35`
    #[arg(long, value_name = "TYPE")]
    machine: Option<vm::Hardware>,
    /// With `vm` or `firecracker`: the directory that is the machine's root, instead of this machine's programs
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// With `vm`: the machine gets a copy of what it is shown, which is read-only, and needs no 9p
    #[arg(long)]
    pack: bool,
    /// With `vm` or `firecracker`: the command is root of its machine
    #[arg(long)]
    root: bool,
}

impl MachineArgs {
    fn read(&self, wanted: Sandbox) -> Result<vm::Settings, Failed> {
        let qemu = self.vsock_device.is_some() || self.machine.is_some() || self.pack;
        let any = self.kernel.is_some() || self.rootfs.is_some() || self.root;
        let firecracker = wanted == Sandbox::Firecracker;
        if qemu && wanted != Sandbox::Vm || any && wanted != Sandbox::Vm && !firecracker {
            let told = "`--kernel`, `--rootfs` and `--root` are about a machine, `--vsock-device`, `--machine` and `--pack` about \
                        one of QEMU; ask for one with `--sandbox vm`";
            return Err(Failed::Usage(told.to_owned()));
        }
        let rootfs = self.rootfs.as_deref().map(|dir| {
            let missing = |error| Failed::Usage(format!("`--rootfs {}`: {error}", dir.display()));
            dir.canonicalize().map_err(missing)
        });
        Ok(vm::Settings {
            kernel: self.kernel.clone(),
            device: self.vsock_device.clone(),
            hardware: self.machine.unwrap_or_default(),
            firecracker,
            rootfs: rootfs.transpose()?,
            pack: self.pack,
            root: self.root,
        })
    }
}

/// The walls that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sandbox {
    Auto,
    Bwrap,
    Docker,
    Podman,
    Gvisor,
    Vm,
    Firecracker,
    Seatbelt,
    None,
}

impl WallArgs {
    /// The wall that was asked for, and what it shows.
    ///
    /// # Errors
    /// When the flags do not go together, or name what is not there.
    pub fn read(&self) -> Result<Option<Wall>, Failed> {
        let machine = self.machine.read(self.sandbox)?;
        let Some(kind) = kind(self.sandbox, self.image.is_some())? else {
            let shows = self.workdir.is_some() || !self.mount.is_empty() || !self.unmask.is_empty();
            let bounds = self.memory.is_some() || self.cpus.is_some();
            if !(shows || bounds || self.image.is_some()) {
                return Ok(None);
            }
            let told = "`--workdir`, `--mount`, `--unmask`, `--image`, `--memory` and `--cpus` are about a wall; \
                        ask for one with `--sandbox auto`";
            return Err(Failed::Usage(told.to_owned()));
        };
        if !matches!(kind, Kind::Container(_)) && (self.image.is_some() || self.cpus.is_some()) {
            let told = "`--image` and `--cpus` are about a container; ask for one with `--sandbox docker` or `podman`, or \
                        with `gvisor` and an image";
            return Err(Failed::Usage(told.to_owned()));
        }
        let here = OsString::from(".");
        let most = Most::default();
        let packed = machine.is_packed();
        let wall = Wall {
            kind,
            image: self.image.clone(),
            machine,
            most: Most {
                memory: self.memory.map_or(most.memory, |mib| mib.saturating_mul(1024 * 1024)),
                cpus: self.cpus.map_or(most.cpus, usize::from),
                ..most
            },
            workdir: Shared::parse(self.workdir.as_deref().unwrap_or(&here), !packed)?,
            mounts: self
                .mount
                .iter()
                .map(|text| Shared::parse(text, false))
                .collect::<Result<_, _>>()?,
            unmask: self.unmask.iter().filter_map(|path| path.canonicalize().ok()).collect(),
        };
        let writable = wall.mounts.iter().chain([&wall.workdir]).find(|one| one.writable);
        match writable.filter(|_| packed) {
            Some(one) => Err(Failed::Usage(format!(
                "the machine gets a copy of {}: what is written there would not come back, so it cannot be `:rw`",
                one.path.display()
            ))),
            None => Ok(Some(wall)),
        }
    }
}

/// What builds the wall that was asked for.
fn kind(wanted: Sandbox, imaged: bool) -> Result<Option<Kind>, Failed> {
    let (docker, podman) = (Kind::Container(Engine::Docker), Kind::Container(Engine::Podman));
    Ok(Some(match wanted {
        Sandbox::None => return Ok(None),
        Sandbox::Bwrap => Kind::Bwrap,
        Sandbox::Docker => docker,
        Sandbox::Podman => podman,
        // An image is an engine's; without one, none is needed.
        Sandbox::Gvisor if imaged => Kind::Container(Engine::DockerGvisor),
        Sandbox::Gvisor => Kind::Gvisor,
        Sandbox::Vm | Sandbox::Firecracker => Kind::Machine,
        Sandbox::Seatbelt => Kind::Seatbelt,
        Sandbox::Auto if imaged => chosen(&[docker, podman])?,
        // gVisor and machines are stronger than those before them, and slow down whatever makes many system calls.
        Sandbox::Auto => chosen(&[Kind::Bwrap, docker, podman, Kind::Gvisor])?,
    }))
}

/// The first that can be had, having said why not those before it.
fn chosen(kinds: &[Kind]) -> Result<Kind, Failed> {
    let data_dir = settings::data_dir().map_err(|error| Failed::NotStarted(format!("{error:#}")))?;
    let (kind, not) = choice::first(kinds, &std::env::vars_os().collect(), &data_dir)?;
    for why in not {
        settings::say(&format!("keyferry: not {why}"));
    }
    Ok(kind)
}

/// Says what is covered of what the command is shown, and what is kept from it of the caller's variables.
pub fn tell(masked: &[Masked], withheld: &[Withheld], placeholders: &[(String, String)]) {
    for masked in masked {
        settings::say(&format!("keyferry: masked {} ({})", masked.path.display(), masked.why));
    }
    let names = withheld.iter().map(|withheld| withheld.name.to_string_lossy());
    let names: Vec<_> = names
        .filter(|name| !placeholders.iter().any(|(held, _)| held == name))
        .collect();
    if !names.is_empty() {
        let names = names.join(", ");
        settings::say(&format!(
            "keyferry: kept from the command: {names} (`--keep-env NAME` leaves one in)"
        ));
    }
}
