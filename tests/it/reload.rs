//! When a running `serve` reads its config again: by itself, and when told to.

use crate::rig::agent::Agent;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::Root;
use crate::rig::running::Running;
use crate::rig::{eventually, tools};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

async fn allowing_api() -> Rig {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    Rig::new(&root).reach(&origin).rule("host: api.test")
}

/// `keyferry VERB` as typed in the folder where the config is.
fn there(dir: &Path, verb: &str) -> Command {
    let mut command = Command::new(tools::KEYFERRY);
    bare(&mut command, &dir.join("home"));
    command.current_dir(dir).arg(verb);
    command
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

fn replace(dir: &Path, from: &str, to: &str) {
    let file = dir.join("keyferry.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replace(from, to)).unwrap();
}

async fn refused_at_last(agent: &Agent) {
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while agent.connect("api.test:443").await.0 != 403 {
        assert!(std::time::Instant::now() < end, "the new config never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_config_that_was_named_is_read_again_when_it_changes() {
    let proxy = allowing_api().await.serve().await;
    assert_eq!(proxy.agent.connect("api.test:443").await.0, 200);
    replace(proxy.rig.dir(), "host: api.test", "host: other.test");
    refused_at_last(&proxy.agent).await;
}

#[tokio::test]
async fn a_config_that_lay_in_the_working_directory_is_read_again_when_told_to_only() {
    let rig = allowing_api().await;
    let dir = rig.dir();
    rig.write();
    assert_eq!(told(&there(dir, "reload").output().unwrap()).0, Some(1));
    let mut serve = Running::start(there(dir, "serve"));
    let address = serve.listening().await.unwrap();
    let path = there(dir, "ca").arg("path").output().unwrap();
    let pem = std::fs::read_to_string(String::from_utf8_lossy(&path.stdout).trim()).unwrap();
    let agent = Agent::new(address, &pem);

    replace(dir, "host: api.test", "host: other.test");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(agent.connect("api.test:443").await.0, 200, "nobody asked for a reload");
    let (code, said) = told(&there(dir, "reload").output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    refused_at_last(&agent).await;

    replace(dir, "host: other.test", "hots: api.test");
    let (code, said) = told(&there(dir, "reload").output().unwrap());
    assert!(
        code == Some(2) && said.contains("hots") && said.contains("did you mean"),
        "{said}"
    );
    assert_eq!(
        agent.connect("other.test:443").await.0,
        200,
        "the old config is in force"
    );

    serve.signal("TERM");
    serve.ended().await;
    replace(dir, "hots: api.test", "host: api.test");
    let (code, said) = told(&there(dir, "reload").output().unwrap());
    assert!(code == Some(1) && said.contains("no `keyferry serve`"), "{said}");
}

#[tokio::test]
async fn a_section_that_needs_a_restart_is_named() {
    let proxy = allowing_api().await.serve().await;
    replace(
        proxy.rig.dir(),
        "listen: [127.0.0.1:0]",
        "listen: [127.0.0.1:0, 127.0.0.2:0]",
    );
    eventually("word of the restart", || {
        let log = proxy.child.log();
        log.contains("changes in listen take effect at the next start")
            .then_some(())
    })
    .await;
}
