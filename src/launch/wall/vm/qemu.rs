//! The command line of QEMU: a machine without a network card, with vsock, and with files from two directories.

use super::{Accelerator, Hardware};
use std::ffi::OsString;
use std::path::Path;

/// A machine that QEMU is to make.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// What it is built like.
    pub(super) hardware: Hardware,
    /// What runs its instructions.
    pub(super) accelerator: Accelerator,
    /// MiB of memory.
    pub(super) memory: u64,
    /// Processors.
    pub(super) cpus: usize,
    /// Its kernel.
    pub(super) kernel: &'a Path,
    /// Its first file system.
    pub(super) initramfs: &'a Path,
    /// The socket of the program that plays its vsock device.
    pub(super) vsock: &'a Path,
    /// Directories that it gets: a name, where, and whether it may write there.
    pub(super) exports: &'a [(&'a str, &'a str, bool)],
}

/// The arguments for QEMU.
pub(super) fn arguments(machine: &Machine<'_>) -> Vec<OsString> {
    let size = format!("{}M", machine.memory);
    let bus = machine.hardware.bus();
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-M", format!("{},memory-backend=memory", machine.hardware.name()));
    match machine.accelerator {
        Accelerator::Kvm => {
            add("-accel", "kvm".into());
            add("-cpu", "host".into());
        }
        Accelerator::Emulated => {
            add("-accel", "tcg".into());
            add("-cpu", "max".into());
        }
    }
    add("-smp", machine.cpus.to_string());
    add("-m", size.clone());
    // The device's program reads the queues in this memory.
    add(
        "-object",
        format!("memory-backend-memfd,id=memory,size={size},share=on"),
    );
    add("-chardev", format!("socket,id=vsock,path={}", machine.vsock.display()));
    add("-device", format!("vhost-user-vsock-{bus},chardev=vsock"));
    for (name, dir, writable) in machine.exports {
        let readonly = if *writable { "off" } else { "on" };
        add(
            "-fsdev",
            format!("local,id={name},path={dir},security_model=none,multidevs=remap,readonly={readonly}"),
        );
        add("-device", format!("virtio-9p-{bus},fsdev={name},mount_tag={name}"));
    }
    add("-serial", "stdio".into());
    add("-monitor", "none".into());
    add("-display", "none".into());
    // What a hole in QEMU could be used for, besides what the wall around it lets it do.
    add(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into(),
    );
    add("-append", command_line(machine));
    words.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    let mut words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    words.extend(["-kernel".into(), machine.kernel.into()]);
    words.extend(["-initrd".into(), machine.initramfs.into()]);
    words
}

fn command_line(machine: &Machine<'_>) -> String {
    let emulated = machine.accelerator == Accelerator::Emulated;
    let mut line = "console=ttyS0 quiet panic=-1 random.trust_cpu=on".to_owned();
    if emulated {
        // Nobody else's instructions share the emulated processor's caches.
        line.push_str(" mitigations=off");
    }
    if emulated && machine.hardware == Hardware::Microvm {
        // It has no timer by which a kernel could measure these, and would hang trying.
        line.push_str(" tsc_early_khz=1000000 lpj=4000000");
    }
    format!("{line} {}", super::first_process())
}
