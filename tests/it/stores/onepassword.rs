//! 1Password: a server that does as the documentation of Connect says, and a program that stands in for `op` and checks how
//! it is called. Neither the real server nor the real program is in a registry.

use super::services::Services;
use super::{RULE, given, refusal, tried, until_given};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const TOKEN: &str = "connect-token-0123456789";
const HOST: &str = "connect.example.com";

struct Connect {
    root: Root,
    services: Services,
    api: Origin,
}

async fn connect() -> Connect {
    let root = Root::new();
    let connect = Connect {
        services: Services::start(&root, &[HOST]).await,
        api: Origin::start(&root, "api.test").await,
        root,
    };
    let vault = |name: &str, number: u32| json!({"name": name, "id": format!("vaultvaultvaultvaultvaul{number:02}")});
    let vaults = json!([
        vault("dev", 1),
        vault("two words", 2),
        vault("twice", 3),
        vault("twice", 4)
    ]);
    connect.services.keep("onepassword/vaults", &vaults.to_string());
    connect.keep("sk-first-0123456789");
    connect
}

impl Connect {
    /// Has it keep the items, one of them with this value.
    fn keep(&self, value: &str) {
        let items = json!([
            {"id": "itemitemitemitemitemitem01", "vault": "vaultvaultvaultvaultvaul01", "title": "Stripe",
                "sections": [{"id": "s1", "label": "test"}, {"id": "s2", "label": "live"}],
                "fields": [{"id": "notesPlain", "value": "notes-0123456789"},
                    {"id": "credential", "label": "credential", "value": value},
                    {"id": "f1", "label": "key", "section": {"id": "s1"}, "value": "sk-test-0123456789"},
                    {"id": "f2", "label": "key", "section": {"id": "s2"}, "value": "sk-live-0123456789"},
                    {"id": "f3", "label": "empty", "value": ""}, {"id": "f4", "label": "lines", "value": "a\nb-0123456789"}]},
            {"id": "itemitemitemitemitemitem02", "vault": "vaultvaultvaultvaultvaul02", "title": "Stripe", "fields":
                [{"id": "credential", "value": "sk-other-0123456789"}]},
        ]);
        self.services.keep("onepassword/items", &items.to_string());
    }

    fn rig(&self, token: &str, entry: &str) -> Rig {
        Rig::new(&self.root)
            .reach(&self.api)
            .reach_as(HOST, self.services.server.address)
            .config(&format!("onepassword: {{ connect: \"https://{HOST}\", token: token }}"))
            .secret("TOKEN", token)
            .secret_spec("key", &format!("{{ onepassword_item: {{ {entry} }} }}"))
            .rule(RULE)
    }
}

#[tokio::test]
async fn a_field_of_an_item_is_found_by_titles_labels_and_ids_and_a_new_value_taken_up() {
    let connect = connect().await;
    for (entry, value) in [
        ("vault: dev, item: Stripe", "sk-first-0123456789"),
        (
            "vault: vaultvaultvaultvaultvaul01, item: itemitemitemitemitemitem01",
            "sk-first-0123456789",
        ),
        ("vault: two words, item: Stripe", "sk-other-0123456789"),
        (
            "vault: dev, item: Stripe, section: live, field: key",
            "sk-live-0123456789",
        ),
        (
            "vault: dev, item: Stripe, section: s1, field: key",
            "sk-test-0123456789",
        ),
        ("vault: dev, item: Stripe, field: f2", "sk-live-0123456789"),
    ] {
        let proxy = connect.rig(TOKEN, entry).serve().await;
        assert_eq!(given(&proxy, &connect.api).await.as_deref(), Some(value), "{entry}");
    }
    let proxy = connect.rig(TOKEN, "vault: dev, item: Stripe, ttl: 1s").serve().await;
    assert_eq!(
        given(&proxy, &connect.api).await.as_deref(),
        Some("sk-first-0123456789")
    );
    connect.keep("sk-second-0123456789");
    until_given(&proxy, &connect.api, "sk-second-0123456789").await;
}

#[tokio::test]
async fn what_a_connect_server_does_not_have_is_told_in_words_and_lets_nothing_out() {
    let connect = connect().await;
    for (token, entry, told) in [
        (
            "wrong-token-0123456789",
            "vault: dev, item: Stripe",
            "it does not take this token",
        ),
        (TOKEN, "vault: other, item: Stripe", "there is no such vault"),
        (TOKEN, "vault: twice, item: Stripe", "several vaults are called so"),
        (TOKEN, "vault: dev, item: Other", "there is no such item"),
        (
            TOKEN,
            "vault: dev, item: Stripe, field: other",
            "the item has no such field",
        ),
        (
            TOKEN,
            "vault: dev, item: Stripe, field: key",
            "several fields of the item are called so",
        ),
        (
            TOKEN,
            "vault: dev, item: Stripe, section: other, field: key",
            "the item has no such field",
        ),
        (
            TOKEN,
            "vault: dev, item: Stripe, field: empty",
            "nothing is in the field `empty`",
        ),
        (
            TOKEN,
            "vault: dev, item: Stripe, field: lines",
            "it is of several lines",
        ),
    ] {
        let proxy = connect.rig(token, entry).serve().await;
        let said = refusal(&proxy, &connect.api).await;
        assert!(said.contains(told), "{entry}: {said}");
        for value in [token, "sk-first", "sk-live", "b-0123"] {
            assert!(!said.contains(value), "{said}");
        }
    }
    assert_eq!(connect.api.connections(), 0);
}

/// Puts a program in the place of `op` that gives the value in `FOLDER/value`, if it is called as it should be.
fn stand_in(folder: &Path) {
    let script = format!(
        "#!/bin/sh\n\
         [ \"$*\" = 'read --no-newline op://dev/Stripe/credential' ] || {{ echo \"called with $*\" >&2; exit 3; }}\n\
         [ \"$OP_SERVICE_ACCOUNT_TOKEN\" = ops-token-0123456789 ] || {{ echo \"not $OP_SERVICE_ACCOUNT_TOKEN\" >&2; exit 4; }}\n\
         left=$(env | grep -v -e ^PATH= -e ^HOME= -e ^OP_SERVICE_ACCOUNT_TOKEN= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=)\n\
         [ -z \"$left\" ] || {{ echo \"more is in the environment: $left\" >&2; exit 5; }}\n\
         exec cat {}/value\n",
        folder.display()
    );
    std::fs::write(folder.join("op"), script).unwrap();
    std::fs::set_permissions(folder.join("op"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("value"), "sk-op-0123456789").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn op_is_run_in_a_clean_environment_with_the_token_of_its_account_alone() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let rig = |token: &str| {
        let rig = Rig::new(&root).reach(&api).rule(RULE).secret("TOKEN", token);
        stand_in(rig.dir());
        rig.config("onepassword: { service_account: token, program: ./op }")
            .env("OTHER_TOKEN", "other-0123456789")
            .secret_spec("key", "{ onepassword_item: { vault: dev, item: Stripe, ttl: 1s } }")
    };
    let good = rig("ops-token-0123456789");
    assert_eq!(tried(&good), (Some(0), "ok: token, key\n".to_owned()));
    let proxy = good.serve().await;
    assert_eq!(given(&proxy, &api).await.as_deref(), Some("sk-op-0123456789"));
    std::fs::write(proxy.rig.dir().join("value"), "sk-newer-0123456789").unwrap();
    until_given(&proxy, &api, "sk-newer-0123456789").await;
    let (code, said) = tried(&rig("ops-wrong-0123456789"));
    assert_eq!(code, Some(1));
    assert!(
        said.contains("ended with exit status: 4") && !said.contains("ops-wrong"),
        "{said}"
    );
}

#[tokio::test]
async fn what_the_page_says_of_1password_can_be_followed() {
    let connect = connect().await;
    let servers = [(HOST, connect.services.server.address)];
    let rig = Rig::new(&connect.root);
    std::fs::write(rig.dir().join("connect"), TOKEN).unwrap();
    let page = super::example(4, &[("/run/secrets/", "./")]);
    super::follow(&rig, &page, &connect.api, &servers, &[]).await;
    let rig = Rig::new(&connect.root);
    std::fs::write(rig.dir().join("account"), "ops-token-0123456789").unwrap();
    std::fs::create_dir(rig.dir().join("bin")).unwrap();
    stand_in(&rig.dir().join("bin"));
    let page = super::example(5, &[("/run/secrets/", "./")]);
    super::follow(&rig, &page, &connect.api, &[], &[]).await;
    let shown = connect
        .api
        .seen()
        .into_iter()
        .map(|seen| seen.all("authorization").remove(0));
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown, ["Bearer sk-first-0123456789", "Bearer sk-op-0123456789"]);
}
