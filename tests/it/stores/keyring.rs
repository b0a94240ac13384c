//! Keys of the kernel, put there by `keyctl`.

use super::{RULE, given, refusal, tried, until_given};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::tools;
use std::process::{Command, Output};

fn keyctl(words: &[&str]) -> Output {
    Command::new(tools::need("keyctl")).args(words).output().unwrap()
}

/// Puts a key under the user's keyring. False where the system calls are forbidden, as in some containers.
fn put(description: &str, value: &str) -> bool {
    let added = keyctl(&["add", "user", description, value, "@u"]);
    let said = String::from_utf8_lossy(&added.stderr);
    let forbidden = said.contains("not permitted") || said.contains("not implemented") || said.contains("denied");
    assert!(added.status.success() || forbidden, "{said}");
    added.status.success()
}

#[tokio::test]
async fn a_key_that_keyctl_put_into_the_kernels_keyring_is_read_and_read_again() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    // Unlike that of any other run.
    let service = Rig::new(&root).dir().file_name().unwrap().to_str().unwrap().to_owned();
    let description = format!("keyring:stripe@{service}");
    let rig = |spec: &str| {
        let rig = Rig::new(&root).reach(&api).rule(RULE);
        rig.secret_spec("key", &format!("{{ keyring: {{ {spec}, ttl: 1s, grace: 1s }} }}"))
    };
    let by_user = rig(&format!("service: {service}, user: stripe"));
    let (code, said) = tried(&by_user);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("the kernel's keyring under `{description}`")),
        "{said}"
    );
    if !put(&description, "sk-first-0123456789") {
        // Then Keyferry cannot read any either, and has said so.
        return;
    }
    let proxy = by_user.serve().await;
    assert_eq!(
        given(&proxy, &api).await.as_deref(),
        Some("sk-first-0123456789"),
        "{}",
        proxy.child.log()
    );
    assert!(put(&description, r#"{"key":"sk-second-0123456789"}"#));
    until_given(&proxy, &api, r#"{"key":"sk-second-0123456789"}"#).await;
    let by_name = rig(&format!("description: \"{description}\", field: key"))
        .serve()
        .await;
    assert_eq!(given(&by_name, &api).await.as_deref(), Some("sk-second-0123456789"));
    assert!(keyctl(&["purge", "user", &description]).status.success());
    let end = tokio::time::Instant::now() + crate::rig::PATIENCE;
    while given(&proxy, &api).await.is_some() {
        assert!(tokio::time::Instant::now() < end, "a key that is gone is given still");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let said = refusal(&proxy, &api).await;
    assert!(
        said.contains("there is no such key") && !said.contains("sk-second"),
        "{said}"
    );
}
