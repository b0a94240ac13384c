//! `keyferry bridge` in an image that holds nothing else: no libc, no shell, no file but its own.

use super::compose::tar;
use super::curl;
use crate::rig::docker::Docker;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{eventually, tools};
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_bridge_runs_in_an_image_that_holds_nothing_else() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let dir = tempfile::Builder::new().prefix("kfb-").tempdir_in("/tmp").unwrap();
    let (tree, shared) = (dir.path().join("tree"), dir.path().join("run"));
    for folder in [&tree, &shared] {
        std::fs::create_dir(folder).unwrap();
    }
    for folder in [dir.path(), &shared] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let docker = Docker::start().await;
    std::fs::copy(tools::static_keyferry(), tree.join("keyferry")).unwrap();
    docker.import(tar(&tree), "bridge", &["ENTRYPOINT [\"/keyferry\"]".to_owned()]);

    let listen = format!(
        "127.0.0.1:0, {{ bind: \"unix:{}/proxy.sock\", mode: \"0666\" }}",
        shared.display()
    );
    let rig = Rig::new(&root).reach(&origin).rule("host: api.test, agents: [sandbox]");
    let rig = rig.config("agents: { sandbox: { peer_uid: 1001 } }");
    let proxy = rig.listen(&listen).serve().await;
    let volume = format!("--volume={}:/run/keyferry:ro", shared.display());
    let container = docker
        .said(&[
            "run",
            "--detach",
            "--network=none",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--user=1001:1001",
            &volume,
            "bridge",
            "bridge",
            "--to",
            "unix:/run/keyferry/proxy.sock",
        ])
        .await;
    eventually("the bridge", || {
        let output = docker.command(&["logs", &container]).output().unwrap();
        String::from_utf8_lossy(&output.stderr)
            .contains("listening on 127.0.0.1:3128")
            .then_some(())
    })
    .await;
    let pid = docker.pid(&container).await;
    let ca = proxy.ca.to_str().unwrap();
    let through = [
        "--proxy",
        "http://127.0.0.1:3128",
        "--cacert",
        ca,
        "https://api.test/hello",
    ];
    assert_eq!(curl(pid, &through).await, (200, "hello".to_owned()));
    let record = proxy.record().await;
    assert_eq!(
        (&record["agent"], &record["peer"]),
        (&"sandbox".into(), &"unix:uid=1001".into())
    );
    assert_eq!(curl(pid, &["--noproxy", "*", "http://203.0.113.10/"]).await.0, 0);
}
