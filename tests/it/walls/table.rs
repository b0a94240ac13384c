//! One table of escapes, tried in every wall.

#![allow(clippy::too_many_lines, reason = "one table, tried and judged whole")]

use super::{Who, command, run, told};
use crate::clients::REAL;
use crate::rig::proxy::Rig;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

/// Memory a command gets, in MiB.
const MEMORY: u64 = 3072;

/// How a wall is tried.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'t> {
    /// Who starts Keyferry.
    pub who: Who,
    /// What asks for the wall.
    pub wall: &'t [&'t str],
    /// Whether memory and processes are bounded.
    pub bounded: bool,
    /// The socket of a daemon that the wall is made by.
    pub daemon: &'t Path,
    /// What comes to another end than in the table, and to which.
    pub otherwise: &'t [(&'t str, &'t [&'t str])],
}

/// Files with credentials in the folder that is shared, under every name by which one could be reached.
pub fn lay_out(work: &Path) {
    let at = |name: &str| work.join(name);
    std::fs::create_dir_all(at(".aws")).unwrap();
    std::fs::create_dir_all(at("nested")).unwrap();
    for name in [".env", ".aws/credentials", "nested/.env"] {
        std::fs::write(at(name), format!("KEY={REAL}\n")).unwrap();
    }
    std::os::unix::fs::symlink(".env", at("link-to-env")).unwrap();
    std::fs::hard_link(at(".env"), at("hard-link")).unwrap();
    std::fs::write(at("escape.py"), include_str!("escape.py")).unwrap();
}

/// What an attempt may come to for the wall to have held.
const SHUT: &[(&str, &[&str])] = &[
    ("tcp", UNREACHABLE),
    ("udp", UNREACHABLE),
    ("dns", UNREACHABLE),
    (
        "names",
        &[
            "[Errno -2] Name or service not known",
            "[Errno -3] Temporary failure in name resolution",
        ],
    ),
    ("ipv6", UNREACHABLE),
    ("metadata", UNREACHABLE),
    ("icmp", REFUSED),
    ("ping socket", UNREACHABLE),
    ("raw", REFUSED),
    ("packet", REFUSED),
    ("vsock", REFUSED),
    ("alg", REFUSED),
    ("xdp", REFUSED),
    ("bluetooth", REFUSED),
    ("firewall", REFUSED),
    ("host loopback", &["ECONNREFUSED"]),
    ("host loopback 6", &["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL"]),
    ("abstract", &["ECONNREFUSED"]),
    ("docker", ABSENT),
    ("docker 2", ABSENT),
    ("the wall's daemon", ABSENT),
    ("containerd", ABSENT),
    ("podman", ABSENT),
    ("system bus", ABSENT),
    ("log", ABSENT),
    ("admin", &["ECONNREFUSED"]),
    ("ca key", ABSENT),
    ("state", ABSENT),
    ("config", ABSENT),
    ("masked", EMPTY),
    ("masked link", EMPTY),
    ("masked hard link", EMPTY),
    ("masked by root", EMPTY),
    ("masked by cwd", EMPTY),
    ("masked directory", &["[]", "EACCES"]),
    ("unmask by rename", &["EBUSY", "EACCES", "EROFS"]),
    ("unmask by unlink", &["EBUSY", "EACCES", "EROFS"]),
    ("unmask by umount", &["1", "32", "ENOENT"]),
    ("unmask by parent", &["empty", "EBUSY", "EACCES"]),
    ("home of the caller", ABSENT),
    ("passwords", ABSENT),
    ("write to the root", READ_ONLY),
    ("write to usr", READ_ONLY),
    ("write to etc", READ_ONLY),
    ("write to dev", READ_ONLY),
    ("write to proc", READ_ONLY),
    ("write to sysrq", READ_ONLY),
    ("write to sys", READ_ONLY),
    ("write to control groups", READ_ONLY),
    ("write to own program", READ_ONLY),
    ("write to own files", READ_ONLY),
    ("write to the socket's place", READ_ONLY),
    ("replace the socket", READ_ONLY),
    ("init environment", &["EACCES", "EPERM", "no credential"]),
    ("memory of the machine", ABSENT),
    ("log of the kernel", &["ENOENT", "EACCES", "EPERM"]),
    ("make a device", &["EPERM", "EACCES", "ENXIO"]),
    ("unmask in a namespace", EMPTY),
    ("own capabilities", &["EPERM"]),
    ("become root", &["EPERM", "EINVAL"]),
    ("host name", &["EPERM"]),
    ("type at the terminal", &["EPERM", "ENOTTY"]),
    ("open by handle", &["EPERM", "ENOSYS"]),
    ("user namespace", &["1"]),
    ("user namespace by clone", &["EPERM", "ENOSPC"]),
    ("user namespace by clone3", &["ENOSYS"]),
    ("mount", &["1", "32"]),
    ("setuid program", &["1", "126", "127", "FileNotFoundError", "ENOENT"]),
    ("ptrace", &["EPERM", "ENOSYS"]),
    ("io_uring", &["ENOSYS", "EPERM"]),
    ("keyring", &["EPERM", "ENOSYS"]),
    ("bpf", &["EPERM", "ENOSYS"]),
    ("kill outside", &["ESRCH", "EPERM"]),
    ("fill /tmp", &["ENOSPC"]),
    ("room of /dev/shm", &["2048"]),
    ("room of /home/agent", &["2048"]),
];

const UNREACHABLE: &[&str] = &["ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EPERM", "EACCES"];
const REFUSED: &[&str] = &["EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"];
const ABSENT: &[&str] = &["ENOENT", "EACCES"];
const EMPTY: &[&str] = &["empty", "EACCES", "ENOENT"];
const READ_ONLY: &[&str] = &["EROFS", "EACCES", "EPERM", "ENOENT"];

/// Runs the table behind a wall and judges it.
pub async fn nothing_escapes(rig: &Rig, trial: Trial<'_>) {
    let Trial { who, wall, bounded, .. } = trial;
    let work = rig.dir().join("work");
    std::fs::create_dir_all(&work).unwrap();
    lay_out(&work);
    if !matches!(wall, ["--sandbox", "bwrap" | "vm", ..]) {
        super::share(rig);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("keyferry-it-{}", listener.local_addr().unwrap().port());
    let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let host = json!({
        "port": listener.local_addr().unwrap().port(),
        "admin": admin.local_addr().unwrap().port(),
        "abstract": name,
        "ca_key": rig.dir().join("ca/ca-key.pem"),
        "state": rig.dir().join("home/.local/share/keyferry"),
        "config": rig.dir().join("keyferry.yaml"),
        "home": rig.dir().join("home"),
        "pid": std::process::id(),
        "memory": (MEMORY + 1024) * 1024 * 1024,
        "room_mib": 2048,
        "bounded": bounded,
        "daemon": trial.daemon,
        "backwards": REAL.chars().rev().collect::<String>(),
    });
    let memory = MEMORY.to_string();
    let options = [wall, &["--memory", &memory]].concat();
    let words = ["python3", "escape.py", &host.to_string()];
    let output = run(command(rig, who, &options, &words)).await;
    let (out, err) = told(&output);
    let told: Value = serde_json::from_str(out.trim()).unwrap_or_else(|_| panic!("{who:?}: {out}\n{err}"));

    let otherwise = |way: &str| trial.otherwise.iter().find(|(other, _)| *other == way);
    let mut open = Vec::new();
    for (way, shut) in SHUT {
        let shut = otherwise(way).map_or(shut, |(_, shut)| shut);
        let came = told[*way].as_str().unwrap_or("nothing: it was not tried");
        if !shut.contains(&came) {
            open.push(format!("`{way}` came to {came}"));
        }
    }
    assert!(open.is_empty(), "{who:?}: {open:#?}\n{told:#}\n{err}");
    if bounded {
        assert_eq!(told["forks"], "EAGAIN", "{who:?}");
        assert_eq!(told["memory"], "bounded", "{who:?}");
    }
    assert_eq!(told["here"], "open", "the command cannot write where it may");
    let none = json!(["0000000000000000"]);
    let held = told["capabilities"].as_array().unwrap();
    assert!(held.iter().all(|set| *set == none[0]), "{who:?}: capabilities {held:?}");
    assert_eq!(told["no new privileges"], 1);
    assert!(
        !out.contains(REAL) && !err.contains(REAL),
        "{who:?}: the credential is in: {out}\n{err}"
    );
    for listener in [&listener, &admin] {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody reached the host's loopback");
    }
    hidden.set_nonblocking(true).unwrap();
    assert!(
        hidden.accept().is_err(),
        "somebody reached an abstract socket of the host's"
    );
    assert!(work.join("written-here").exists());
    assert!(
        std::fs::read_to_string(work.join(".env")).unwrap().contains(REAL),
        "the file itself was changed"
    );
}
