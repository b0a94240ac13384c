//! The filter of system calls, from the list in `config/sandbox/seccomp.json`, as the classic BPF program that the kernel
//! takes (seccomp(2)) and bubblewrap hands on. Whatever is not listed is allowed; namespaces and dropped capabilities do the rest.

use serde::Deserialize;

/// The list, in Docker's form, with the reason for each; Docker and Podman take it as it is.
pub const PROFILE: &str = include_str!("../../../config/sandbox/seccomp.json");

#[derive(Debug, Deserialize)]
struct Profile {
    syscalls: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    names: Vec<String>,
    errno_ret: u16,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u32,
    op: Compare,
    /// What is left under the mask that `value` then is.
    value_two: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Compare {
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    Masked,
}

/// One instruction (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

/// Loads 32 bits of `struct seccomp_data` (`BPF_LD | BPF_W | BPF_ABS`).
const LOAD: u16 = 0x20;
/// Jumps if equal (`BPF_JMP | BPF_JEQ | BPF_K`).
const EQUAL: u16 = 0x15;
/// Jumps if greater or equal, unsigned (`BPF_JMP | BPF_JGE | BPF_K`).
const AT_LEAST: u16 = 0x35;
/// Keeps the bits of a mask (`BPF_ALU | BPF_AND | BPF_K`).
const AND: u16 = 0x54;
/// Ends with a verdict (`BPF_RET | BPF_K`).
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`: the call's number, the machine, the first argument.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// `AUDIT_ARCH_…` of what this program is built for.
#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;

/// The same, as the specification spells it.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "SCMP_ARCH_X86_64";
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "SCMP_ARCH_AARCH64";

/// Calls of the x32 kind have this bit in their numbers, and would pass by every number of the list.
#[cfg(target_arch = "x86_64")]
const X32: Option<u32> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const X32: Option<u32> = None;

const ENOSYS: u16 = 38;

/// The program's bytes, for `bwrap --seccomp`.
///
/// # Errors
/// When the list cannot be read or names a call that is not known here; a test holds that it does not.
pub fn program() -> Result<Vec<u8>, String> {
    let bytes = |step: Step| {
        let [a, b] = step.code.to_ne_bytes();
        let [c, d, e, f] = step.k.to_ne_bytes();
        [a, b, step.if_true, step.if_false, c, d, e, f]
    };
    Ok(steps()?.into_iter().flat_map(bytes).collect())
}

/// Puts this process, and what it becomes, behind the filter.
///
/// # Errors
/// As [`program`], or when the kernel takes no filter.
pub fn enter() -> Result<(), String> {
    let step = |step: Step| seccompiler::sock_filter {
        code: step.code,
        jt: step.if_true,
        jf: step.if_false,
        k: step.k,
    };
    let filter: Vec<_> = steps()?.into_iter().map(step).collect();
    seccompiler::apply_filter(&filter).map_err(|error| format!("the kernel takes no filter: {error}"))
}

fn steps() -> Result<Vec<Step>, String> {
    let profile: Profile = serde_json::from_str(PROFILE).map_err(|e| format!("config/sandbox/seccomp.json: {e}"))?;
    let mut steps = vec![
        load(MACHINE),
        jump(EQUAL, OURS, 1, 0),
        verdict(KILL_PROCESS),
        load(NUMBER),
    ];
    if let Some(x32) = X32 {
        steps.extend([jump(AT_LEAST, x32, 0, 1), refuse(ENOSYS)]);
    }
    for entry in &profile.syscalls {
        for name in &entry.names {
            let number = number(name).ok_or_else(|| format!("config/sandbox/seccomp.json: no system call `{name}`"))?;
            forbid(&mut steps, number, entry)?;
        }
    }
    steps.push(verdict(ALLOW));
    Ok(steps)
}

/// The list in the form of the runtime specification, which is Docker's less its comments and the machines that this is not.
pub fn oci() -> serde_json::Value {
    let mut profile: serde_json::Value = serde_json::from_str(PROFILE).unwrap_or_default();
    if let Some(profile) = profile.as_object_mut() {
        profile.shift_remove("comment");
        profile.insert("architectures".into(), [ARCHITECTURE].into());
    }
    let entries = profile.get_mut("syscalls").and_then(serde_json::Value::as_array_mut);
    for entry in entries
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_object_mut)
    {
        entry.shift_remove("comment");
    }
    profile
}

/// Refuses one call if all the arguments of `entry` fit.
fn forbid(steps: &mut Vec<Step>, number: u32, entry: &Entry) -> Result<(), String> {
    if entry.args.is_empty() {
        steps.extend([jump(EQUAL, number, 0, 1), refuse(entry.errno_ret)]);
        return Ok(());
    }
    let far = |steps: usize| u8::try_from(steps).map_err(|_| "a system call has too many arguments".to_owned());
    // Three steps for each argument, the refusal, and the number again for whatever comes next.
    let block = entry.args.len() * 3 + 2;
    steps.push(jump(EQUAL, number, 0, far(block)?));
    for (at, argument) in entry.args.iter().enumerate() {
        let to_reload = block - at * 3 - 4;
        let (mask, value) = match argument.op {
            Compare::Equal => (u32::MAX, argument.value),
            Compare::Masked => (argument.value, argument.value_two.unwrap_or_default()),
        };
        // The lower half decides: the kernel itself looks at no more of these arguments.
        steps.push(load(ARGUMENTS + 8 * argument.index));
        steps.push(jump(AND, mask, 0, 0));
        steps.push(jump(EQUAL, value, 0, far(to_reload)?));
    }
    steps.extend([refuse(entry.errno_ret), load(NUMBER)]);
    Ok(())
}

fn load(offset: u32) -> Step {
    Step {
        code: LOAD,
        if_true: 0,
        if_false: 0,
        k: offset,
    }
}

fn jump(code: u16, k: u32, if_true: u8, if_false: u8) -> Step {
    Step {
        code,
        if_true,
        if_false,
        k,
    }
}

fn verdict(k: u32) -> Step {
    jump(RETURN, k, 0, 0)
}

fn refuse(errno: u16) -> Step {
    verdict(ERRNO | u32::from(errno))
}

macro_rules! numbers {
    ($($name:literal $number:ident)*) => {
        /// A call's number on this machine.
        fn number(name: &str) -> Option<u32> {
            let number = match name {
                $($name => libc::$number,)*
                _ => return None,
            };
            u32::try_from(number).ok()
        }
    };
}

numbers! {
    "ptrace" SYS_ptrace
    "process_vm_readv" SYS_process_vm_readv
    "process_vm_writev" SYS_process_vm_writev
    "kcmp" SYS_kcmp
    "pidfd_getfd" SYS_pidfd_getfd
    "io_uring_setup" SYS_io_uring_setup
    "io_uring_enter" SYS_io_uring_enter
    "io_uring_register" SYS_io_uring_register
    "bpf" SYS_bpf
    "perf_event_open" SYS_perf_event_open
    "userfaultfd" SYS_userfaultfd
    "keyctl" SYS_keyctl
    "add_key" SYS_add_key
    "request_key" SYS_request_key
    "mount" SYS_mount
    "umount2" SYS_umount2
    "pivot_root" SYS_pivot_root
    "chroot" SYS_chroot
    "move_mount" SYS_move_mount
    "open_tree" SYS_open_tree
    "fsopen" SYS_fsopen
    "fsconfig" SYS_fsconfig
    "fsmount" SYS_fsmount
    "fspick" SYS_fspick
    "mount_setattr" SYS_mount_setattr
    "unshare" SYS_unshare
    "clone" SYS_clone
    "clone3" SYS_clone3
    "setns" SYS_setns
    "open_by_handle_at" SYS_open_by_handle_at
    "name_to_handle_at" SYS_name_to_handle_at
    "kexec_load" SYS_kexec_load
    "kexec_file_load" SYS_kexec_file_load
    "init_module" SYS_init_module
    "finit_module" SYS_finit_module
    "delete_module" SYS_delete_module
    "reboot" SYS_reboot
    "swapon" SYS_swapon
    "swapoff" SYS_swapoff
    "acct" SYS_acct
    "quotactl" SYS_quotactl
    "syslog" SYS_syslog
    "settimeofday" SYS_settimeofday
    "clock_settime" SYS_clock_settime
    "adjtimex" SYS_adjtimex
    "clock_adjtime" SYS_clock_adjtime
    "sethostname" SYS_sethostname
    "setdomainname" SYS_setdomainname
    "socket" SYS_socket
    "ioctl" SYS_ioctl
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// What the kernel would make of a call (the same few instructions, run by hand).
    fn judge(machine: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let program = program().unwrap();
        let steps: Vec<Step> = program
            .chunks_exact(8)
            .map(|s| Step {
                code: u16::from_ne_bytes([s[0], s[1]]),
                if_true: s[2],
                if_false: s[3],
                k: u32::from_ne_bytes([s[4], s[5], s[6], s[7]]),
            })
            .collect();
        let (mut at, mut held) = (0, 0);
        loop {
            let step = steps[at];
            at += 1;
            let taken = match step.code {
                LOAD => {
                    held = match step.k {
                        NUMBER => number,
                        MACHINE => machine,
                        offset => u32::try_from(arguments[(offset as usize - 16) / 8] & 0xffff_ffff).unwrap(),
                    };
                    continue;
                }
                AND => {
                    held &= step.k;
                    continue;
                }
                EQUAL => held == step.k,
                AT_LEAST => held >= step.k,
                _ => return step.k,
            };
            at += usize::from(if taken { step.if_true } else { step.if_false });
        }
    }

    fn call(number: i64, arguments: [u64; 6]) -> u32 {
        judge(OURS, u32::try_from(number).unwrap(), arguments)
    }

    #[test]
    fn what_is_listed_is_refused_and_the_rest_is_not() {
        assert_eq!(call(libc::SYS_ptrace, [0; 6]), ERRNO | 1);
        assert_eq!(call(libc::SYS_io_uring_setup, [0; 6]), ERRNO | 38);
        assert_eq!(call(libc::SYS_setns, [0; 6]), ERRNO | 1);
        for allowed in [libc::SYS_read, libc::SYS_clone, libc::SYS_execve, libc::SYS_exit_group] {
            assert_eq!(call(allowed, [0; 6]), ALLOW);
        }
        let clone = |flags: i32| call(libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0]);
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::SIGCHLD;
        assert_eq!(clone(thread), ALLOW);
        assert_eq!(clone(thread | libc::CLONE_NEWUSER), ERRNO | 1);
        assert_eq!(clone(libc::CLONE_NEWNS | libc::SIGCHLD), ERRNO | 1);
        assert_eq!(call(libc::SYS_clone3, [0; 6]), ERRNO | 38, "its flags cannot be seen");
        let socket = |family: u64, protocol: u64| call(libc::SYS_socket, [family, 1, protocol, 0, 0, 0]);
        assert_eq!(socket(40, 0), ERRNO | 97, "vsock");
        assert_eq!(socket(1 << 32 | 40, 0), ERRNO | 97, "the kernel reads an int");
        assert_eq!(socket(17, 0), ERRNO | 97, "packets");
        assert_eq!((socket(1, 0), socket(2, 0), socket(10, 0)), (ALLOW, ALLOW, ALLOW));
        assert_eq!((socket(16, 12), socket(16, 0)), (ERRNO | 97, ALLOW), "netlink");
        let ioctl = |what| call(libc::SYS_ioctl, [0, what, 0, 0, 0, 0]);
        assert_eq!(
            (ioctl(0x5412), ioctl(0x541c), ioctl(0x5413)),
            (ERRNO | 1, ERRNO | 1, ALLOW)
        );
    }

    #[test]
    fn calls_of_another_kind_do_not_pass_by_the_list() {
        assert_eq!(judge(0x4000_0003, 26, [0; 6]), KILL_PROCESS, "32-bit");
        if let Some(x32) = X32 {
            assert_eq!(judge(OURS, x32 | 101, [0; 6]), ERRNO | 38, "x32");
        }
    }
}
