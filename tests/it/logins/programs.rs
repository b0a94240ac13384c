//! Programs that log in by themselves, at stand-ins for their services under these services' own names.

use super::{ACCESS, REFRESH};
use crate::clients::claude;
use crate::rig::origin::{Answer, AnyBody, Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{routes, tools};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const GITHUB: &str = "gho_Zx8cV2bN5mQ1wE4rT7yU9iO3pA6sD0fGhJ2k";
const DEVICE: &str = "3584d83530557fdd1f46af8289938c8ef79f9dc5";

/// What a stand-in was sent: method and path, its credential, its body.
type Sent = Arc<Mutex<Vec<(String, String, String)>>>;

/// A service that notes what it was sent and answers as `reply` has it.
async fn noting(
    root: &Root,
    name: &str,
    sent: &Sent,
    reply: fn(&str, &str, &str, usize) -> http::Response<AnyBody>,
) -> Origin {
    let sent = Arc::clone(sent);
    let service = move |request: Request<AnyBody>, _: Origin| -> Answer {
        let sent = Arc::clone(&sent);
        Box::pin(async move {
            let asked = format!("{} {}", request.method(), request.uri().path());
            let shown = request.headers().get("authorization");
            let shown = shown.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            let count = {
                let mut sent = sent.lock().unwrap();
                sent.push((asked.clone(), shown.clone(), body.clone()));
                sent.iter().filter(|(before, ..)| *before == asked).count()
            };
            reply(&asked, &shown, &body, count)
        })
    };
    Origin::with(root, name, Speaks::Both, Arc::new(service)).await
}

fn form(text: &str) -> http::Response<AnyBody> {
    routes::bytes(text.to_owned(), "application/x-www-form-urlencoded; charset=utf-8")
}

fn github(asked: &str, shown: &str, body: &str, count: usize) -> http::Response<AnyBody> {
    match asked {
        "POST /login/device/code" => form(&format!(
            "device_code={DEVICE}&expires_in=900&interval=1&user_code=WDJB-MJHT&verification_uri=https%3A%2F%2Fgithub.com%2Flogin%2Fdevice"
        )),
        "POST /login/oauth/access_token" if !body.contains(DEVICE) => form("error=incorrect_device_code"),
        "POST /login/oauth/access_token" if count == 1 => form("error=authorization_pending&interval=1"),
        "POST /login/oauth/access_token" => form(&format!(
            "access_token={GITHUB}&scope=gist%2Cread%3Aorg%2Crepo&token_type=bearer"
        )),
        _ if !shown.ends_with(GITHUB) => routes::empty(StatusCode::UNAUTHORIZED),
        "POST /graphql" => routes::json(&json!({"data": {"viewer": {"login": "octocat"}}})),
        "GET /user" => routes::json(&json!({"login": "octocat", "echo": shown})),
        _ => routes::with(routes::json(&json!({})), "x-oauth-scopes", "gist, read:org, repo"),
    }
}

#[tokio::test]
async fn gh_logs_in_and_asks_with_a_token_it_never_had() {
    let root = Root::new();
    let sent = Sent::default();
    let web = noting(&root, "github.com", &sent, github).await;
    let api = noting(&root, "api.github.com", &sent, github).await;
    let rig = Rig::new(&root).reach(&web).reach(&api).rule("preset: github-login");
    let gh = tools::need("gh");
    let login = "auth login --hostname github.com --git-protocol https --web";
    let script = format!(
        "{gh} {login} && {gh} api user && cat ~/.config/gh/hosts.yml",
        gh = gh.display()
    );
    let ran = rig.run(&["sh", "-c", &script]).await;
    let told = format!("{}\n{}\n{:?}", ran.stdout, ran.stderr, sent.lock().unwrap());
    assert!(ran.status.success(), "{told}");
    assert!(ran.stderr.contains("WDJB-MJHT"), "{told}");
    assert!(
        ran.stdout.contains(r#""login":"octocat""#) && ran.stdout.contains("oauth_token: gho_"),
        "{told}"
    );
    for token in [GITHUB, DEVICE] {
        ran.never_held(token);
    }
    // Another run, with what the first has left: the login is still there.
    let again = rig.run(&[gh.to_str().unwrap(), "api", "user"]).await.ok();
    again.never_held(GITHUB);
    assert!(again.stdout.contains("octocat"));
    let asked = sent
        .lock()
        .unwrap()
        .iter()
        .filter(|(asked, ..)| asked == "GET /user")
        .count();
    assert_eq!(asked, 2, "{told}");
}

const NEWER: &str = "sk-ant-oat01-Hs6gF3dS9aP2oI7uY4tR1eW8qL5kJ0hG-QrStUvWxAA";

fn anthropic(asked: &str, shown: &str, body: &str, _: usize) -> http::Response<AnyBody> {
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    let tokens = |access: &str, refresh: &str| {
        routes::json(&json!({
            "token_type": "Bearer", "access_token": access, "refresh_token": refresh, "expires_in": 28800,
            "scope": "user:inference user:profile",
        }))
    };
    match (asked, said["grant_type"].as_str()) {
        ("POST /v1/oauth/token", Some("authorization_code")) => tokens(ACCESS, REFRESH),
        ("POST /v1/oauth/token", Some("refresh_token")) if said["refresh_token"] == REFRESH => {
            tokens(NEWER, &REFRESH.replace("Zk8w", "Yj7v"))
        }
        _ if shown != format!("Bearer {NEWER}") => routes::empty(StatusCode::UNAUTHORIZED),
        ("POST /v1/messages", _) if said["stream"] == true => claude::sentence("The ferry has landed."),
        _ => routes::empty(StatusCode::NOT_FOUND),
    }
}

#[tokio::test]
async fn claude_code_refreshes_its_login_and_has_a_session_with_tokens_it_never_had() {
    let root = Root::new();
    let sent = Sent::default();
    let auth = noting(&root, "platform.claude.com", &sent, anthropic).await;
    let api = noting(&root, "api.anthropic.com", &sent, anthropic).await;
    let rig = Rig::new(&root)
        .reach(&auth)
        .reach(&api)
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .rule("preset: anthropic-login");
    // As the browser ends: the code is exchanged.
    let code = r#"curl -sS -H 'content-type: application/json' -d '{"grant_type":"authorization_code","code":"x"}' \
        https://platform.claude.com/v1/oauth/token"#;
    let held = rig.run(&["sh", "-c", code]).await.ok().json();
    let home = rig.dir().join("home/.claude");
    std::fs::create_dir_all(&home).unwrap();
    let kept = json!({"claudeAiOauth": {
        "accessToken": held["access_token"], "refreshToken": held["refresh_token"], "expiresAt": 1_700_000_000_000_u64,
        "scopes": ["user:inference", "user:profile"], "subscriptionType": "max",
    }});
    std::fs::write(home.join(".credentials.json"), kept.to_string()).unwrap();
    let program = tools::npm(".bin/claude");
    let ran = rig.run(&[program.to_str().unwrap(), "-p", "say hi"]).await;
    let told = format!("{}\n{}\n{:#?}", ran.stdout, ran.stderr, sent.lock().unwrap());
    assert_eq!(ran.stdout.trim(), "The ferry has landed.", "{told}");
    let after = std::fs::read_to_string(home.join(".credentials.json")).unwrap();
    let renewed: Value = serde_json::from_str(&after).unwrap();
    let renewed = renewed["claudeAiOauth"]["accessToken"].as_str().unwrap().to_owned();
    assert!(
        renewed.starts_with("sk-ant-oat01-") && renewed.len() == NEWER.len(),
        "{after}"
    );
    assert_ne!(held["access_token"], renewed.as_str());
    for token in [ACCESS, REFRESH, NEWER] {
        ran.never_held(&token[13..]);
        assert!(!after.contains(&token[13..40]), "{after}");
    }
}
