//! Docker's own daemon and containerd's client, which push and pull with a password and tokens that they never have.

use super::registry::{PASSWORD, Registry, STAND_IN};
use crate::rig::docker::Docker;
use crate::rig::proxy::Proxy;
use crate::rig::root::Root;
use crate::rig::tools;
use std::path::Path;
use std::process::Command;

const IMAGE: &str = "registry.test/acme/app:1";

struct Before {
    dir: tempfile::TempDir,
    registry: Registry,
    proxy: Proxy,
    docker: Docker,
}

/// A registry, Keyferry before it, and a daemon that goes out by Keyferry and has an image to push.
async fn before() -> Before {
    let (root, dir) = (Root::new(), tempfile::tempdir().unwrap());
    let registry = Registry::start(&root, dir.path()).await;
    let proxy = registry.rig(&root).serve().await;
    let docker = Docker::behind(proxy.address, &proxy.ca).await;
    std::fs::write(dir.path().join("hello"), "hello").unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-c", "-C"]).arg(dir.path()).arg("hello");
    docker.import(tar, IMAGE, &[]);
    Before {
        dir,
        registry,
        proxy,
        docker,
    }
}

impl Before {
    /// The records of exchanges in which this was given.
    fn given(&self, credential: &str) -> usize {
        let records = self.proxy.rig.audit();
        let with = |one: &&serde_json::Value| one["credentials"].to_string().contains(&format!("\"{credential}\""));
        records.iter().filter(with).count()
    }

    /// Nothing real is in what Docker keeps and says: its folder, its log, its environment.
    fn holds_nothing_real(&self) {
        let refresh = std::fs::read_to_string(self.dir.path().join("refresh")).unwrap();
        let environment = std::fs::read(format!("/proc/{}/environ", self.docker.id())).unwrap();
        let kept = kept(self.docker.socket().parent().unwrap());
        let all = format!("{kept}{}", String::from_utf8_lossy(&environment));
        assert!(!all.contains(PASSWORD) && !all.contains(&refresh), "{all}");
    }
}

/// The text of the small files beside a daemon's socket.
fn kept(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let files = entries.filter(|entry| entry.metadata().is_ok_and(|it| it.is_file() && it.len() < 1 << 20));
    let texts = files.map(|entry| String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned());
    let below = std::fs::read_to_string(dir.join(".docker/config.json")).unwrap_or_default();
    texts.collect::<String>() + &below
}

#[tokio::test]
async fn docker_pushes_and_pulls_without_a_login() {
    let before = before().await;
    let docker = &before.docker;
    let id = docker.said(&["image", "inspect", "--format", "{{.Id}}", IMAGE]).await;
    docker.said(&["push", IMAGE]).await;
    docker.said(&["image", "rm", IMAGE]).await;
    assert_eq!(docker.said(&["images", "--quiet"]).await, "");
    let blobs = before.registry.blobs.seen().len();
    docker.said(&["pull", IMAGE]).await;
    assert_eq!(
        docker.said(&["image", "inspect", "--format", "{{.Id}}", IMAGE]).await,
        id
    );
    assert!(
        before.registry.blobs.seen().len() > blobs,
        "its layer came from where the registry keeps it"
    );
    assert!(
        before.given("registry") >= 2 && before.given("registry/token") + before.given("registry/access_token") > 4
    );
    before.holds_nothing_real();
}

#[tokio::test]
async fn a_login_of_dockers_leaves_a_stand_in_that_is_traded_for_tokens_through_keyferry_alone() {
    let before = before().await;
    let docker = &before.docker;
    docker
        .said(&["login", "--username", "ci", "--password", STAND_IN, "registry.test"])
        .await;
    docker.said(&["push", IMAGE]).await;
    docker.said(&["image", "rm", IMAGE]).await;
    docker.said(&["pull", IMAGE]).await;
    assert!(
        before.given("registry/refresh_token") >= 2,
        "{:#?}",
        before.proxy.rig.audit()
    );
    let log = before.registry.tokens.running.log();
    assert!(
        log.contains("POST refresh_token True") && !log.contains("False"),
        "{log}"
    );
    before.holds_nothing_real();
}

#[tokio::test]
async fn containerds_client_shows_a_stand_in_for_the_password_in_a_form() {
    let before = before().await;
    before.docker.said(&["push", IMAGE]).await;
    let mut ctr = before.proxy.client(tools::need("ctr"));
    ctr.env("HTTPS_PROXY", format!("http://{}", before.proxy.address))
        .env("SSL_CERT_FILE", &before.proxy.ca)
        .arg("--address")
        .arg(before.docker.containerd())
        .args([
            "images",
            "pull",
            "--user",
            &format!("ci:{STAND_IN}"),
            "--snapshotter",
            "native",
            IMAGE,
        ]);
    let (well, said) = crate::rig::proxy::ended(ctr).await;
    let log = before.registry.tokens.running.log();
    assert!(well, "{said}\n{log}\n{:#?}", before.proxy.rig.audit());
    assert!(log.contains("POST password True"), "{log}");
    assert!(!said.contains(PASSWORD));
}
