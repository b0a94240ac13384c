//! What `docs/hmac.md` says, done.

use super::{key64, verifier};
use crate::pages;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use std::net::TcpListener;

#[tokio::test]
async fn the_page_on_signatures_can_be_followed() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let server = verifier(&root, &["api.exchange.example"], dir.path()).await;
    let rig = Rig::new(&root);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "listen: [127.0.0.1:{port}]\nupstream:\n  roots: [{}]\n  resolve: {{ api.exchange.example: \"{}\" }}\n  \
         allow_networks: [127.0.0.0/8]\n{}",
        rig.dir().join("root.pem").display(),
        server.address,
        pages::block("hmac.md", "yaml")
    );
    let changes = [
        ("127.0.0.1:8080", &*format!("127.0.0.1:{port}")),
        ("the-api-secret", &key64()),
        ("the-key-id", "key-id-0001"),
    ];
    let output = pages::run(&rig, "hmac.md", &config, &changes).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("a signature by the key `exchange-secret`, in `access-sign`,"),
        "{said}"
    );
    assert!(said.contains("\"ok\": true"), "{said}");
}
