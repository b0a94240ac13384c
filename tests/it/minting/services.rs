//! GitHub Apps, Google and Microsoft accounts, signed tokens. No registry has their servers: what stands here checks
//! signature, claims, expiry and replay with an independent library.

use super::keys;
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::{Root, Validity};
use crate::rig::tools;
use crate::signing::servers::{Server, free};
use serde_json::{Value, json};
use std::process::Command;

pub const HOSTS: &[&str] = &[
    "api.test",
    "auth.test",
    "google.test",
    "github.test",
    "microsoft.test",
    // Those of presets.
    "api.github.com",
    "github.com",
    "storage.googleapis.com",
    "iamcredentials.googleapis.com",
    "login.microsoftonline.com",
    "management.azure.com",
    "graph.microsoft.com",
    "acme.vault.azure.net",
    "acme.blob.core.windows.net",
];

pub struct Services {
    pub dir: tempfile::TempDir,
    pub root: Root,
    pub server: Server,
    pub rsa: String,
    keys: [String; 3],
}

pub async fn services() -> Services {
    let (dir, root) = (tempfile::tempdir().unwrap(), Root::new());
    let keys = keys(dir.path());
    let certificate = dir.path().join("certificate.pem");
    std::fs::write(&certificate, root.client(&["app"], Validity::Now).chain).unwrap();
    let at = free().await;
    let mut command = Command::new(tools::python());
    bare(&mut command, dir.path());
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/minting/scripts/services.py"
        ))
        .env("AUTHLIB_INSECURE_TRANSPORT", "1")
        .arg(at.port().to_string())
        .args(&keys)
        .arg(&certificate);
    let server = Server::start(&root, HOSTS, command, at).await;
    Services {
        rsa: std::fs::read_to_string(&keys[0]).unwrap(),
        dir,
        root,
        server,
        keys,
    }
}

impl Services {
    pub fn rig(&self) -> Rig {
        let rig = Rig::new(&self.root);
        HOSTS
            .iter()
            .fold(rig, |rig, host| rig.reach_as(host, self.server.address))
    }

    /// What the API says of the token that a rule with this injection gives.
    async fn given(&self, inject: &str) -> Value {
        let mut rig = self.rig();
        if inject.contains("key: rsa") {
            rig = rig.secret("RSA", &self.rsa);
        }
        if inject.contains("client_secret: azure") {
            rig = rig.secret("AZURE", "azure-s3cr&t");
        }
        if inject.contains("certificate: certificate") {
            let file = self.dir.path().join("certificate.pem");
            rig = rig.secret_spec("certificate", &format!("{{ file: {} }}", file.display()));
        }
        let rule = format!("name: api, host: api.test, inject: [{{ {inject} }}]");
        let proxy = rig.rule(&rule).serve().await;
        let reply = proxy.agent.get("https://api.test/api").await;
        let log = self.server.running.log();
        assert_eq!(reply.status, 200, "{inject}: {}\n{log}", reply.text());
        reply.json()
    }
}

#[tokio::test]
async fn an_installation_of_a_github_app_gets_a_token_for_what_the_rule_names() {
    let services = services().await;
    let app = "github_app: { api: \"https://github.test\", app_id: \"1234\", installation: \"42\", private_key: rsa, \
               repositories: [site], permissions: { contents: write } }";
    let said = services.given(app).await;
    let expected = json!({"installation": 42, "repositories": ["site"], "permissions": {"contents": "write"}});
    assert_eq!(said, expected);
    // As git shows it.
    let rule = "name: git, host: api.test, inject: [{ basic: { user: x-access-token, password: gh } }]";
    let rig = services.rig().secret("RSA", &services.rsa);
    let rig = rig.secret_spec("gh", &format!("{{ {app} }}"));
    let proxy = rig.rule(rule).serve().await;
    let reply = proxy.agent.get("https://api.test/api").await;
    assert_eq!(reply.json(), expected);
}

#[tokio::test]
async fn a_token_that_is_refused_for_a_clock_that_is_off_makes_the_record_and_the_check_name_it() {
    let services = services().await;
    for offset in ["-600s", "+600s"] {
        let rig = crate::clock::off(services.rig(), offset)
            .secret("RSA", &services.rsa)
            .secret_spec(
                "gh",
                "{ github_app: { api: \"https://github.test\", app_id: \"1234\", installation: \"42\", private_key: rsa } }",
            )
            .rule("name: api, host: api.test, inject: [{ bearer: gh }]");
        let (well, said) = crate::rig::proxy::ended(rig.command(&["secret", "check"])).await;
        assert!(!well && said.contains("is this machine's clock right?"), "{said}");
        let proxy = rig.serve().await;
        let reply = proxy.agent.get("https://api.test/api").await;
        assert_eq!(reply.code(), "credential_unavailable");
        let record = proxy.record().await.to_string();
        assert!(record.contains("is this machine's clock right?"), "{record}");
    }
}

#[tokio::test]
async fn a_service_account_of_google_gets_access_and_identity_tokens() {
    let services = services().await;
    let account = json!({"type": "service_account", "client_email": "agent@project.iam.gserviceaccount.com",
        "private_key_id": "1f", "private_key": services.rsa, "token_uri": "https://google.test/google/token"});
    let file = services.dir.path().join("account.json");
    std::fs::write(&file, format!("{account:#}")).unwrap();
    for (wants, expected) in [
        (
            "scopes: [\"https://www.googleapis.com/auth/a\", b]",
            json!({"scope": "https://www.googleapis.com/auth/a b"}),
        ),
        (
            "audience: \"https://run.test\"",
            json!({"audience": "https://run.test"}),
        ),
    ] {
        let rule = format!("name: api, host: api.test, inject: [{{ gcp: {{ key: account, {wants} }} }}]");
        let rig = services
            .rig()
            .secret_spec("account", &format!("{{ file: {} }}", file.display()));
        let proxy = rig.rule(&rule).serve().await;
        let reply = proxy.agent.get("https://api.test/api").await;
        assert_eq!(reply.json(), expected, "{}", services.server.running.log());
    }
}

#[tokio::test]
async fn an_application_of_microsoft_is_known_by_its_secret_or_its_certificate() {
    let services = services().await;
    for proof in ["client_secret: azure", "certificate: certificate, private_key: rsa"] {
        let inject = format!(
            "azure: {{ authority: \"https://microsoft.test\", tenant: tenant.example, client_id: app-1, {proof}, \
             scope: \"https://management.azure.com/.default\" }}"
        );
        let said = services.given(&inject).await;
        assert_eq!(said, json!({"scope": "https://management.azure.com/.default"}));
    }
}

#[tokio::test]
async fn an_assertion_is_traded_for_a_token_by_authlib() {
    let services = services().await;
    let inject = "oauth2: { grant: jwt_bearer, token_url: \"https://auth.test/oauth/token\", issuer: robot, \
                  subject: someone, private_key: rsa, scopes: [read] }";
    let said = services.given(inject).await;
    assert_eq!(said, json!({"scope": "read"}));
}

#[tokio::test]
async fn a_token_is_signed_here_with_each_kind_of_key() {
    let services = services().await;
    for (path, algorithm) in services.keys.iter().zip(["RS256", "ES256", "EdDSA"]) {
        let rule = "name: api, host: api.test, inject: [{ jwt: { private_key: key, key_id: k, issuer: me, \
                    audience: \"https://api.test\", claims: { team: blue } } }]";
        let rig = services.rig().secret_spec("key", &format!("{{ file: {path} }}"));
        let proxy = rig.rule(rule).serve().await;
        let reply = proxy.agent.get("https://api.test/signed").await;
        assert_eq!(reply.status, 200, "{algorithm}: {}", services.server.running.log());
        assert_eq!(reply.json()["header"]["alg"], algorithm);
    }
}
