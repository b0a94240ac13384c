//! A virtual machine, emulated where there is no KVM. Each start takes some seconds, so that one does for many attempts.

use super::table::{Trial, lay_out, nothing_escapes};
use super::{Who, base_urls_work, command, everyone, run, terminal, told, what_is_allowed_works};
use crate::clients::{REAL, api};
use crate::rig::proxy::Rig;
use crate::rig::running::Running;
use crate::rig::{eventually, tools};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The options that ask for a machine, with the kernel and the device that scripts/test installs. Where they lie may be
/// nobody else's to see, so that an ordinary user gets copies.
fn wall(rig: &Rig, who: Who) -> Vec<String> {
    tools::need("bwrap");
    tools::need("qemu-system-x86_64");
    let found = |from: PathBuf, name: &str| {
        assert!(from.exists(), "{} is missing; scripts/test installs it", from.display());
        if who == Who::Us {
            return from;
        }
        let to = rig.dir().join(name);
        let copied = Command::new("cp").arg("-r").args([&from, &to]).status();
        assert!(copied.unwrap().success());
        to
    };
    let device = found(tools::installed().join("bin/vhost-device-vsock"), "vhost-device-vsock");
    let kernel = found(tools::installed().join("microvm/kernel"), "kernel");
    let mut boot = std::fs::read_dir(kernel.join("boot")).unwrap().flatten();
    let image = boot.find(|one| one.file_name().to_string_lossy().starts_with("vmlinuz"));
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (device, image) = (path(&device), path(&image.unwrap().path()));
    ["--sandbox", "vm", "--vsock-device", &device, "--kernel", &image]
        .map(str::to_owned)
        .to_vec()
}

fn with<'w>(wall: &'w [String], more: &[&'w str]) -> Vec<&'w str> {
    wall.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn every_way_out_of_a_machine_is_shut() {
    let (origin, rig) = api().await;
    let wall = wall(&rig, Who::Us);
    let trial = Trial {
        who: Who::Us,
        wall: &with(&wall, &[]),
        bounded: true,
        daemon: Path::new("/nowhere"),
        // Neither is seen by the command.
        otherwise: &[("write to own program", &["EINVAL"]), ("init environment", &["ENOENT"])],
    };
    nothing_escapes(&rig, trial).await;
    assert_eq!(origin.seen().len(), 0);
}

/// What may come of what root tries, and root has no filter and every capability inside.
const ROOT: &[(&str, &[&str])] = &[
    ("tcp", &["ENETUNREACH"]),
    ("udp", &["ENETUNREACH"]),
    ("ipv6", &["ENETUNREACH", "EADDRNOTAVAIL"]),
    ("ping", &["ENETUNREACH"]),
    ("interfaces", &["lo"]),
    ("vsock proxy", &["open"]),
    ("vsock ports", &["none"]),
    ("vsock machines", &["none"]),
    ("masked", &["empty"]),
    ("masked by root", &["empty"]),
    ("masked by unmount", &["empty"]),
    ("masked by a second mount", &["EBUSY", "EINVAL", "ENOENT"]),
    ("masked directory", &["[]"]),
    ("unmask by rename", &["EBUSY"]),
    ("unmask by unlink", &["EBUSY"]),
    ("unmask by parent", &["empty", "EBUSY"]),
    ("credential anywhere", &["none"]),
    ("home of the caller", &["ENOENT"]),
    ("ca key", &["ENOENT"]),
    ("passwords", &["ENOENT"]),
    ("write to usr", &["EROFS"]),
    ("write to what is shown to read", &["EROFS"]),
    ("make a disk", &["EPERM"]),
    ("old root", &["none"]),
    ("here", &["open"]),
];

#[tokio::test]
async fn not_even_root_of_the_machine_sees_or_reaches_more() {
    let (origin, rig) = api().await;
    let work = rig.dir().join("work");
    std::fs::create_dir_all(&work).unwrap();
    lay_out(&work);
    std::fs::write(work.join("root.py"), include_str!("root.py")).unwrap();
    let shown = rig.dir().join("shown");
    std::fs::create_dir_all(&shown).unwrap();
    let host = json!({
        "shown": shown,
        "home": rig.dir().join("home"),
        "ca_key": rig.dir().join("ca/ca-key.pem"),
        // In two pieces, as the search would find its own words.
        "credential": REAL.split_at(8),
    });
    let wall = wall(&rig, Who::Us);
    let options = with(
        &wall,
        &["--root", "--memory", "1024", "--mount", shown.to_str().unwrap()],
    );
    let output = run(command(
        &rig,
        Who::Us,
        &options,
        &["python3", "root.py", &host.to_string()],
    ))
    .await;
    let (out, err) = told(&output);
    let told: Value = serde_json::from_str(out.trim()).unwrap_or_else(|_| panic!("{out}\n{err}"));
    for (way, ends) in ROOT {
        let came = told[*way]
            .as_str()
            .unwrap_or_else(|| panic!("`{way}` was not tried: {told:#}"));
        assert!(ends.contains(&came), "`{way}` came to {came:?}: {told:#}\n{err}");
    }
    assert!(!out.contains(REAL) && !err.contains(REAL));
    assert!(!Path::new("/usr/escaped").exists() && !shown.join("escaped").exists());
    assert!(
        std::fs::read_to_string(work.join(".env")).unwrap().contains(REAL),
        "the file itself was changed"
    );
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn what_is_allowed_works_in_a_machine_with_a_credential_that_is_not_there() {
    // Whoever starts it: an ordinary user where that can be tried.
    let who = everyone().pop().unwrap();
    let (origin, rig) = api().await;
    let wall = wall(&rig, who);
    what_is_allowed_works(&origin, &rig, who, &with(&wall, &[])).await;
}

#[tokio::test]
async fn a_base_url_leads_out_of_a_machine_too() {
    let (_origin, rig) = api().await;
    base_urls_work(&with(&wall(&rig, Who::Us), &[]), |rig| rig).await;
}

#[tokio::test]
async fn streams_codes_and_the_least_of_machines_are_as_they_should_be() {
    let (origin, rig) = api().await;
    let wall = wall(&rig, Who::Us);
    let script = "cat; echo error >&2; curl -sS -o /dev/null https://api.test/microvm; exit 7";
    let mut asked = command(
        &rig,
        Who::Us,
        &with(&wall, &["--machine", "microvm"]),
        &["sh", "-c", script],
    );
    let mut keyferry = asked
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sent = "a line\n".repeat(50_000);
    let mut input = keyferry.stdin.take().unwrap();
    let feed = sent.clone();
    std::thread::spawn(move || input.write_all(feed.as_bytes()));
    let ended = tokio::task::spawn_blocking(|| keyferry.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let (out, err) = told(&ended);
    assert_eq!(ended.status.code(), Some(7), "{err}");
    assert_eq!(out.len(), sent.len(), "{err}");
    assert!(out == sent && err.contains("\nerror\n"), "{err}");
    assert_eq!(origin.only().target, "/microvm");
    let output = run(command(&rig, Who::Us, &with(&wall, &[]), &["no-such-program-anywhere"])).await;
    assert_eq!(output.status.code(), Some(127), "{}", told(&output).1);
    assert!(
        told(&output).1.contains("no-such-program-anywhere: no such command"),
        "{}",
        told(&output).1
    );
}

#[tokio::test]
async fn a_signal_reaches_the_command_in_a_machine_and_a_kill_leaves_nothing() {
    let (_origin, rig) = api().await;
    let wall = wall(&rig, Who::Us);
    let work = rig.dir().join("work");
    let script = "trap 'echo heard >heard; exit 3' TERM; echo up >up; while :; do sleep 0.1; done";
    for (signal, code) in [("TERM", Some(3)), ("KILL", None)] {
        let command = command(&rig, Who::Us, &with(&wall, &[]), &["sh", "-c", script]);
        let mut keyferry = Running::start(command);
        eventually("the command", || work.join("up").exists().then_some(())).await;
        std::fs::remove_file(work.join("up")).unwrap();
        let below = descendants(keyferry.id());
        assert!(below.len() >= 5, "bubblewrap, the device and QEMU: {below:?}");
        keyferry.signal(signal);
        let status = keyferry.ended().await;
        assert_eq!(status.code(), code);
        let gone = |process: &u32| !Path::new(&format!("/proc/{process}")).exists();
        eventually("the end of it all", || below.iter().all(gone).then_some(())).await;
        assert_eq!(work.join("heard").exists(), signal == "TERM");
        let _ = std::fs::remove_file(work.join("heard"));
    }
}

/// All processes that descend from one.
fn descendants(process: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-eo", "pid=,ppid="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers = |line: &str| {
        line.split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect::<Vec<u32>>()
    };
    let all: Vec<_> = text.lines().map(numbers).collect();
    let mut found = vec![process];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|pair| pair[1] == parent).map(|pair| pair[0]));
        at += 1;
    }
    found.split_off(1)
}

#[tokio::test]
async fn a_terminal_in_a_machine_is_the_callers() {
    let (_origin, rig) = api().await;
    let wall = wall(&rig, Who::Us);
    terminal(&rig, &with(&wall, &[])).await;
}

/// An image that is unpacked: one program, and files that something of Keyferry's lies over.
fn unpacked(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    for part in ["bin", "etc/ssl/certs", "proc", "tmp", "var/tmp"] {
        std::fs::create_dir_all(root.join(part)).unwrap();
    }
    std::fs::copy(tools::need("busybox"), root.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "grep", "nc", "head", "id", "ls", "df", "awk"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for name in ["etc/hosts", "etc/ssl/certs/ca-certificates.crt"] {
        std::fs::write(root.join(name), "the image's own\n").unwrap();
    }
    root
}

#[tokio::test]
async fn an_unpacked_image_is_a_machines_root_and_a_packed_one_needs_no_directory_of_the_hosts() {
    let (_origin, rig) = api().await;
    let wall = wall(&rig, Who::Us);
    let work = rig.dir().join("work");
    std::fs::create_dir_all(&work).unwrap();
    lay_out(&work);
    std::fs::write(work.join("note"), "from outside\n").unwrap();
    let root = unpacked(rig.dir());
    let script = "id -u; cat note .env .aws/* 2>/dev/null; grep -c localhost /etc/hosts
        grep -q CERTIFICATE /etc/ssl/certs/ca-certificates.crt && echo trusted
        ls / | head -c 200 | grep -c -e usr -e root; (echo x >made) 2>/dev/null && echo wrote || echo refused
        grep -q 9p /proc/mounts && echo directories || echo copies
        printf 'GET http://other.test/ HTTP/1.1\\r\\nHost: other.test\\r\\nConnection: close\\r\\n\\r\\n' | nc 127.0.0.1 3128 | head -n 1";
    for (options, end) in [
        (&["--rootfs", root.to_str().unwrap()][..], "wrote\ndirectories\n"),
        (
            &["--rootfs", root.to_str().unwrap(), "--pack", "--machine", "microvm"],
            "refused\ncopies\n",
        ),
    ] {
        let output = run(command(&rig, Who::Us, &with(&wall, options), &["sh", "-c", script])).await;
        let (out, err) = told(&output);
        let lines = format!("1000\nfrom outside\n2\ntrusted\n0\n{end}HTTP/1.1 403 Forbidden\r\n");
        assert_eq!(out, lines, "{err}");
        assert_eq!(work.join("made").exists(), end.starts_with("wrote"));
        let _ = std::fs::remove_file(work.join("made"));
    }
    for (options, code, why) in [
        (&["--pack"][..], 125, "name a smaller root with `--rootfs DIR`"),
        (
            &["--pack", "--rootfs", root.to_str().unwrap(), "--workdir", ".:rw"],
            2,
            "it cannot be `:rw`",
        ),
    ] {
        let output = run(command(&rig, Who::Us, &with(&wall, options), &["true"])).await;
        let err = told(&output).1;
        assert!(output.status.code() == Some(code) && err.contains(why), "{err}");
    }
    let firecracker = ["--sandbox", "firecracker", "--rootfs", root.to_str().unwrap()];
    let output = run(command(&rig, Who::Us, &firecracker, &["true"])).await;
    let err = told(&output).1;
    assert!(
        output.status.code() == Some(125) && err.contains("Firecracker is not on this machine"),
        "{err}"
    );
}

#[tokio::test]
async fn what_a_machine_needs_and_is_not_there_is_told_in_words() {
    let (_origin, rig) = api().await;
    let wall = wall(&rig, Who::Us);
    let bare = rig.dir().join("bare/boot/vmlinuz-0.0");
    std::fs::create_dir_all(bare.parent().unwrap()).unwrap();
    std::fs::write(&bare, "").unwrap();
    for (kernel, why) in [
        ("/nowhere/vmlinuz", "cannot read the kernel /nowhere/vmlinuz"),
        (
            bare.to_str().unwrap(),
            "are not in /lib/modules; name a kernel that has its own with `--kernel`",
        ),
    ] {
        let options = [&with(&wall, &[])[..4], &["--kernel", kernel]].concat();
        let output = run(command(&rig, Who::Us, &options, &["true"])).await;
        assert_eq!(output.status.code(), Some(125));
        assert!(told(&output).1.contains(why), "{}", told(&output).1);
    }
    let output = run(command(&rig, Who::Us, &["--sandbox", "bwrap", "--root"], &["true"])).await;
    assert_eq!(output.status.code(), Some(2));
}
