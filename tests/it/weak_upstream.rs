//! An upstream whose TLS is too weak to be given a credential: OpenSSL, with what it can still be made to do.

use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{eventually, tools};
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(dir: &Path, line: &str) {
    let words = line.split_whitespace();
    let output = Command::new(tools::need("openssl"))
        .args(words)
        .current_dir(dir)
        .output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "openssl {line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A server that answers each request with a page, so that whatever is sent to it is answered 200.
async fn serving(dir: &Path, certificate: &str, flags: &str) -> Server {
    let log = dir.join("server.log");
    let child = Command::new(tools::need("openssl"))
        .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert"])
        .arg(format!("{certificate}.pem"))
        .args(["-key", &format!("{certificate}.key")])
        .args(flags.split_whitespace())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = eventually("the server's address", || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.lines().find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok())
    })
    .await;
    Server { child, address }
}

/// A root, and what it issued to the same name: a good certificate, one with a short key, one signed over SHA-1.
fn certificates(dir: &Path) {
    openssl(
        dir,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=root -days 2",
    );
    for (name, key, digest) in [
        ("good", "rsa:2048", "sha256"),
        ("short", "rsa:1024", "sha256"),
        ("sha1", "rsa:2048", "sha1"),
    ] {
        openssl(
            dir,
            &format!(
                "req -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj /CN=api.test -addext subjectAltName=DNS:api.test"
            ),
        );
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -copy_extensions copy -days 2 -{digest} -out {name}.pem"
            ),
        );
    }
}

#[tokio::test]
async fn weak_tls_is_given_no_request() {
    let root = Root::new();
    let held = tempfile::tempdir().unwrap();
    let dir = held.path();
    certificates(dir);
    let old = "-cipher DEFAULT@SECLEVEL=0";
    for (certificate, flags, expected) in [
        ("good", "", ""),
        ("good", "-tls1_2", ""),
        ("good", &format!("-tls1 {old}"), "upstream_tls"),
        ("good", &format!("-tls1_1 {old}"), "upstream_tls"),
        // No forward secrecy, and no AEAD.
        ("good", "-tls1_2 -cipher AES128-GCM-SHA256", "upstream_tls"),
        ("good", "-tls1_2 -cipher ECDHE-RSA-AES128-SHA", "upstream_tls"),
        // It wants a certificate that Keyferry has none of.
        ("good", "-tls1_2 -Verify 1 -verify_return_error", "upstream_tls"),
        ("good", "-Verify 1 -verify_return_error", "client_certificate_refused"),
        ("short", old, "upstream_certificate"),
        ("sha1", old, "upstream_certificate"),
    ] {
        let server = serving(dir, certificate, flags).await;
        let proxy = Rig::new(&root)
            .roots(&dir.join("ca.pem").display().to_string())
            .reach_as("api.test", server.address)
            .secret("API_KEY", "sk-live-0a1b2c3d4e5f")
            .rule("host: api.test, inject: [{ bearer: api_key }]")
            .serve()
            .await;
        let reply = proxy.agent.get("https://api.test/").await;
        assert_eq!(
            reply.code(),
            expected,
            "{certificate} {flags}: {} {}",
            reply.status,
            reply.text()
        );
        assert_eq!(
            reply.status == 200,
            expected.is_empty(),
            "{certificate} {flags}: {}",
            reply.status
        );
    }
}
