//! bubblewrap, as root and as an ordinary user.

use super::table::{Trial, nothing_escapes};
use super::{
    Who, base_urls_work, claude_does_its_work, command, ends_are_told_as_they_are, everyone, nothing_outlives_keyferry,
    run, terminal, told, what_is_allowed_works,
};
use crate::clients::api;
use crate::rig::running::Running;
use crate::rig::{eventually, tools};
use std::path::Path;
use std::process::Command;

const WALL: &[&str] = &["--sandbox", "bwrap"];

#[tokio::test]
async fn every_way_out_of_bubblewrap_is_shut() {
    tools::need("bwrap");
    for who in everyone() {
        let (origin, rig) = api().await;
        // Only root can make control groups here; without one, memory is not bounded, and Keyferry says so.
        let bounded = who == Who::Us && rustix::process::geteuid().is_root();
        let trial = Trial {
            who,
            wall: WALL,
            bounded,
            daemon: Path::new("/run/docker.sock"),
            otherwise: &[],
        };
        nothing_escapes(&rig, trial).await;
        assert_eq!(origin.seen().len(), 0);
    }
}

#[tokio::test]
async fn what_is_allowed_works_behind_it_with_a_credential_that_is_not_there() {
    for who in everyone() {
        let (origin, rig) = api().await;
        what_is_allowed_works(&origin, &rig, who, WALL).await;
    }
}

#[tokio::test]
async fn a_base_url_leads_out_of_bubblewrap() {
    base_urls_work(WALL, |rig| rig).await;
}

#[tokio::test]
async fn a_commands_end_is_told_as_it_is() {
    let (_origin, rig) = api().await;
    ends_are_told_as_they_are(&rig, WALL).await;
}

#[tokio::test]
async fn a_terminal_behind_it_is_the_callers_and_so_it_is_without_a_wall() {
    let (_origin, rig) = api().await;
    terminal(&rig, WALL).await;
    terminal(&rig, &["--sandbox", "none"]).await;
}

#[tokio::test]
async fn a_signal_to_keyferry_reaches_the_command_behind_it_which_may_take_its_time() {
    let (_origin, rig) = api().await;
    let work = rig.dir().join("work");
    let script = "trap 'sleep 1; echo heard >heard; exit 3' TERM; echo up >up; while :; do sleep 0.1; done";
    for signal in ["TERM", "HUP", "INT"] {
        let script = script.replace("TERM", signal);
        let command = command(&rig, Who::Us, WALL, &["sh", "-c", &script]);
        let mut keyferry = Running::start(command);
        eventually("the command", || work.join("up").exists().then_some(())).await;
        keyferry.signal(signal);
        let status = keyferry.ended().await;
        assert_eq!(status.code(), Some(3), "{signal}");
        std::fs::remove_file(work.join("heard")).unwrap();
        std::fs::remove_file(work.join("up")).unwrap();
    }
}

#[tokio::test]
async fn an_ordinary_users_command_has_no_more_processes_than_its_bound() {
    let (_origin, rig) = api().await;
    let who = everyone().pop().unwrap();
    let script = "
import os, signal
made = []
try:
    while len(made) < 6000:
        child = os.fork()
        if child == 0:
            signal.pause()
        made.append(child)
    print('unbounded')
except BlockingIOError:
    print('bounded', 3900 < len(made) < 4096)
for child in made:
    os.kill(child, 9)
";
    let output = run(command(&rig, who, WALL, &["python3", "-c", script])).await;
    let (out, err) = told(&output);
    assert_eq!(out, "bounded True\n", "{who:?}: {err}");
    let tells = who == Who::Ordinary && rustix::process::geteuid().is_root();
    assert_eq!(err.contains("the command's memory is not bounded"), tells, "{err}");
}

#[tokio::test]
async fn what_is_masked_is_told_and_shown_only_when_asked_for() {
    let (_origin, rig) = api().await;
    let work = rig.dir().join("work");
    std::fs::create_dir_all(work.join("more")).unwrap();
    std::fs::write(work.join(".env"), "A=1\n").unwrap();
    std::fs::write(work.join("more/.env.local"), "B=2\n").unwrap();
    let cat = ["sh", "-c", "cat .env more/.env.local"];
    let (out, err) = told(&run(command(&rig, Who::Us, WALL, &cat)).await);
    assert_eq!(out, "");
    assert!(
        err.contains("masked") && err.contains("more/.env.local (variables with credentials)"),
        "{err}"
    );
    let unmask = [WALL, &["--unmask", ".env"]].concat();
    let (out, err) = told(&run(command(&rig, Who::Us, &unmask, &cat)).await);
    assert_eq!(out, "A=1\n", "{err}");
    let shut = [WALL, &["--workdir", ".:ro"]].concat();
    let output = run(command(&rig, Who::Us, &shut, &["touch", "here"])).await;
    assert!(
        !output.status.success() && told(&output).1.contains("Read-only"),
        "{}",
        told(&output).1
    );
    let elsewhere = rig.dir().join("home");
    std::fs::write(elsewhere.join("note"), "hello\n").unwrap();
    let mount = [WALL, &["--mount", elsewhere.to_str().unwrap()]].concat();
    let note = elsewhere.join("note");
    let output = run(command(&rig, Who::Us, &mount, &["cat", note.to_str().unwrap()])).await;
    assert_eq!(told(&output).0, "hello\n", "{}", told(&output).1);
}

#[tokio::test]
async fn when_keyferry_is_killed_nothing_of_the_command_is_left() {
    let (_origin, rig) = api().await;
    nothing_outlives_keyferry(&rig, WALL).await;
}

#[tokio::test]
async fn claude_code_does_its_work_behind_the_wall() {
    claude_does_its_work(WALL, |rig| rig).await;
}

#[tokio::test]
async fn auto_takes_the_first_wall_that_can_be_had_and_says_which() {
    let (_origin, rig) = api().await;
    let rig = rig.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let auto = ["--sandbox", "auto"];
    let (out, err) = told(&run(command(&rig, Who::Us, &auto, &["id", "-un"])).await);
    assert!(out == "agent\n" && err.contains("keyferry: wall: bwrap"), "{out}{err}");
    // An image is nothing for it.
    let imaged = [&auto[..], &["--image", "any"]].concat();
    let output = run(command(&rig, Who::Us, &imaged, &["true"])).await;
    let err = told(&output).1;
    assert!(output.status.code() == Some(125), "{err}");
    assert!(err.contains("docker: docker's daemon does not answer"), "{err}");
}

/// Puts itself under one more Landlock ruleset after the other, of which the kernel keeps no more than 16 (landlock(7)).
const COUNT: &str = r#"
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
handled = struct.pack('Q', 1 << 1)
fits = 0
while fits < 32:
    ruleset = libc.syscall(444, handled, len(handled), 0)
    assert ruleset >= 0, os.strerror(ctypes.get_errno())
    if libc.syscall(446, ruleset, 0) != 0:
        break
    os.close(ruleset)
    fits += 1
print(fits)
"#;

#[tokio::test]
async fn the_kernel_itself_is_told_where_the_command_may_write_and_whom_it_may_signal() {
    let (_origin, rig) = api().await;
    let (inside, err) = told(&run(command(&rig, Who::Us, WALL, &["python3", "-c", COUNT])).await);
    let (without, _) = told(&run(command(&rig, Who::Us, &[], &["python3", "-c", COUNT])).await);
    assert_eq!((inside.trim(), without.trim()), ("15", "16"), "{err}");

    // The bridge by itself, with no mounts that would forbid the same.
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["mine", "mine/deeper", "other"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let _proxy = std::os::unix::net::UnixListener::bind(at("p.sock")).unwrap();
    let script = format!(
        "echo a >mine/a && mv mine/a mine/deeper/b && echo c >>mine/deeper/b && cat mine/deeper/b
         (echo a >other/a) 2>/dev/null || echo kept out of other
         mv mine/deeper/b other/b 2>/dev/null || echo nor moved there
         kill -0 {} 2>/dev/null || echo signals nobody; kill -0 $$ && echo but itself",
        std::process::id()
    );
    let mut bridge = Command::new(tools::KEYFERRY);
    bridge
        .args(["bridge", "--listen", "127.0.0.1:0", "--writable"])
        .arg(at("mine"));
    bridge.arg("--to").arg(format!("unix:{}", at("p.sock").display()));
    bridge.args(["--", "/bin/sh", "-c", &script]).current_dir(dir.path());
    let (out, err) = told(&run(bridge).await);
    let held = "a\nc\nkept out of other\nnor moved there\nsignals nobody\nbut itself\n";
    assert_eq!(out, held, "{err}");
    assert_eq!(std::fs::read_dir(at("other")).unwrap().count(), 0);
}
