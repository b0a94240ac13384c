//! Keyferry for long: passed its sockets, telling how it is, and followed by a new process without a break.

mod activation;
mod notify;
mod refused;
mod units;
mod upgrade;

use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{eventually, tools};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Mutex;

/// An origin, and a rig that leads to it, started by a name of its own.
pub async fn ground() -> (Origin, Rig) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).rule("host: api.test");
    let program = rig.dir().join("keyferry");
    std::os::unix::fs::symlink(tools::KEYFERRY, &program).unwrap();
    (origin, rig.program(&program))
}

/// A port that is free now.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Puts a script in the place of the program that a running Keyferry was started from.
pub fn replace_program(proxy: &Proxy, script: &str) {
    let (new, place) = (proxy.rig.dir().join("new"), proxy.rig.dir().join("keyferry"));
    std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&new, mode).unwrap();
    std::fs::rename(new, place).unwrap();
}

/// `keyferry reload --upgrade`, to its end: its exit code, and what it said.
pub async fn upgrade(proxy: &Proxy) -> (Option<i32>, String) {
    let mut command = Command::new(tools::KEYFERRY);
    crate::rig::proxy::bare(&mut command, &proxy.rig.dir().join("home"));
    command
        .args(["reload", "--upgrade", "--config"])
        .arg(proxy.rig.dir().join("keyferry.yaml"));
    let output = tokio::process::Command::from(command).output();
    let output = crate::rig::soon("the upgrade", output).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// The processes that follow a Keyferry. They are nobody's children in the end, so they are ended here.
#[derive(Default)]
pub struct Followers(Mutex<BTreeSet<u32>>);

impl Followers {
    /// Upgrades, which must succeed; the new process.
    pub async fn next(&self, proxy: &Proxy) -> u32 {
        let (code, said) = upgrade(proxy).await;
        assert_eq!(code, Some(0), "{said}\n{}", proxy.child.log());
        self.read(&said)
    }

    /// Reads off which process serves now.
    pub fn read(&self, said: &str) -> u32 {
        let mut lines = said.lines().filter_map(|line| line.strip_prefix("process "));
        let pid = lines.rfind(|line| line.contains(" serves now"));
        let pid = pid.unwrap_or_else(|| panic!("nobody serves: {said}")).split(' ').next();
        let pid: u32 = pid.unwrap().parse().unwrap();
        self.0.lock().unwrap().insert(pid);
        pid
    }

    /// Ends one as an operator does, and waits for it.
    pub async fn stop(&self, pid: u32) {
        kill(pid, "TERM");
        eventually("its end", || (!is_there(pid)).then_some(())).await;
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for pid in self.0.lock().unwrap().iter().filter(|pid| is_there(**pid)) {
            kill(*pid, "KILL");
        }
    }
}

pub fn kill(pid: u32, signal: &str) {
    let _ = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status();
}

/// Whether a Keyferry with that process id runs.
pub fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    stat.contains("(keyferry)") && state != Some('Z')
}
