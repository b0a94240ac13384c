//! Google Secret Manager and Azure Key Vault, each asked with a token that Keyferry is given for it.

use super::services::Services;
use super::{RULE, given, refusal, tried, until_given};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use serde_json::json;

const HOSTS: [&str; 5] = [
    "secretmanager.googleapis.com",
    "secretmanager.europe-west3.rep.googleapis.com",
    "oauth2.googleapis.com",
    "acme.vault.azure.net",
    "login.microsoftonline.com",
];
const GOOGLE: &str = "{ gcp: { key: account, scopes: [\"https://www.googleapis.com/auth/cloud-platform\"] } }";
const MICROSOFT: &str = "{ azure: { tenant: contoso.example, client_id: app, client_secret: app, \
                         scope: \"https://vault.azure.net/.default\" } }";

struct Clouds {
    root: Root,
    services: Services,
    api: Origin,
}

async fn clouds() -> Clouds {
    let root = Root::new();
    let services = Services::start(&root, &HOSTS).await;
    for (name, text) in [
        ("google/stripe/latest", "sk-google-0123456789"),
        ("google/stripe/3", r#"{"key":"sk-third-0123456789"}"#),
        ("google/europe-west3stripe/latest", "sk-region-0123456789"),
        ("azure/stripe/newest", "sk-azure-0123456789"),
        ("azure/stripe/0a1b", r#"{"key":"sk-older-0123456789"}"#),
        ("azure/lines/newest", "one\ntwo-0123456789"),
    ] {
        services.keep(name, text);
    }
    Clouds {
        api: Origin::start(&root, "api.test").await,
        root,
        services,
    }
}

impl Clouds {
    fn account(&self) -> String {
        json!({"type": "service_account", "client_email": "keyferry@acme.iam.gserviceaccount.com",
            "private_key": self.services.rsa, "token_uri": "https://oauth2.googleapis.com/google/token"})
        .to_string()
    }

    fn rig(&self, spec: &str) -> Rig {
        let address = self.services.server.address;
        let rig = HOSTS.iter().fold(Rig::new(&self.root).reach(&self.api), |rig, host| {
            rig.reach_as(host, address)
        });
        rig.rule(RULE)
            .secret_spec("key", &format!("{{ {spec} }}"))
            .secret("ACCOUNT", &self.account())
            .secret_spec("google", GOOGLE)
            .secret("APP", "app-s3cr&t")
            .secret_spec("microsoft", MICROSOFT)
            .secret("WRONG", "no-token-0123456789")
    }
}

const AZURE: &str = "azure_secret: { vault: \"https://acme.vault.azure.net\", token: microsoft";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_google_and_azure_are_read_by_version_and_field() {
    let clouds = clouds().await;
    for (spec, value) in [
        (
            "gcp_secret: { name: projects/acme/secrets/stripe, token: google }",
            "sk-google-0123456789",
        ),
        (
            "gcp_secret: { name: projects/acme/secrets/stripe, version: \"3\", field: key, token: google }",
            "sk-third-0123456789",
        ),
        (
            "gcp_secret: { name: projects/acme/locations/europe-west3/secrets/stripe, token: google }",
            "sk-region-0123456789",
        ),
        (&format!("{AZURE}, name: stripe }}"), "sk-azure-0123456789"),
        (
            &format!("{AZURE}, name: stripe, version: 0a1b, field: key }}"),
            "sk-older-0123456789",
        ),
    ] {
        let rig = clouds.rig(spec);
        let (code, said) = tried(&rig);
        assert_eq!(code, Some(0), "{said}: {}", clouds.services.server.running.log());
        let proxy = rig.serve().await;
        assert_eq!(given(&proxy, &clouds.api).await.as_deref(), Some(value), "{spec}");
    }
}

#[tokio::test]
async fn a_new_version_is_taken_up_and_a_token_that_was_revoked_is_asked_for_anew() {
    let clouds = clouds().await;
    for (spec, entry, newer) in [
        (
            "gcp_secret: { name: projects/acme/secrets/stripe, token: google, ttl: 1s, grace: 1s }",
            "google/stripe/latest",
            "sk-newer-google-0123456789",
        ),
        (
            &format!("{AZURE}, name: stripe, ttl: 1s, grace: 1s }}"),
            "azure/stripe/newest",
            "sk-newer-azure-0123456789",
        ),
    ] {
        let proxy = clouds.rig(spec).serve().await;
        assert!(given(&proxy, &clouds.api).await.is_some());
        // A token must have some age before another is asked for.
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        clouds.services.revoke();
        clouds.services.keep(entry, newer);
        until_given(&proxy, &clouds.api, newer).await;
    }
}

#[tokio::test]
async fn what_google_and_azure_refuse_is_told_in_words_and_lets_nothing_out() {
    let clouds = clouds().await;
    for (spec, told) in [
        (
            "gcp_secret: { name: projects/acme/secrets/other, token: google }",
            "there is no such secret",
        ),
        (
            "gcp_secret: { name: projects/other/secrets/stripe, token: google }",
            "the token may not read this",
        ),
        (
            "gcp_secret: { name: projects/acme/secrets/stripe, token: wrong }",
            "it does not take this token",
        ),
        (
            "gcp_secret: { name: projects/acme/secrets/stripe, field: key, token: google }",
            "with a text under `key`",
        ),
        (&format!("{AZURE}, name: other }}"), "there is no such secret"),
        (&format!("{AZURE}, name: lines }}"), "it is of several lines"),
        (
            &format!("{AZURE}, name: stripe }}").replace("token: microsoft", "token: wrong"),
            "it does not take this token",
        ),
    ] {
        let proxy = clouds.rig(spec).serve().await;
        let said = refusal(&proxy, &clouds.api).await;
        assert!(said.contains(told), "{spec}: {said}");
        for value in ["sk-google", "two-0123", "app-s3cr", "no-token-0", "issued-"] {
            assert!(!said.contains(value), "{said}");
        }
    }
    assert_eq!(clouds.api.connections(), 0);
}

#[tokio::test]
async fn what_the_page_says_of_google_and_azure_can_be_followed() {
    let clouds = clouds().await;
    let servers = HOSTS.map(|host| (host, clouds.services.server.address));
    for (number, value) in [(2, "sk-google-0123456789"), (3, "sk-azure-0123456789")] {
        let rig = Rig::new(&clouds.root);
        std::fs::write(rig.dir().join("account.json"), clouds.account()).unwrap();
        std::fs::write(rig.dir().join("app"), "app-s3cr&t").unwrap();
        let page = super::example(number, &[("/run/secrets/", "./")]);
        super::follow(&rig, &page, &clouds.api, &servers, &[]).await;
        let shown = clouds.api.seen().pop().unwrap().all("authorization");
        assert_eq!(shown, [format!("Bearer {value}")]);
    }
}
