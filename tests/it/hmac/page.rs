//! What `docs/hmac.md` says, done.

use super::{key64, verifier};
use crate::pages;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;

#[tokio::test]
async fn the_page_on_signatures_can_be_followed() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let server = verifier(&root, &["api.exchange.example"], dir.path()).await;
    let rig = Rig::new(&root);
    let (config, listen) = pages::served(&rig, "hmac.md", "api.exchange.example", server.address);
    let changes = [
        ("127.0.0.1:8080", &*listen),
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
