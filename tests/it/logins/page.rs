//! What `docs/login.md` says, done.

use super::device::approve;
use crate::minting::{config_of, provider};
use crate::pages;
use crate::rig::eventually;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;

#[tokio::test]
async fn the_page_on_logins_can_be_followed() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 600, dir.path()).await;
    let rig = Rig::new(&root);
    let (config, port) = config_of("login.md", &provider, &rig).await;
    let changes = [
        ("127.0.0.1:8080", &*format!("127.0.0.1:{port}")),
        ("auth.crm.example", "auth.test"),
        ("api.crm.example", "api.test"),
        ("crm-cli", "device"),
    ];
    let person = async {
        let code = eventually("a code to approve", || {
            let begun = std::fs::read_to_string(rig.dir().join("begun")).ok()?;
            let begun: serde_json::Value = serde_json::from_str(&begun).ok()?;
            Some(begun["user_code"].as_str()?.to_owned())
        })
        .await;
        approve(&provider, &code).await;
    };
    let (output, ()) = tokio::join!(pages::run(&rig, "login.md", &config, &changes), person);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\"client\":\"device\""), "{said}");
    assert!(said.contains("placeholder_misplaced"), "{said}");
    assert_eq!(said.matches("login/crm/").count(), 3, "{said}");
}
