//! What `docs/tokens.md` says, done.

use super::{BASIC, provider};
use crate::pages;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use std::net::TcpListener;

#[tokio::test]
async fn the_page_on_tokens_can_be_followed() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 600, dir.path()).await;
    let rig = Rig::new(&root);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let page = pages::block("tokens.md", "yaml");
    let config = page
        .replace("auth.crm.example", "auth.test")
        .replace("api.crm.example", "api.test")
        .replace("client_id: keyferry", "client_id: basic");
    assert_ne!(page, config);
    let config = format!(
        "listen: [127.0.0.1:{port}]\nupstream:\n  roots: [{}]\n  resolve: {{ api.test: \"{1}\", auth.test: \"{1}\" }}\n  \
         allow_networks: [127.0.0.0/8]\n{config}",
        rig.dir().join("root.pem").display(),
        provider.server.address,
    );
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
