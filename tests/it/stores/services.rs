//! The server that stands in for the stores which no registry has: it checks each bearer with an independent library.

use crate::minting::keys;
use crate::rig::proxy::bare;
use crate::rig::root::Root;
use crate::rig::tools;
use crate::signing::servers::{Server, free};
use std::process::Command;

/// It, and what it is asked with.
pub struct Services {
    pub server: Server,
    /// The key of the account at Google, PEM.
    pub rsa: String,
    _dir: tempfile::TempDir,
}

impl Services {
    /// Starts it for these names, with certificates of `root`.
    pub async fn start(root: &Root, names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [rsa, ..] = keys(dir.path());
        let at = free().await;
        let mut command = Command::new(tools::python());
        bare(&mut command, dir.path());
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/stores/scripts/services.py"
            ))
            .args([&at.port().to_string(), &rsa]);
        Self {
            server: Server::start(root, names, command, at).await,
            rsa: std::fs::read_to_string(&rsa).unwrap(),
            _dir: dir,
        }
    }

    /// Has it keep something, as its operator does.
    pub fn keep(&self, name: &str, text: &str) {
        self.operator("PUT", name, text);
    }

    /// A token of the pod's account for so many seconds.
    pub fn account(&self, seconds: u32) -> String {
        self.operator("POST", &format!("account?seconds={seconds}"), "")
    }

    /// One of the account of that name in a namespace that is not Keyferry's.
    pub fn stranger(&self) -> String {
        self.operator("POST", "account?seconds=3600&namespace=other", "")
    }

    /// Every token that it handed out is worth nothing any more.
    pub fn revoke(&self) {
        self.operator("DELETE", "tokens", "");
    }

    fn operator(&self, method: &str, path: &str, text: &str) -> String {
        let output = Command::new(tools::need("curl"))
            .args([
                "-sS",
                "--fail",
                "-X",
                method,
                "-H",
                "content-type: text/plain",
                "-d",
                text,
            ])
            .arg(format!("http://{}/operator/{path}", self.server.plain))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", self.server.running.log());
        String::from_utf8(output.stdout).unwrap()
    }
}
