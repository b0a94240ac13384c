//! What Firecracker makes a machine of: one JSON file. It has neither a network card in it nor a disk.

use super::{Error, failed};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::Path;

/// The number by which a machine is known on vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cid(u32);

impl Cid {
    /// Whatever machine it is: each has a vsock device to itself.
    pub(super) const MACHINE: Self = match Self::new(3) {
        Some(cid) => cid,
        None => panic!("3 is a machine's"),
    };

    /// A machine's: 0 is the hypervisor, 1 the machine itself, 2 its host, and the last one stands for any of them
    /// (vsock(7)). Firecracker takes these without complaint.
    pub(super) const fn new(number: u32) -> Option<Self> {
        if number < 3 || number == u32::MAX {
            return None;
        }
        Some(Self(number))
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

/// A machine that Firecracker is to make.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// MiB of memory.
    pub(super) memory: u64,
    /// Processors; Firecracker gives 32 at most.
    pub(super) cpus: usize,
    /// Its kernel.
    pub(super) kernel: &'a str,
    /// Its first file system.
    pub(super) initramfs: &'a str,
    /// The first process, and what it is told.
    pub(super) first: &'a str,
    /// Its number.
    pub(super) cid: Cid,
    /// Where the host's sockets are, before the port.
    pub(super) sockets: &'a str,
}

/// The file for `firecracker --no-api --config-file`.
pub(super) fn config(machine: &Machine<'_>) -> Value {
    json!({
        "boot-source": {
            "kernel_image_path": machine.kernel,
            "initrd_path": machine.initramfs,
            "boot_args": format!("console=ttyS0 quiet panic=-1 reboot=k random.trust_cpu=on {}", machine.first),
        },
        "drives": [],
        "machine-config": { "vcpu_count": machine.cpus.clamp(1, 32), "mem_size_mib": machine.memory },
        "vsock": { "guest_cid": machine.cid.number(), "uds_path": machine.sockets },
    })
}

/// Whether it can start this kernel, which must be one that is not compressed.
///
/// # Errors
/// When it is compressed, or cannot be read.
pub(super) fn takes(kernel: &Path) -> Result<(), Error> {
    let mut start = [0; 4];
    let read = fs::File::open(kernel).and_then(|mut file| file.read_exact(&mut start));
    read.map_err(|error| failed(format!("cannot read the kernel {}: {error}", kernel.display())))?;
    if start == *b"\x7fELF" {
        return Ok(());
    }
    Err(failed(format!(
        "Firecracker starts kernels that are not compressed, and {} is: name a `vmlinux` with `--kernel` (the kernel's \
         own `scripts/extract-vmlinux` makes one)",
        kernel.display()
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_machine_has_vsock_with_a_number_of_its_own_and_nothing_else() {
        for number in [0, 1, 2, u32::MAX] {
            assert_eq!(Cid::new(number), None, "{number}");
        }
        let machine = Machine {
            memory: 512,
            cpus: 64,
            kernel: "/k",
            initramfs: "/i",
            first: "rdinit=/keyferry -- __guest",
            cid: Cid::MACHINE,
            sockets: "/s/vsock",
        };
        let config = config(&machine);
        let names: Vec<_> = config.as_object().unwrap().keys().collect();
        assert_eq!(names, ["boot-source", "drives", "machine-config", "vsock"]);
        assert_eq!(config["vsock"], json!({ "guest_cid": 3, "uds_path": "/s/vsock" }));
        assert_eq!(config["drives"], json!([]));
        assert_eq!(
            config["machine-config"],
            json!({ "vcpu_count": 32, "mem_size_mib": 512 })
        );
        let line = config["boot-source"]["boot_args"].as_str().unwrap();
        assert!(line.ends_with("rdinit=/keyferry -- __guest"), "{line}");
    }

    #[test]
    fn a_compressed_kernel_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, bytes: &[u8]| {
            fs::write(dir.path().join(name), bytes).unwrap();
            dir.path().join(name)
        };
        assert!(takes(&at("vmlinux", b"\x7fELF\x02\x01")).is_ok());
        let error = takes(&at("vmlinuz", b"MZ\xea\x07")).unwrap_err().to_string();
        assert!(
            error.contains("not compressed") && error.contains("--kernel"),
            "{error}"
        );
    }
}
