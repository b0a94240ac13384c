//! The namespace that QEMU runs in: what it needs itself, and below `/view` what the machine is shown.

use super::super::bwrap::{Line, below};
use super::super::{OWN, Plan};
use super::{SHARED, SYSTEM};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The command line of bubblewrap, up to the program that is to run there. `own` is what the program needs, where it
/// finds that, and whether it may write there.
pub(super) fn words(bwrap: PathBuf, plan: &Plan, filter: i32, own: &[(&Path, &str, bool)]) -> Vec<OsString> {
    let mut line = Line(vec![bwrap.into_os_string()]);
    // The caller's terminal is not for QEMU.
    line.namespaces(plan, false);
    line.programs(plan, "");
    line.add([
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--dev-bind-try",
        "/dev/kvm",
        "/dev/kvm",
    ]);
    line.add(["--tmpfs", "/tmp"]);
    line.bind("--ro-bind", &plan.program, format!("{OWN}/keyferry"));
    for (from, to, writable) in own {
        line.bind(if *writable { "--bind" } else { "--ro-bind" }, from, to);
    }
    if !plan.machine.is_packed() {
        match &plan.machine.rootfs {
            Some(rootfs) => line.bind("--ro-bind", rootfs, SYSTEM),
            None => line.programs(plan, SYSTEM),
        }
        line.bind("--ro-bind", &plan.dir, below(SHARED, &plan.dir));
        line.shared(plan, SHARED);
    }
    line.add(["--remount-ro", "/", "--chdir", "/"]);
    line.add(["--seccomp".to_owned(), filter.to_string()]);
    line.add(["--"]);
    line.0
}
