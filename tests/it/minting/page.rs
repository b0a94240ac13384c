//! What `docs/tokens.md` says, done.

use super::{BASIC, config_of, provider};
use crate::pages;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;

#[tokio::test]
async fn the_page_on_tokens_can_be_followed() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 600, dir.path()).await;
    let rig = Rig::new(&root);
    let (config, port) = config_of("tokens.md", &provider, &rig).await;
    let config = config.replace("client_id: keyferry", "client_id: basic");
    let changes = [
        ("127.0.0.1:8080", &*format!("127.0.0.1:{port}")),
        ("api.crm.example", "api.test"),
        ("the-client-secret", BASIC),
    ];
    let output = pages::run(&rig, "tokens.md", &config, &changes).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("`crm/oauth2` as `Authorization: Bearer`"), "{said}");
    assert!(said.contains("\"client\":\"basic\",\"scope\":\"read\""), "{said}");
}
