//! Presets that ask for tokens: three lines each, and the services in their places.

use super::services::{HOSTS as SERVICES, services};
use super::{BASIC, POST, provider};
use crate::rig::proxy::{Rig, ended};
use crate::rig::root::Root;
use serde_json::json;

/// Where the presets of this page's table go; the certified authorisation server stands for all of them.
pub const HOSTS: &[&str] = &[
    "accounts.spotify.com",
    "api.spotify.com",
    "api-m.paypal.com",
    "api-m.sandbox.paypal.com",
    "api.ebay.com",
    "acme.my.salesforce.com",
    "acme.eu.auth0.com",
    "id.twitch.tv",
    "api.twitch.tv",
];

/// The preset with what it is told, the variable of its secret, how the client proves itself, and what is asked for.
const TABLE: &[(&str, &str, &str, &str)] = &[
    (
        "spotify, with: { client_id: ID }",
        "SPOTIFY_CLIENT_SECRET",
        "basic",
        "https://api.spotify.com/api",
    ),
    (
        "paypal, with: { client_id: ID }",
        "PAYPAL_CLIENT_SECRET",
        "basic",
        "https://api-m.paypal.com/api",
    ),
    (
        "paypal, with: { client_id: ID, host: api-m.sandbox.paypal.com }",
        "PAYPAL_CLIENT_SECRET",
        "basic",
        "https://api-m.sandbox.paypal.com/api",
    ),
    (
        "ebay, with: { client_id: ID, scope: read }",
        "EBAY_CLIENT_SECRET",
        "basic",
        "https://api.ebay.com/api",
    ),
    (
        "salesforce, with: { client_id: ID, domain: acme }",
        "SALESFORCE_CLIENT_SECRET",
        "post",
        "https://acme.my.salesforce.com/api",
    ),
    (
        "auth0, with: { client_id: ID, domain: acme.eu.auth0.com }",
        "AUTH0_CLIENT_SECRET",
        "post",
        "https://acme.eu.auth0.com/api/v2/users",
    ),
    (
        "twitch, with: { client_id: ID }",
        "TWITCH_CLIENT_SECRET",
        "post",
        "https://api.twitch.tv/api",
    ),
];

#[tokio::test]
async fn a_preset_that_is_told_its_client_asks_for_a_token_and_gives_it_to_its_host_alone() {
    let (root, dir) = (Root::new(), tempfile::tempdir().unwrap());
    let provider = provider(&root, 600, dir.path()).await;
    for (preset, variable, client, url) in TABLE {
        let secret = if *client == "basic" { BASIC } else { POST };
        let rig = HOSTS
            .iter()
            .fold(Rig::new(&root), |rig, host| rig.reach_as(host, provider.server.address));
        let rig = rig
            .env(variable, secret)
            .rule(&format!("preset: {}", preset.replace("ID", client)));
        let (well, said) = ended(rig.command(&["explain", "GET", url])).await;
        assert!(
            well && said.contains("/oauth2` as `Authorization: Bearer`; https://"),
            "{said}"
        );
        let proxy = rig.serve().await;
        let reply = proxy.agent.get(url).await;
        let log = provider.server.running.log();
        assert_eq!(reply.status, 200, "{preset}: {} {log}", reply.text());
        let said = reply.json();
        assert_eq!(said["client"], *client, "{preset}");
        assert!(said["echo"].as_str().unwrap().starts_with("Bearer ***"), "{said}");
        // Nobody else is reached by it, its token endpoint neither unless the API is there too.
        let (_, elsewhere) = ended(proxy.rig.command(&["explain", "GET", "https://other.test/"])).await;
        assert!(elsewhere.contains("no rule allows"), "{elsewhere}");
    }
}

#[tokio::test]
async fn the_presets_of_github_google_and_microsoft_get_tokens_for_each_of_their_hosts() {
    let services = services().await;
    let account = json!({"type": "service_account", "client_email": "agent@project.iam.gserviceaccount.com",
        "private_key": services.rsa, "token_uri": "https://google.test/google/token"});
    let mut rig = SERVICES.iter().fold(Rig::new(&services.root), |rig, host| {
        rig.reach_as(host, services.server.address)
    });
    std::fs::write(rig.dir().join("google.json"), account.to_string()).unwrap();
    rig = rig
        .secret_spec("google-cloud", "{ file: google.json }")
        .env("GITHUB_APP_PRIVATE_KEY", &services.rsa)
        .secret("ENTRA", "azure-s3cr&t")
        .rule("preset: github-app, with: { app_id: 1234, installation: 42 }")
        .rule("preset: google-cloud")
        .rule("preset: azure, secret: entra, with: { tenant: tenant.example, client_id: app-1 }");
    let (well, said) = ended(rig.command(&["explain", "GET", "https://github.com/acme/site/info/refs"])).await;
    assert!(
        well && said.contains("`github-app/token` as the password of `x-access-token`")
            && said.contains("https://api.github.com/ is asked for it"),
        "{said}"
    );
    let proxy = rig.serve().await;
    let scope = |scope: &str| json!({"scope": scope});
    for (url, expected) in [
        ("https://api.github.com/api", json!({"installation": 42})),
        ("https://github.com/acme/site/info/refs", json!({"installation": 42})),
        (
            "https://storage.googleapis.com/api",
            scope("https://www.googleapis.com/auth/cloud-platform"),
        ),
        (
            "https://management.azure.com/api",
            scope("https://management.azure.com/.default"),
        ),
        (
            "https://graph.microsoft.com/api",
            scope("https://graph.microsoft.com/.default"),
        ),
        (
            "https://acme.vault.azure.net/api",
            scope("https://vault.azure.net/.default"),
        ),
        (
            "https://acme.blob.core.windows.net/api",
            scope("https://storage.azure.com/.default"),
        ),
    ] {
        let reply = proxy.agent.get(url).await;
        let log = services.server.running.log();
        assert_eq!(reply.status, 200, "{url}: {}\n{log}", reply.text());
        assert_eq!(reply.json(), expected, "{url}");
    }
    // What would make a credential that the agent could keep.
    let (status, head, _) = proxy.agent.connect("iamcredentials.googleapis.com:443").await;
    assert!(status == 403 && head.contains("denied_by_policy"), "{head}");
}
