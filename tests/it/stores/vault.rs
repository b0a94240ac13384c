//! The Kubernetes login of a real OpenBao. The cluster whose tokens it asks about (TokenReview) is a stand-in: it checks their
//! signatures with joserfc, and answers as the API's documentation says.

use super::kubernetes::Mounted;
use super::services::Services;
use crate::minting::vault::{Bao, bao};
use crate::rig::proxy::Rig;
use crate::rig::tools;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// An OpenBao that asks the cluster about whoever logs in, and lets in one account of one namespace.
async fn with_cluster(dir: &std::path::Path) -> (Bao, Services) {
    let bao = bao(dir).await;
    let services = Services::start(&bao.root, &["localhost"]).await;
    bao.put("sys/auth/kubernetes", &json!({"type": "kubernetes"})).unwrap();
    let cluster = json!({"kubernetes_host": format!("https://localhost:{}", services.server.address.port()),
        "kubernetes_ca_cert": bao.root.pem(), "disable_local_ca_jwt": true});
    bao.put("auth/kubernetes/config", &cluster).unwrap();
    let policy = "path \"secret/data/payments/*\" { capabilities = [\"read\"] }";
    bao.put("sys/policies/acl/payments", &json!({"policy": policy}))
        .unwrap();
    let role = json!({"bound_service_account_names": "keyferry", "bound_service_account_namespaces": "prod",
        "token_policies": "payments", "token_ttl": "2s", "token_max_ttl": "4s"});
    bao.put("auth/kubernetes/role/keyferry", &role).unwrap();
    (bao, services)
}

/// A rig whose Keyferry sees this token where a pod finds that of its account.
fn in_a_pod(bao: &Bao, token: &str) -> (Rig, Mounted) {
    let rig = bao.rig("role: keyferry").secret_spec(
        "key",
        "{ vault: { path: payments/stripe, field: key, ttl: 1s, grace: 1s } }",
    );
    let account = Mounted::new(rig.dir().join("account"), "token", token);
    let place = "/run/secrets/kubernetes.io/serviceaccount";
    let mount = format!("mount -t tmpfs tmpfs /run && mkdir -p {place} && mount --bind \"$0\" {place} && exec \"$@\"");
    let (unshare, folder) = (tools::need("unshare"), rig.dir().join("account"));
    let words = [unshare.to_str().unwrap(), "--user", "--map-root-user", "--mount"];
    let words = [&words[..], &["sh", "-c", &mount, folder.to_str().unwrap()]].concat();
    (rig.through(&words), account)
}

#[tokio::test]
async fn a_pod_logs_in_at_a_vault_with_the_token_of_its_account_and_again_with_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (bao, services) = with_cluster(dir.path()).await;
    let (rig, account) = in_a_pod(&bao, &services.account(6));
    let proxy = rig.serve().await;
    let begun = Instant::now();
    let mut renewed = false;
    // The first token of the account is over by then, and so is every login with it.
    while begun.elapsed() < Duration::from_secs(12) {
        let given = bao.given(&proxy).await;
        assert_eq!(
            given.as_deref(),
            Some("Bearer sk-first-0123456789"),
            "after {:?}: {}",
            begun.elapsed(),
            proxy.child.log()
        );
        if !renewed && begun.elapsed() > Duration::from_secs(3) {
            account.publish("token", &services.account(3600));
            renewed = true;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_token_that_the_cluster_does_not_know_or_of_another_account_opens_no_vault() {
    let dir = tempfile::tempdir().unwrap();
    let (bao, services) = with_cluster(dir.path()).await;
    let good = services.account(3600);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(342));
    for token in [services.account(0), services.stranger(), forged] {
        let (rig, _account) = in_a_pod(&bao, &token);
        let proxy = rig.serve().await;
        assert_eq!(bao.given(&proxy).await, None);
        let said = format!("{}{}", proxy.record().await, proxy.child.log());
        assert!(said.contains("it does not take this role and JWT"), "{said}");
        assert!(!said.contains(&token), "{said}");
    }
    let (rig, _account) = in_a_pod(&bao, &good);
    let proxy = rig.serve().await;
    assert!(bao.given(&proxy).await.is_some(), "{}", proxy.child.log());
}
