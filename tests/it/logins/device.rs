//! A login as a program makes it, by the device flow (RFC 8628), at a certified authorisation server.

use super::posted;
use crate::minting::{Provider, asked, pass, provider};
use crate::rig::agent::{Agent, Reply, get};
use crate::rig::proxy::Proxy;
use crate::rig::root::Root;
use http::StatusCode;
use serde_json::Value;

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn posts(proxy: &Proxy, path: &str, form: &str) -> Reply {
    let mut http = proxy.agent.h1("auth.test").await;
    http.reply(posted(&format!("https://auth.test{path}"), form)).await
}

/// What a person does in a browser, which does not go through Keyferry.
pub async fn approve(provider: &Provider, code: &str) {
    let url = format!("http://{}/approve?user_code={code}", provider.server.plain);
    let mut http =
        crate::rig::agent::Http::one(tokio::net::TcpStream::connect(provider.server.plain).await.unwrap()).await;
    let reply = http.reply(get(&url)).await;
    assert_eq!(reply.text(), "yes", "{}", provider.server.running.log());
}

async fn shows(agent: &Agent, token: &str) -> Reply {
    let mut http = agent.h1("api.test").await;
    let mut request = get("https://api.test/api");
    request
        .headers_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    http.reply(request).await
}

fn field(said: &Value, name: &str) -> String {
    said[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name}: {said}"))
        .to_owned()
}

#[tokio::test]
async fn a_device_login_at_a_real_provider_is_made_refreshed_kept_and_revoked() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 600, dir.path()).await;
    let mut proxy = provider
        .rig(&root)
        .rule("name: login, host: auth.test, capture: { login: crm, keep: true }")
        .rule("name: api, host: api.test, inject: [{ login: crm }]")
        .serve()
        .await;
    assert_eq!(asked(&proxy, "/api").await.status, StatusCode::UNAUTHORIZED);
    let begun = posts(
        &proxy,
        "/device/auth",
        "client_id=device&scope=openid+offline_access+read",
    )
    .await
    .json();
    let (user, device) = (field(&begun, "user_code"), field(&begun, "device_code"));
    let poll = format!("grant_type={DEVICE}&client_id=device&device_code={device}");
    let waiting = posts(&proxy, "/token", &poll).await;
    assert_eq!(waiting.json()["error"], "authorization_pending", "{}", waiting.text());
    // The code itself is a stand-in too: past Keyferry it buys nothing.
    assert_eq!(direct(&provider, &poll).await["error"], "invalid_grant");
    approve(&provider, &user).await;
    assert_eq!(direct(&provider, &poll).await["error"], "invalid_grant");
    let tokens = posts(&proxy, "/token", &poll).await.json();
    let (access, refresh) = (field(&tokens, "access_token"), field(&tokens, "refresh_token"));
    assert_eq!(shows(&proxy.agent, &access).await.json()["client"], "device");
    let claims = field(&tokens, "id_token");
    assert_eq!(claims.split('.').count(), 3);
    for start in 0..2 {
        // The provider takes each refresh token once, and revokes all when one comes again.
        let form = |refresh: &str| format!("grant_type=refresh_token&client_id=device&refresh_token={refresh}");
        let renewed = posts(&proxy, "/token", &form(&refresh)).await;
        if start == 1 {
            assert_eq!(renewed.json()["error"], "invalid_grant", "{}", renewed.text());
            break;
        }
        let renewed = renewed.json();
        let next = field(&renewed, "refresh_token");
        assert_ne!(next, refresh);
        proxy.child.signal("TERM");
        proxy.child.ended().await;
        proxy = proxy.rig.serve().await;
        let again = posts(&proxy, "/token", &form(&next)).await.json();
        let access = field(&again, "access_token");
        assert_eq!(shows(&proxy.agent, &access).await.status, StatusCode::OK);
        let gone = posts(&proxy, "/token/revocation", &format!("client_id=device&token={access}")).await;
        assert_eq!(gone.status, StatusCode::OK, "{}", gone.text());
        pass(0.1).await;
        assert_eq!(shows(&proxy.agent, &access).await.status, StatusCode::UNAUTHORIZED);
    }
}

/// The same request past Keyferry.
async fn direct(provider: &Provider, form: &str) -> Value {
    let mut http =
        crate::rig::agent::Http::one(tokio::net::TcpStream::connect(provider.server.plain).await.unwrap()).await;
    http.reply(posted(&format!("http://{}/token", provider.server.plain), form))
        .await
        .json()
}
