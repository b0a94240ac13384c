//! What `docs/parent.md` says, done.

use super::servers::{Kind, Parent};
use crate::pages;
use crate::rig::eventually;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use std::net::TcpListener;

#[tokio::test]
async fn the_page_on_parents_can_be_followed() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.example.com").await;
    let parent = Parent::start(Kind::Squid, &root, false).await;
    let rig = Rig::new(&root);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = pages::block("parent.md", "yaml");
    assert!(config.contains("http://proxy.corp.example:3128"));
    let upstream = format!(
        "upstream:\n  roots: [{}]\n  resolve: {{ api.example.com: \"{}\" }}\n  allow_networks: [127.0.0.0/8]\n",
        rig.dir().join("root.pem").display(),
        origin.address
    );
    let config = config
        .replace("http://proxy.corp.example:3128", &parent.url)
        .replace("upstream:\n", &upstream);
    let config = format!("listen: [127.0.0.1:{port}]\n{config}");
    let output = pages::run(
        &rig,
        "parent.md",
        &config,
        &[("127.0.0.1:8080", &format!("127.0.0.1:{port}"))],
    )
    .await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("hello"), "{said}");
    assert!(
        said.contains("through http://127.0.0.1:"),
        "`explain` names the parent: {said}"
    );
    assert_eq!(origin.only().all("authorization"), ["Bearer the-api-token"]);
    eventually("the parent's log", || parent.log().contains("CONNECT").then_some(())).await;
}
