//! Secrets of Kubernetes: mounted, as the kubelet swaps them, and by the API, behind TLS of the cluster's own root.

use super::services::Services;
use super::{RULE, given, refusal, tried, until_given};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A folder that is mounted as the kubelet does it: `..data` leads to the folder of now, and is swapped by a rename.
pub struct Mounted {
    path: PathBuf,
    count: std::cell::Cell<u32>,
}

impl Mounted {
    pub fn new(path: PathBuf, name: &str, text: &str) -> Self {
        std::fs::create_dir(&path).unwrap();
        let count = std::cell::Cell::new(0);
        let mounted = Self { path, count };
        mounted.publish(name, text);
        symlink(Path::new("..data").join(name), mounted.path.join(name)).unwrap();
        mounted
    }

    pub fn publish(&self, name: &str, text: &str) {
        let number = self.count.replace(self.count.get() + 1);
        let folder = format!("..2026_{number}");
        std::fs::create_dir(self.path.join(&folder)).unwrap();
        std::fs::write(self.path.join(&folder).join(name), text).unwrap();
        symlink(&folder, self.path.join("..data_tmp")).unwrap();
        std::fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        if number > 0 {
            std::fs::remove_dir_all(self.path.join(format!("..2026_{}", number - 1))).unwrap();
        }
    }
}

#[tokio::test]
async fn a_secret_that_is_mounted_is_taken_up_as_the_kubelet_swaps_it() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&api).rule(RULE);
    let mounted = Mounted::new(rig.dir().join("mounted"), "stripe", "sk-0-0123456789");
    let proxy = rig.secret_spec("key", "{ file: mounted/stripe }").serve().await;
    assert_eq!(given(&proxy, &api).await.as_deref(), Some("sk-0-0123456789"));
    for number in 1..4 {
        let value = format!("sk-{number}-0123456789");
        mounted.publish("stripe", &value);
        until_given(&proxy, &api, &value).await;
    }
}

struct Cluster {
    /// What agents' upstreams are trusted by: not the cluster's.
    root: Root,
    cluster: Root,
    services: Services,
    api: Origin,
}

async fn cluster() -> Cluster {
    let (root, cluster) = (Root::new(), Root::new());
    let services = Services::start(&cluster, &["kubernetes.default.svc"]).await;
    services.keep(
        "kubernetes/payments",
        r#"{"stripe": "sk-first-0123456789\n", "json": "{\"a\":{\"b\":\"nested-0123456789\"}}"}"#,
    );
    Cluster {
        api: Origin::start(&root, "api.test").await,
        root,
        cluster,
        services,
    }
}

impl Cluster {
    /// A rig with the cluster's root and a token in its folder; further keys of `kubernetes`.
    fn rig(&self, keys: &str, token: &str) -> (Rig, Mounted) {
        let rig = Rig::new(&self.root)
            .reach(&self.api)
            .reach_as("kubernetes.default.svc", self.services.server.address)
            .config(&format!(
                "kubernetes: {{ api: \"https://kubernetes.default.svc\", token: token, namespace: prod{keys} }}"
            ))
            .secret_spec("token", "{ file: account/token }")
            .rule(RULE);
        std::fs::write(rig.dir().join("cluster.pem"), self.cluster.pem()).unwrap();
        let account = Mounted::new(rig.dir().join("account"), "token", token);
        (rig, account)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_asked_with_a_token_that_is_read_again_as_it_rotates_and_by_the_clusters_root_alone() {
    let cluster = cluster().await;
    let (rig, account) = cluster.rig(", ca: cluster.pem", &cluster.services.account(8));
    let spec = "{ kubernetes_secret: { name: payments, key: stripe, ttl: 1s, grace: 1s } }";
    let rig = rig
        .secret_spec("key", spec)
        .secret_spec(
            "nested",
            "{ kubernetes_secret: { name: payments, key: json, field: /a/b } }",
        )
        .rule("name: nested, host: nested.test, inject: [{ bearer: nested }]");
    assert_eq!(tried(&rig), (Some(0), "ok: token, key, nested\n".to_owned()));
    let proxy = rig.serve().await;
    assert_eq!(
        given(&proxy, &cluster.api).await.as_deref(),
        Some("sk-first-0123456789")
    );
    // The kubelet renews the token before it ends; a value from after its end was had with the new one.
    account.publish("token", &cluster.services.account(3600));
    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    cluster
        .services
        .keep("kubernetes/payments", r#"{"stripe": "sk-second-0123456789"}"#);
    until_given(&proxy, &cluster.api, "sk-second-0123456789").await;
}

/// Further keys of `kubernetes`, whether the token is good, an entry, and what is told of it.
const REFUSALS: &[(&str, bool, &str, &str)] = &[
    ("", true, "name: payments, key: stripe", "certificate"),
    (", ca: root.pem", true, "name: payments, key: stripe", "certificate"),
    (
        ", ca: account/token",
        true,
        "name: payments, key: stripe",
        "it holds no certificate",
    ),
    (
        ", ca: cluster.pem",
        false,
        "name: payments, key: stripe",
        "it does not take this token",
    ),
    (
        ", ca: cluster.pem",
        true,
        "name: payments, key: stripe, namespace: other",
        "the token may not read this",
    ),
    (
        ", ca: cluster.pem",
        true,
        "name: nothing, key: stripe",
        "there is no such secret",
    ),
    (
        ", ca: cluster.pem",
        true,
        "name: payments, key: other",
        "the Secret has nothing under the key `other`",
    ),
    (
        ", ca: cluster.pem",
        true,
        "name: odd, key: lines",
        "it is of several lines",
    ),
    (
        ", ca: cluster.pem",
        true,
        "name: odd, key: void",
        "the Secret has nothing under the key `void`",
    ),
];

#[tokio::test]
async fn an_api_that_is_not_the_clusters_and_whatever_it_refuses_lets_nothing_out() {
    let cluster = cluster().await;
    cluster
        .services
        .keep("kubernetes/odd", r#"{"lines": "a\nb-0123456789", "void": ""}"#);
    let good = cluster.services.account(3600);
    let ended = cluster.services.account(0);
    for (keys, is_good, entry, told) in REFUSALS {
        let token = if *is_good { &good } else { &ended };
        let (rig, _account) = cluster.rig(keys, token);
        let proxy = rig
            .secret_spec("key", &format!("{{ kubernetes_secret: {{ {entry} }} }}"))
            .serve()
            .await;
        let said = refusal(&proxy, &cluster.api).await;
        assert!(said.contains(told), "{keys} {entry}: {said}");
        for value in [token.as_str(), "sk-first", "b-0123", "c2stZmlyc3Q"] {
            assert!(!said.contains(value), "{said}");
        }
    }
    assert_eq!(cluster.api.connections(), 0);
}

#[tokio::test]
async fn what_the_page_says_of_kubernetes_can_be_followed() {
    let cluster = cluster().await;
    let (rig, _account) = cluster.rig("", &cluster.services.account(3600));
    // What a pod finds in its own place is found in this rig's folder.
    let account = "token: account, ca: cluster.pem, api: \"https://kubernetes.default.svc\", ";
    let page = super::example(
        1,
        &[
            ("kubernetes: { ", &format!("kubernetes: {{ {account}")),
            ("secrets:\n", "secrets:\n  account: { file: account/token }\n"),
        ],
    );
    let servers = [("kubernetes.default.svc", cluster.services.server.address)];
    super::follow(&rig, &page, &cluster.api, &servers, &[]).await;
    assert_eq!(
        cluster.api.seen().pop().unwrap().all("authorization"),
        ["Bearer sk-first-0123456789"]
    );
}
