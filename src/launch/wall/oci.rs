//! A wall as a bundle of the Open Container Initiative: `config.json`, as its runtime specification 1.0 has it, beside a
//! root of empty directories.

use super::inside::{self, Bind};
use super::{HOME, Plan, ROOM, docker, seccomp};
use serde_json::{Value, json};
use std::ffi::OsStr;

/// The bundle's configuration; its root is the directory `rootfs` beside it. Texts that are no UTF-8 are not in it as they
/// are.
pub fn config(plan: &Plan) -> Value {
    let text = |text: &OsStr| text.to_string_lossy().into_owned();
    let mut words = plan.bridge(&[format!("{}/keyferry", super::carried::DIR)]);
    words.extend(plan.words.iter().cloned());
    let words: Vec<String> = words.iter().map(|word| text(word)).collect();
    let variables = plan
        .vars
        .iter()
        .map(|(name, value)| format!("{}={}", text(name), text(value)));
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
    let nothing: [&str; 0] = [];
    let sets = ["bounding", "effective", "inheritable", "permitted", "ambient"];
    let none: serde_json::Map<String, Value> = sets.map(|set| (set.to_owned(), json!(nothing))).into_iter().collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "agent",
        "process": {
            "terminal": plan.terminal,
            "user": { "uid": plan.user.uid, "gid": plan.user.gid },
            "cwd": text(plan.workdir.path.as_os_str()),
            "args": words,
            "env": variables.collect::<Vec<_>>(),
            "capabilities": none,
            "noNewPrivileges": true,
        },
        "mounts": mounts(plan),
        "linux": {
            "namespaces": namespaces,
            "seccomp": seccomp::oci(),
            "maskedPaths": inside::HIDDEN,
            "readonlyPaths": inside::MACHINES,
        },
    })
}

fn mounts(plan: &Plan) -> Vec<Value> {
    let (uid, gid) = (plan.user.uid, plan.user.gid);
    let room = |path: &str, mode: &str| {
        let options = [
            "noexec".into(),
            "nosuid".into(),
            "nodev".into(),
            format!("size={ROOM}"),
            format!("mode={mode}"),
        ];
        let owner = [format!("uid={uid}"), format!("gid={gid}")];
        let options: Vec<String> = options.into_iter().chain(owner).collect();
        json!({ "destination": path, "type": "tmpfs", "source": "tmpfs", "options": options })
    };
    let bind = |bind: Bind| {
        let access = if bind.writable { "rw" } else { "ro" };
        let (from, to) = (bind.from.to_string_lossy(), bind.to.to_string_lossy());
        json!({ "destination": to, "type": "bind", "source": from, "options": ["rbind", "rprivate", access] })
    };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        room("/tmp", "1777"),
        room("/dev/shm", "1777"),
        room(HOME, "0700"),
    ];
    let carried = super::carried::Carried::alone(&plan.program);
    mounts.extend(docker::binds(plan, &carried).into_iter().map(bind));
    mounts
}
