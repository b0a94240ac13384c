//! What keeps `serve` from starting is said plainly, with what to do next, and by exit code.

use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, log) = Rig::new(&Root::new())
        .rule("host: a.test")
        .listen(&address)
        .refuses()
        .await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&address) && log.to_lowercase().contains("in use"), "{log}");
}

#[tokio::test]
async fn a_config_with_mistakes_says_each_with_its_place() {
    let rig = Rig::new(&Root::new())
        .rule("host: a.test, inject: [{ bearer: githib }]")
        .rule("hosst: b.test");
    let rig = rig.secret("GITHUB", "ghp_0123456789");
    let (status, log) = rig.refuses().await;
    assert_eq!(status.code(), Some(2), "{log}");
    for part in ["githib", "did you mean", "github", "hosst", "keyferry.yaml:", "^"] {
        assert!(log.contains(part), "no {part:?} in:\n{log}");
    }
}

#[tokio::test]
async fn a_config_that_is_not_there_is_named() {
    let rig = Rig::new(&Root::new());
    let mut command = std::process::Command::new(crate::rig::tools::KEYFERRY);
    crate::rig::proxy::bare(&mut command, rig.dir());
    let output = command
        .args(["serve", "--config", "/nonexistent/keyferry.yaml"])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("/nonexistent/keyferry.yaml"), "{log}");
}

#[tokio::test]
async fn a_secret_whose_variable_is_not_set_is_named() {
    let rig = Rig::new(&Root::new()).secret_spec("api", "{ env: KEYFERRY_TEST_UNSET }");
    let (status, log) = rig.rule("host: a.test, inject: [{ bearer: api }]").refuses().await;
    assert!(!status.success());
    assert!(log.contains("KEYFERRY_TEST_UNSET") && log.contains("api"), "{log}");
}

#[tokio::test]
async fn a_ca_that_cannot_be_read_is_named() {
    let rig = Rig::new(&Root::new()).rule("host: a.test");
    std::fs::create_dir(rig.dir().join("bad")).unwrap();
    let [certificate, key] = ["ca.pem", "ca.key"].map(|name| rig.dir().join("bad").join(name));
    std::fs::write(&certificate, "not a certificate").unwrap();
    std::fs::write(&key, "not a key").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ca = format!(
        "ca: {{ certificate: {}, key: {} }}",
        certificate.display(),
        key.display()
    );
    let (status, log) = rig.config(&ca).refuses().await;
    assert!(!status.success());
    assert!(log.contains("ca.pem") || log.contains("ca.key"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_ca_kept_on_disk_is_the_same_after_a_restart_and_for_nobody_else() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let mut proxy = Rig::new(&root).reach(&origin).rule("host: api.test").serve().await;
    let folder = proxy.rig.dir().join("ca");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let keys: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("PRIVATE KEY")))
        .collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(mode(&keys[0]), 0o600);
    let before = std::fs::read(&proxy.ca).unwrap();
    proxy.child.signal("TERM");
    proxy.child.ended().await;
    let again = proxy.rig.serve().await;
    assert_eq!(std::fs::read(&again.ca).unwrap(), before);
    // The agent still trusts it.
    assert_eq!(again.agent.get("https://api.test/hello").await.text(), "hello");
}

#[tokio::test]
async fn a_file_in_a_sockets_place_is_named_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("p.sock");
    std::fs::write(&place, "mine").unwrap();
    let listen = format!("\"unix:{}\"", place.display());
    let rig = Rig::new(&Root::new()).rule("host: a.test").listen(&listen);
    let (status, log) = rig.refuses().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("p.sock: something that is no socket is there"), "{log}");
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "mine");
}
