//! An origin in a process of its own, so that it can be killed: this test binary, started once more.

use super::eventually;
use super::origin::{Origin, Speaks};
use super::root::{Root, Validity};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// An origin that can be killed.
pub struct Killable {
    child: Child,
    pub address: SocketAddr,
}

impl Killable {
    /// Starts one for `name`, with its files in `dir`. It has the standard routes, and gates open by themselves, slowly.
    pub async fn start(root: &Root, name: &str, speaks: Speaks, dir: &Path) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), root, name, speaks, dir).await
    }

    /// The same at an address where another may have been killed.
    pub async fn start_at(at: SocketAddr, root: &Root, name: &str, speaks: Speaks, dir: &Path) -> Self {
        let pem = root.leaf(&[name, "pinned.test"], Validity::Now);
        for (file, text) in [
            ("chain.pem", &pem.chain),
            ("key.pem", &pem.key),
            ("address", &String::new()),
        ] {
            std::fs::write(dir.join(file), text).unwrap();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        super::proxy::bare(&mut command, dir);
        let child = command
            .args([
                "--exact",
                "--ignored",
                "rig::process::an_origin_in_a_process_of_its_own",
            ])
            .env(DIR, dir)
            .env(AT, at.to_string())
            .env(SPEAKS, if speaks == Speaks::Http2 { "h2" } else { "http/1.1" })
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let address = eventually("the origin's address", || {
            std::fs::read_to_string(dir.join("address")).unwrap().parse().ok()
        })
        .await;
        Self { child, address }
    }

    /// Ends it with no word to anybody.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const DIR: &str = "KEYFERRY_TEST_ORIGIN";
const AT: &str = "KEYFERRY_TEST_AT";
const SPEAKS: &str = "KEYFERRY_TEST_SPEAKS";

#[tokio::test]
#[ignore = "no test: what `Killable` starts"]
async fn an_origin_in_a_process_of_its_own() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let chain = CertificateDer::from_pem_file(dir.join("chain.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    tls.alpn_protocols = vec![std::env::var(SPEAKS).unwrap().into_bytes()];
    let at = std::env::var(AT).unwrap().parse().unwrap();
    let origin = Origin::with_tls(at, tls.into()).await;
    std::fs::write(dir.join("address.new"), origin.address.to_string()).unwrap();
    std::fs::rename(dir.join("address.new"), dir.join("address")).unwrap();
    // Until it is killed; and not for ever should whoever started it be gone.
    for _ in 0..30_000 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        origin.gate.add_permits(4);
    }
}
