//! Podman, whose images and containers are in folders of the test's own.

use super::table::{Trial, nothing_escapes};
use super::{Who, command, ends_are_told_as_they_are, processes, run, share, told, what_is_allowed_works};
use crate::clients::api;
use crate::rig::proxy::Rig;
use crate::rig::{eventually, tools};
use std::process::{Command, Stdio};

const WALL: &[&str] = &["--sandbox", "podman"];

/// A rig whose Keyferry finds it. Its runtime and its control groups are those that work in a container too.
fn with_podman(rig: Rig) -> Rig {
    tools::need("podman");
    let dir = rig.dir().join("podman");
    std::fs::create_dir(&dir).unwrap();
    let engine = "[engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"none\"\n";
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
        dir.display()
    );
    let mut rig = rig;
    for (variable, name, text) in [
        ("CONTAINERS_CONF", "containers.conf", engine),
        ("CONTAINERS_STORAGE_CONF", "storage.conf", storage.as_str()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
        rig = rig.env(variable, dir.join(name).to_str().unwrap());
    }
    rig
}

/// What `podman WORDS…` prints, to whom Keyferry's environment leads.
fn podman(rig: &Rig, words: &[&str]) -> String {
    let mut made = Command::new(tools::need("podman"));
    let like = rig.command(&["run"]);
    made.env_clear()
        .envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = made.args(words).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", told(&output).1);
    told(&output).0.trim().to_owned()
}

/// Podman of an ordinary user wants more of the machine than a test may change: numbers of users in `/etc/subuid`.
#[tokio::test]
async fn every_way_out_of_podman_is_shut() {
    let (origin, rig) = api().await;
    let rig = with_podman(rig);
    let trial = Trial {
        who: Who::Us,
        wall: WALL,
        bounded: true,
        daemon: std::path::Path::new("/run/podman/podman.sock"),
        otherwise: &[],
    };
    nothing_escapes(&rig, trial).await;
    assert_eq!(origin.seen().len(), 0);
    what_is_allowed_works(&origin, &rig, Who::Us, WALL).await;
    assert_eq!(podman(&rig, &["ps", "--all", "--quiet"]), "");
}

#[tokio::test]
async fn an_end_in_podman_is_told_as_it_is_and_nothing_outlives_keyferry() {
    let (_origin, rig) = api().await;
    let rig = with_podman(rig);
    ends_are_told_as_they_are(&rig, WALL).await;
    share(&rig);
    let marker = format!("{}.75", 40_000 + std::process::id());
    let mut command = command(&rig, Who::Us, WALL, &["sleep", &marker]);
    let mut keyferry = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the command", || (processes(&marker) == 1).then_some(())).await;
    keyferry.kill().unwrap();
    keyferry.wait().unwrap();
    eventually("the end of the command", || (processes(&marker) == 0).then_some(())).await;
    eventually("the end of the container", || {
        podman(&rig, &["ps", "--all", "--quiet"]).is_empty().then_some(())
    })
    .await;

    let image = podman(&rig, &["images", "--quiet"]);
    podman(
        &rig,
        &["create", "--label=keyferry.run=elsewhere.pid1.7.7", &image, "true"],
    );
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap()
        .replace(['-', '\n'], "");
    let numbers = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let numbers = numbers.to_str().unwrap().replace([':', '[', ']'], "");
    let ours = format!("--label=keyferry.run={boot}.{numbers}.{}.1", std::process::id());
    podman(&rig, &["create", &ours, &image, "true"]);
    run(self::command(&rig, Who::Us, WALL, &["sleep", "3"])).await;
    assert_eq!(podman(&rig, &["ps", "--all", "--quiet"]).lines().count(), 1);
}
