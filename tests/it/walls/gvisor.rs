//! gVisor, by its own program and as a runtime of Docker's.

use super::table::{Trial, nothing_escapes};
use super::{
    Who, base_urls_work, command, ends_are_told_as_they_are, everyone, run, share, told, what_is_allowed_works,
};
use crate::clients::api;
use crate::rig::docker::Docker;
use crate::rig::proxy::Rig;
use crate::rig::{eventually, tools};
use std::path::{Path, PathBuf};

const WALL: &[&str] = &["--sandbox", "gvisor"];

/// What its kernel, which is the command's own, does otherwise than the machine's: no filter keeps its namespaces and keyrings
/// from the command, which there lead to nobody else's.
const OTHERWISE: &[(&str, &[&str])] = &[
    ("open by handle", &["ENOTSUP"]),
    ("user namespace", &["0"]),
    ("user namespace by clone", &["open"]),
    ("user namespace by clone3", &["EINVAL"]),
    ("keyring", &["open"]),
];

/// The same where the command is root in there, without a capability: what it may change is its own kernel's.
const OTHERWISE_AS_ROOT: &[(&str, &[&str])] = &[
    ("write to dev", &["open"]),
    ("write to sysrq", &["open"]),
    ("become root", &["open"]),
];

/// Where `runsc` is, for whoever starts Keyferry: where the tests were built may be nobody else's to see.
fn runsc(rig: &Rig) -> PathBuf {
    let program = tools::installed().join("bin/runsc");
    assert!(
        program.exists(),
        "gVisor is not installed; run scripts/test once, it installs what the tests need"
    );
    let folder = rig.dir().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(program, folder.join("runsc")).unwrap();
    folder
}

/// A rig whose Keyferry finds it.
pub fn with_runsc(rig: Rig) -> Rig {
    let path = format!("{}:{}", runsc(&rig).display(), tools::path());
    rig.env("PATH", &path)
}

#[tokio::test]
async fn every_way_out_of_gvisor_is_shut() {
    for who in everyone() {
        let (origin, rig) = api().await;
        let rig = with_runsc(rig);
        let as_root = who == Who::Ordinary || !rustix::process::geteuid().is_root();
        let otherwise = [OTHERWISE, if as_root { OTHERWISE_AS_ROOT } else { &[] }].concat();
        let trial = Trial {
            who,
            wall: WALL,
            // What it is bounded by ends all of it at once.
            bounded: false,
            daemon: Path::new("/run/docker.sock"),
            otherwise: &otherwise,
        };
        nothing_escapes(&rig, trial).await;
        assert_eq!(origin.seen().len(), 0);
    }
}

#[tokio::test]
async fn what_is_allowed_works_in_gvisor_with_a_credential_that_is_not_there() {
    for who in everyone() {
        let (origin, rig) = api().await;
        what_is_allowed_works(&origin, &with_runsc(rig), who, WALL).await;
    }
}

#[tokio::test]
async fn a_base_url_leads_out_of_gvisor() {
    base_urls_work(WALL, with_runsc).await;
}

#[tokio::test]
async fn an_end_in_gvisor_is_told_as_it_is() {
    let (_origin, rig) = api().await;
    ends_are_told_as_they_are(&with_runsc(rig), WALL).await;
}

#[tokio::test]
async fn when_keyferry_is_killed_nothing_of_gvisor_is_left() {
    let (_origin, rig) = api().await;
    let rig = with_runsc(rig);
    // The processes of its kernel are not those that run in it, but they name the run's directory.
    let sandboxes = |keyferry: u32| {
        let name = format!("keyferry-run-{keyferry}-");
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|one| std::fs::read_to_string(one.path().join("cmdline")).ok());
        lines
            .filter(|line| line.contains(&name) && line.contains("runsc"))
            .count()
    };
    let mut command = command(&rig, Who::Us, WALL, &["sleep", "600"]);
    let mut keyferry = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let id = keyferry.id();
    eventually("the sandbox", || (sandboxes(id) >= 3).then_some(())).await;
    keyferry.kill().unwrap();
    keyferry.wait().unwrap();
    eventually("the end of the sandbox", || (sandboxes(id) == 0).then_some(())).await;
}

#[tokio::test]
async fn what_takes_too_much_in_gvisor_ends_alone() {
    if !rustix::process::geteuid().is_root() {
        // Nothing bounds it then, and Keyferry says so.
        return;
    }
    let (_origin, rig) = api().await;
    let rig = with_runsc(rig);
    let options = [WALL, &["--memory", "1024"]].concat();
    let hog = ["python3", "-c", "x = bytearray(3 << 30); print(len(x))"];
    let output = run(command(&rig, Who::Us, &options, &hog)).await;
    assert!(
        !output.status.success() && output.stdout.is_empty(),
        "{}",
        told(&output).1
    );
    let bomb = "import os\nwhile True:\n  if os.fork() == 0: os.read(0, 0) or __import__('time').sleep(60)";
    let output = run(command(
        &rig,
        Who::Us,
        &options,
        &["timeout", "20", "python3", "-c", bomb],
    ))
    .await;
    assert!(!output.status.success(), "{}", told(&output).1);
}

#[tokio::test]
async fn dockers_gvisor_holds_to_the_table_too_and_is_explained_where_it_is_missing() {
    let (_origin, rig) = api().await;
    let docker = Docker::start().await;
    docker.open_to_everybody();
    let rig = with_runsc(rig).env("DOCKER_HOST", &docker.host());
    image(&docker);
    let wall = [WALL, &["--image", "bare", "--mount", "/usr", "--unmask", "/usr"]].concat();
    let output = run(command(&rig, Who::Us, &wall, &["true"])).await;
    let err = told(&output).1;
    assert!(
        output.status.code() == Some(125) && err.contains("--host-uds=open"),
        "{err}"
    );
    drop(docker);

    let (origin, rig) = api().await;
    let docker = Docker::with_runtime("runsc", &runsc(&rig).join("runsc"), GVISOR).await;
    docker.open_to_everybody();
    let rig = with_runsc(rig).env("DOCKER_HOST", &docker.host());
    image(&docker);
    share(&rig);
    let trial = Trial {
        who: Who::Us,
        wall: &wall,
        bounded: false,
        daemon: &docker.socket(),
        otherwise: OTHERWISE,
    };
    nothing_escapes(&rig, trial).await;
    what_is_allowed_works(&origin, &rig, Who::Us, &wall).await;
}

const GVISOR: &[&str] = &["--platform=systrap", "--network=none", "--host-uds=open"];

/// An image of nothing but the links that lead to the machine's own programs.
fn image(docker: &Docker) {
    let mut tar = std::process::Command::new("tar");
    tar.args(["-C", "/", "-c", "bin", "lib", "lib64", "sbin"]);
    docker.import(tar, "bare", &["ENV PATH=/usr/local/bin:/usr/bin:/bin".to_owned()]);
}
