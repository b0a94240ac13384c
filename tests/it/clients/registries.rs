//! The machine's own package registries, whichever those are, through interception.

use crate::rig::proxy::{Ran, Rig};
use crate::rig::root::Root;
use crate::rig::tools;
use std::path::Path;

/// What tells a client which registry to use, and nothing that tells it whom to trust.
const CONFIGURED: &[&str] = &[
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
];

/// A rig that lets every host through, decrypted; in the agent's home lies what configures the
/// registries in the user's.
fn everywhere() -> Rig {
    // Wherever the registries are for this machine: a mirror or a gateway may be in any network.
    let networks = "0.0.0.0/0, \"::/0\"";
    let mut rig = Rig::new(&Root::new())
        .rule("host: \"*\"")
        .roots("system")
        .allow_networks(networks);
    let set = std::env::vars().filter(|(name, _)| {
        let cargo = name.starts_with("CARGO_REGISTR") || name.starts_with("CARGO_SOURCE_");
        cargo || CONFIGURED.contains(&name.as_str())
    });
    for (name, value) in set {
        rig = rig.env(&name, &value);
    }
    let (Some(home), agent) = (std::env::home_dir(), rig.dir().join("home")) else {
        return rig;
    };
    for file in [".config/pip/pip.conf", ".pip/pip.conf", ".npmrc", ".cargo/config.toml"] {
        if home.join(file).exists() {
            std::fs::create_dir_all(agent.join(file).parent().unwrap()).unwrap();
            std::fs::copy(home.join(file), agent.join(file)).unwrap();
        }
    }
    rig
}

/// The requests were read, not tunnelled, and answered.
fn intercepted(rig: &Rig, ran: &Ran) {
    let records = rig.audit();
    let answered = |one: &&serde_json::Value| one["status"] == 200 && one["path"].as_str().is_some_and(|p| p.len() > 1);
    assert!(records.iter().any(|one| answered(&one)), "{records:#?}\n{}", ran.stderr);
}

#[tokio::test]
async fn pip_downloads_a_real_package() {
    let rig = everywhere();
    let python = tools::python();
    let ran = rig
        .run(&[
            python.to_str().unwrap(),
            "-m",
            "pip",
            "download",
            "--no-deps",
            "-d",
            "out",
            "six",
        ])
        .await
        .ok();
    let file = std::fs::read_dir(rig.dir().join("out"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .file_name();
    assert!(file.to_str().unwrap().starts_with("six-"), "{file:?}");
    intercepted(&rig, &ran);
}

#[tokio::test]
async fn npm_views_a_real_package() {
    let rig = everywhere();
    let ran = rig
        .run(&["npm", "view", "is-odd", "name", "version", "--json"])
        .await
        .ok();
    assert_eq!(ran.json()["name"], "is-odd");
    intercepted(&rig, &ran);
}

#[tokio::test]
async fn cargo_fetches_a_real_package() {
    let rig = everywhere();
    consumer(rig.dir());
    let ran = rig.run(&["cargo", "fetch"]).await.ok();
    let lock = std::fs::read_to_string(rig.dir().join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"itoa\"") && lock.contains("checksum"), "{lock}");
    intercepted(&rig, &ran);
}

fn consumer(dir: &Path) {
    std::fs::create_dir_all(dir.join("src")).unwrap();
    std::fs::write(dir.join("src/lib.rs"), "").unwrap();
    let manifest =
        "[package]\nname = \"consumer\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"1\"\n";
    std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
}
