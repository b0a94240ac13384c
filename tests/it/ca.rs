//! `keyferry ca`: its certificate in every form, and in the system's trust store and out again.

use crate::rig::origin::Origin;
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::Root;
use crate::rig::tools;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_certificate_is_exported_in_each_form_and_the_key_in_none() {
    let rig = Rig::new(&Root::new());
    let run = |verb: &[&str]| rig.command(&[&["ca"], verb].concat()).output().unwrap();
    let path = String::from_utf8(run(&["path"]).stdout).unwrap();
    let pem = std::fs::read(path.trim()).unwrap();
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE"));
    assert_eq!(run(&["export"]).stdout, pem);
    let file = |name: &str| rig.dir().join(name).to_str().unwrap().to_owned();
    let [der, p12] = ["der", "p12"].map(|form| {
        let output = run(&["export", "--format", form, "--out", &file(form)]);
        assert!(output.status.success() && output.stdout.is_empty(), "{}", said(&output));
        file(form)
    });
    let openssl = |words: &[&str]| Command::new(tools::need("openssl")).args(words).output().unwrap();
    assert_eq!(openssl(&["x509", "-inform", "der", "-in", &der]).stdout, pem);
    let listed = Command::new(tools::need("keytool"))
        .args(["-list", "-keystore", &p12, "-storepass", "changeit"])
        .output()
        .unwrap();
    assert_eq!(
        said(&listed).matches("trustedCertEntry").count(),
        1,
        "{}",
        said(&listed)
    );
}

#[test]
fn a_ca_in_memory_has_nothing_to_export() {
    let rig = Rig::new(&Root::new()).config("ca: { memory: true }");
    for verb in ["path", "export", "install"] {
        let output = rig.command(&["ca", verb]).output().unwrap();
        assert!(
            output.status.code() == Some(1) && said(&output).contains("lives in memory"),
            "{}",
            said(&output)
        );
    }
}

/// In mounts of its own, so that the machine's own trust store is never touched.
const INSTALL: &str = r#"
    set -eu
    mount -t tmpfs tmpfs "$SCRATCH"
    for folder in /etc/ssl /usr/local/share/ca-certificates; do
        mkdir -p "$SCRATCH$folder/upper" "$SCRATCH$folder/work"
        mount -t overlay overlay -o "lowerdir=$folder,upperdir=$SCRATCH$folder/upper,workdir=$SCRATCH$folder/work" "$folder"
    done
    ask() { curl -sS --proxy "$PROXY" https://api.test/hello 2>/dev/null || echo "curl: $?"; }
    ca() { "$KEYFERRY" ca "$1" --config "$CONFIG" 2>/dev/null; }
    ask; ca install; ask; echo; ca install; ca uninstall; ask; ca uninstall
"#;

#[tokio::test]
async fn the_system_trusts_the_ca_once_installed_and_no_more_once_uninstalled() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = Rig::new(&root).reach(&origin).rule("host: api.test").serve().await;
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(tools::need("unshare"));
    bare(&mut command, &proxy.rig.dir().join("home"));
    command
        .env("SCRATCH", scratch.path())
        .env("PROXY", format!("http://{}", proxy.address))
        .env("KEYFERRY", tools::KEYFERRY)
        .env("CONFIG", proxy.rig.dir().join("keyferry.yaml"))
        .args(["--mount", "sh", "-c", INSTALL]);
    // Debian's own command links a hundred and forty certificates, and it runs three times.
    let output = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(120), output)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split([':', '/']).next().unwrap().trim_end())
        .collect();
    assert_eq!(
        lines,
        [
            "curl",
            "this system now trusts the CA",
            "hello",
            "this system trusted the CA already",
            "this system no longer trusts",
            "curl",
            "this system did not trust the CA; nothing to do",
        ],
        "{}",
        said(&output)
    );
    assert_eq!(text.matches("curl: 60").count(), 2, "60 is an unknown issuer: {text}");
    let store = Path::new("/usr/local/share/ca-certificates");
    let left = std::fs::read_dir(store).map_or(0, |entries| {
        entries
            .flatten()
            .filter(|one| one.file_name().to_string_lossy().starts_with("keyferry-"))
            .count()
    });
    assert_eq!(left, 0, "the test got at the machine's own store");
}
