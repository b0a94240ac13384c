//! A real OpenBao: tokens and AppRole, both versions of the key-value engine, rotation, revocation, and the Vault down.

use super::{keys, pass};
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::tools;
use crate::signing::servers::{Server, free};
use serde_json::{Value, json};
use std::process::Command;

/// A real OpenBao behind TLS, and an API.
pub struct Bao {
    pub root: Root,
    pub server: Server,
    api: Origin,
}

pub async fn bao(dir: &std::path::Path) -> Bao {
    let root = Root::new();
    let at = free().await;
    let program = tools::python().parent().unwrap().join("bao-server");
    assert!(
        program.is_file(),
        "OpenBao is not installed; run scripts/test once, it installs it"
    );
    let mut command = Command::new(program);
    bare(&mut command, dir);
    command.args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root-token"]);
    command.arg(format!("-dev-listen-address={at}"));
    let server = Server::start(&root, &["vault.test"], command, at).await;
    let bao = Bao {
        api: Origin::start(&root, "api.test").await,
        root,
        server,
    };
    crate::rig::eventually("OpenBao's start", || {
        bao.put(
            "secret/data/payments/stripe",
            &json!({"data": {"key": "sk-first-0123456789", "other": "x"}}),
        )
    })
    .await;
    bao
}

impl Bao {
    /// Asks it as its operator does, past Keyferry.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        let mut curl = Command::new(tools::need("curl"));
        curl.args(["-sS", "--fail", "-X", method, "-H", "X-Vault-Token: root-token"]);
        curl.arg(format!("http://{}/v1/{path}", self.server.plain));
        if let Some(body) = body {
            curl.arg("-d").arg(body.to_string());
        }
        let output = curl.output().unwrap();
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    pub fn put(&self, path: &str, body: &Value) -> Option<Value> {
        self.ask("POST", path, Some(body))
    }

    pub fn rig(&self, vault: &str) -> Rig {
        Rig::new(&self.root)
            .reach(&self.api)
            .reach_as("vault.test", self.server.address)
            .config(&format!("vault: {{ address: \"https://vault.test\", {vault} }}"))
            .rule("name: api, host: api.test, inject: [{ bearer: key }]")
    }

    /// What goes out with one request; nothing when it is refused.
    pub async fn given(&self, proxy: &Proxy) -> Option<String> {
        let reply = proxy.agent.get("https://api.test/hello").await;
        match reply.status.as_u16() {
            200 => Some(self.api.seen().pop().unwrap().all("authorization").remove(0)),
            _ => {
                assert_eq!(reply.code(), "credential_unavailable");
                None
            }
        }
    }
}

const ENTRY: &str = "{ vault: { path: payments/stripe, field: key, ttl: 2s, grace: 3s } }";

#[tokio::test]
async fn an_entry_is_read_with_a_token_and_a_new_version_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let bao = bao(dir.path()).await;
    bao.put("sys/mounts/old", &json!({"type": "kv", "options": {"version": "1"}}))
        .unwrap();
    bao.put("old/plain", &json!({"value": "one-0123456789"})).unwrap();
    let rig = bao.rig("token: token").secret("TOKEN", "root-token");
    let proxy = rig.secret_spec("key", ENTRY).serve().await;
    assert_eq!(bao.given(&proxy).await.unwrap(), "Bearer sk-first-0123456789");
    bao.put(
        "secret/data/payments/stripe",
        &json!({"data": {"key": "sk-second-0123456789"}}),
    )
    .unwrap();
    let mut last = String::new();
    for _ in 0..60 {
        last = bao.given(&proxy).await.unwrap();
        if last.contains("second") {
            break;
        }
        pass(0.1).await;
    }
    assert_eq!(last, "Bearer sk-second-0123456789");
    let rig = bao.rig("token: token").secret("TOKEN", "root-token");
    let old = rig
        .secret_spec("key", "{ vault: { mount: old, path: plain, version: 1 } }")
        .serve()
        .await;
    assert_eq!(bao.given(&old).await.unwrap(), "Bearer one-0123456789");
}

#[tokio::test]
async fn a_role_logs_in_and_again_when_its_token_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let bao = bao(dir.path()).await;
    bao.put("sys/auth/approle", &json!({"type": "approle"})).unwrap();
    let policy = "path \"secret/data/payments/*\" { capabilities = [\"read\"] }";
    bao.put("sys/policies/acl/payments", &json!({"policy": policy}))
        .unwrap();
    bao.put(
        "auth/approle/role/keyferry",
        &json!({"token_policies": "payments", "token_ttl": "1h"}),
    )
    .unwrap();
    let role = bao.ask("GET", "auth/approle/role/keyferry/role-id", None).unwrap();
    let secret = bao.put("auth/approle/role/keyferry/secret-id", &json!({})).unwrap();
    let role = role["data"]["role_id"].as_str().unwrap();
    let rig = bao.rig(&format!("role_id: {role}, secret_id: secret_id"));
    let rig = rig.secret("SECRET_ID", secret["data"]["secret_id"].as_str().unwrap());
    let proxy = rig.secret_spec("key", ENTRY).serve().await;
    assert_eq!(bao.given(&proxy).await.unwrap(), "Bearer sk-first-0123456789");
    pass(5.5).await;
    let tokens = bao.ask("LIST", "auth/token/accessors", None).unwrap();
    for accessor in tokens["data"]["keys"].as_array().unwrap() {
        let about = bao
            .put("auth/token/lookup-accessor", &json!({"accessor": accessor}))
            .unwrap();
        if about["data"]["display_name"] == "approle" {
            bao.put("auth/token/revoke-accessor", &json!({"accessor": accessor}))
                .unwrap();
        }
    }
    bao.put(
        "secret/data/payments/stripe",
        &json!({"data": {"key": "sk-second-0123456789"}}),
    )
    .unwrap();
    let mut last = String::new();
    for _ in 0..100 {
        last = bao.given(&proxy).await.unwrap_or_default();
        if last.contains("second") {
            break;
        }
        pass(0.1).await;
    }
    assert_eq!(last, "Bearer sk-second-0123456789", "{}", proxy.child.log());
}

#[tokio::test]
async fn while_the_vault_is_down_the_last_value_serves_its_grace_and_then_nothing_goes_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut bao = bao(dir.path()).await;
    let rig = bao.rig("token: token, timeout: 1s").secret("TOKEN", "root-token");
    let proxy = rig.secret_spec("key", ENTRY).serve().await;
    assert!(bao.given(&proxy).await.is_some());
    bao.server.running.kill().await;
    let begun = tokio::time::Instant::now();
    while bao.given(&proxy).await.is_some() {
        assert!(begun.elapsed() < crate::rig::PATIENCE, "a value outlives its grace");
        pass(0.1).await;
    }
    assert!(
        begun.elapsed().as_secs_f64() > 3.0,
        "a value does not serve its grace: {:?}",
        begun.elapsed()
    );
    let record = crate::rig::eventually("the record of the refusal", || {
        let refused = |record: &Value| record["status"] == 502;
        proxy.rig.audit().into_iter().find(refused)
    });
    let record = record.await.to_string();
    assert!(
        record.contains("vault.test") && !record.contains("root-token"),
        "{record}"
    );
}

#[tokio::test]
async fn what_a_vault_refuses_is_told_in_words_and_lets_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let bao = bao(dir.path()).await;
    let pem = std::fs::read_to_string(&keys(dir.path())[1]).unwrap();
    bao.put("secret/data/document", &json!({"data": {"value": pem}}))
        .unwrap();
    for (token, entry, told) in [
        ("wrong-token", ENTRY, "the token may not read this"),
        (
            "root-token",
            "{ vault: { path: nothing } }",
            "there is no such mount or entry",
        ),
        (
            "root-token",
            "{ vault: { path: payments/stripe } }",
            "the entry has no text under `value`",
        ),
        ("root-token", "{ vault: { path: document } }", "is of several lines"),
    ] {
        let rig = bao.rig("token: token").secret("TOKEN", token);
        let proxy = rig.secret_spec("key", entry).serve().await;
        assert_eq!(bao.given(&proxy).await, None);
        let record = proxy.record().await.to_string();
        assert!(record.contains(told) && !record.contains(token), "{told}: {record}");
    }
    assert_eq!(bao.api.connections(), 0);
    let rig = Rig::new(&bao.root)
        .secret_spec("key", ENTRY)
        .rule("host: api.test, inject: [{ bearer: key }]");
    super::faults::mistaken(&rig, "nothing says where the Vault is");
}

// The server's TLS is ended in this process, while it waits for the command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_secret_of_a_config_is_tried_and_told_of_without_its_value() {
    let dir = tempfile::tempdir().unwrap();
    let bao = bao(dir.path()).await;
    let check = |rig: &Rig| {
        let output = rig.command(&["secret", "check"]).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        for value in ["root-token", "sk-first", "program-value"] {
            assert!(!said.concat().contains(value), "{said:?}");
        }
        (output.status.code(), said)
    };
    let rig = bao
        .rig("token: token")
        .secret("TOKEN", "root-token")
        .secret_spec("key", ENTRY);
    let rig = rig.secret_spec("program", "{ exec: [printf, \"%s-%s\", program, value] }");
    let (code, [out, _]) = check(&rig);
    assert_eq!((code, out.trim()), (Some(0), "ok: token, key, program"));
    let rig = rig
        .secret_spec("gone", "{ vault: { path: nothing } }")
        .secret_spec("broken", "{ exec: [sh, -c, exit 3] }");
    let (code, [_, err]) = check(&rig);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("secret `gone`: ") && err.contains("there is no such mount or entry"),
        "{err}"
    );
    assert!(err.contains("secret `broken`: `sh` ended with exit status: 3"), "{err}");
    assert!(!err.contains("secret `key`: "), "{err}");
}

#[tokio::test]
async fn the_page_on_vault_can_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    let bao = bao(dir.path()).await;
    let rig = Rig::new(&bao.root);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let page = crate::pages::block("vault.md", "yaml");
    let config = page
        .replace("vault.example.com:8200", "vault.test")
        .replace("api.stripe.com", "api.test");
    assert_ne!(page, config);
    let config = format!(
        "listen: [127.0.0.1:{port}]\nupstream:\n  roots: [{}]\n  resolve: {{ api.test: \"{}\", vault.test: \"{}\" }}\n  \
         allow_networks: [127.0.0.0/8]\n{config}",
        rig.dir().join("root.pem").display(),
        bao.api.address,
        bao.server.address,
    );
    let changes = [
        ("127.0.0.1:8080", &*format!("127.0.0.1:{port}")),
        ("api.stripe.com", "api.test"),
        ("the-token", "root-token"),
    ];
    let output = crate::pages::run(&rig, "vault.md", &config, &changes).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("`stripe` as `Authorization: Bearer`"), "{said}");
    assert_eq!(
        bao.api.seen().pop().unwrap().all("authorization"),
        ["Bearer sk-first-0123456789"]
    );
}
