//! What `docs/exec.md` says, done.

use crate::pages;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;

#[tokio::test]
async fn the_page_on_programs_can_be_followed() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.internal.example").await;
    let rig = Rig::new(&root);
    std::fs::write(rig.dir().join("answer"), pages::block("exec.md", "python")).unwrap();
    let (config, listen) = pages::served(&rig, "exec.md", "api.internal.example", origin.address);
    let output = pages::run(&rig, "exec.md", &config, &[("127.0.0.1:8080", &listen)]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("the headers that `") && said.contains("answer` answers with"),
        "{said}"
    );
    let seen = origin.only();
    assert_eq!(seen.all("x-caller"), ["default"]);
    assert!(seen.all("authorization")[0].starts_with("Token "), "{seen:?}");
}
