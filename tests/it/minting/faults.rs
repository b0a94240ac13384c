//! A token endpoint that fails in every way: nothing goes out without a token, and an old one serves its time.

use super::{asked, pass, rule};
use crate::rig::origin::{Origin, Service, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::{Root, Validity};
use crate::rig::{eventually, routes};
use http::StatusCode;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECRET: &str = "client-s3cret-0123456789";
const KEYS: &str = "grant: client_credentials, client_id: me, client_secret: client, timeout: 2s";

/// A token endpoint that does as it is told, and an API.
struct Told {
    how: Arc<Mutex<&'static str>>,
    api: Origin,
    proxy: Proxy,
}

async fn told(how: &'static str) -> Told {
    let root = Root::new();
    let how = Arc::new(Mutex::new(how));
    let say = Arc::clone(&how);
    let service: Service = Arc::new(move |_, origin| {
        let how = *say.lock().unwrap();
        let count = origin.seen().len();
        Box::pin(async move {
            let token = |seconds: i32| json!({"access_token": format!("token-number-{count}"), "expires_in": seconds});
            match how {
                "good" => routes::json(&token(3)),
                "expired" => routes::json(&token(0)),
                "garbage" => routes::text("<html>no token-number-0 here</html>"),
                "empty" => routes::json(&json!({})),
                "long" => routes::bytes(vec![b' '; 300_000], "application/json"),
                "slow" => std::future::pending().await,
                "moved" => {
                    let mut moved = routes::empty(StatusCode::FOUND);
                    moved
                        .headers_mut()
                        .insert("location", "https://api.test/".parse().unwrap());
                    moved
                }
                _ => {
                    let mut refused = routes::json(&json!({"error": SECRET, "error_description": SECRET}));
                    *refused.status_mut() = StatusCode::BAD_REQUEST;
                    refused
                }
            }
        })
    });
    let auth = Origin::with(&root, "auth.test", Speaks::Both, service).await;
    let api = Origin::start(&root, "api.test").await;
    let proxy = Rig::new(&root)
        .reach(&auth)
        .reach(&api)
        .secret("CLIENT", SECRET)
        .rule(&rule(KEYS))
        .serve()
        .await;
    Told { how, api, proxy }
}

#[tokio::test]
async fn without_a_token_nothing_goes_out_and_the_reason_holds_no_value() {
    for (how, reason) in [
        ("expired", "its token has expired already"),
        ("garbage", "its answer holds no token"),
        ("empty", "its answer holds no token"),
        ("long", "sent more than 262144 bytes"),
        ("slow", "did not answer within 2s"),
        ("moved", "its answer holds no token"),
        ("refuses", "it says `an error of its own`"),
    ] {
        let told = told(how).await;
        let reply = asked(&told.proxy, "/").await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "credential_unavailable"),
            "{how}"
        );
        let record = told.proxy.record().await;
        let all = format!("{record}{}{}", reply.text(), told.proxy.child.log());
        assert!(all.contains(reason), "{how}: {all}");
        assert!(!all.contains(SECRET) && !all.contains("token-number"), "{all}");
        assert_eq!(told.api.connections(), 0, "{how}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_or_not_itself_gets_no_secret() {
    let root = Root::new();
    for (name, validity, reason) in [
        ("other.test", Validity::Now, "certificate"),
        ("auth.test", Validity::Now, "cannot connect"),
    ] {
        let api = Origin::start(&root, "api.test").await;
        let auth = Origin::with_tls(
            ([127, 0, 0, 1], 0).into(),
            root.server(&[name], validity, &["http/1.1"]),
        )
        .await;
        let address = match reason {
            "certificate" => auth.address,
            _ => crate::signing::servers::free().await,
        };
        let proxy = Rig::new(&root)
            .reach_as("auth.test", address)
            .reach(&api)
            .secret("CLIENT", SECRET)
            .rule(&rule(KEYS))
            .serve()
            .await;
        let reply = asked(&proxy, "/").await;
        assert_eq!(reply.code(), "credential_unavailable");
        let record = proxy.record().await.to_string();
        assert!(record.contains(reason), "{record}");
        assert!(auth.seen().is_empty() && api.connections() == 0);
    }
}

#[tokio::test]
async fn an_address_that_agents_may_not_reach_is_none_for_tokens_either() {
    let root = Root::new();
    let (auth, api) = (
        Origin::start(&root, "auth.test").await,
        Origin::start(&root, "api.test").await,
    );
    let proxy = Rig::new(&root)
        .reach(&auth)
        .reach(&api)
        .allow_networks("10.99.0.0/16")
        .secret("CLIENT", SECRET)
        .rule(&rule(KEYS))
        .serve()
        .await;
    assert_eq!(asked(&proxy, "/").await.code(), "credential_unavailable");
    assert!(proxy.record().await.to_string().contains("upstream.allow_networks"));
    assert_eq!(auth.connections(), 0);
}

#[tokio::test]
async fn a_token_serves_its_time_while_the_endpoint_is_down_and_then_nothing_goes_out() {
    let told = told("good").await;
    assert_eq!(asked(&told.proxy, "/").await.status, StatusCode::OK);
    *told.how.lock().unwrap() = "refuses";
    let mut served = 0;
    let end = tokio::time::Instant::now() + crate::rig::PATIENCE;
    while asked(&told.proxy, "/").await.status == StatusCode::OK {
        served += 1;
        assert!(tokio::time::Instant::now() < end, "a token outlives its time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(served > 5, "only {served} were served");
    let seen = told.api.seen();
    assert!(
        seen.iter()
            .all(|one| one.all("authorization") == ["Bearer token-number-1"]),
        "{seen:?}"
    );
    *told.how.lock().unwrap() = "good";
    // It is left alone for a while after it failed.
    for _ in 0..100 {
        if asked(&told.proxy, "/").await.status == StatusCode::OK {
            break;
        }
        pass(0.2).await;
    }
    let last = eventually("a new token", || told.api.seen().pop()).await;
    assert_ne!(last.all("authorization"), ["Bearer token-number-1"]);
}

#[tokio::test]
async fn mistakes_in_how_a_token_is_made_are_told_where_they_stand() {
    for (keys, said) in [
        ("grant: implicit", "is no grant that is known here"),
        ("grant: refresh_token, client_id: me", "needs `refresh_token`"),
        ("grant: client_credentials, client_secret: client", "needs `client_id`"),
        (
            "grant: client_credentials, refresh_token: client",
            "goes with `grant: refresh_token`",
        ),
        ("grant: jwt_bearer, private_key: client", "needs `issuer`"),
        (
            "grant: client_credentials, client_id: me, client_secret: client, private_key: client",
            "by `client_secret` or by `private_key`",
        ),
        (
            "grant: client_credentials, client_id: me, client_secret: clint",
            "did you mean `client`",
        ),
        (
            "grant: client_credentials, client_auth: digest",
            "expected `basic` or `post`",
        ),
    ] {
        let rig = Rig::new(&Root::new()).secret("CLIENT", SECRET).rule(&rule(keys));
        mistaken(&rig, said);
    }
    let rig = || Rig::new(&Root::new()).secret("CLIENT", SECRET);
    let made = "{ oauth2: { grant: client_credentials, token_url: \"https://a.test/\", client_id: me, client_secret: circle } }";
    mistaken(&rig().secret_spec("circle", made), "is made with itself");
    let clear = "host: api.test, inject: [{ oauth2: { grant: client_credentials, token_url: \"http://a.test/\" } }]";
    mistaken(&rig().rule(clear), "it is not https");
    let both = "host: api.test, inject: [{ jwt: { private_key: client } }, { header: x-key, value: \"${client}\" }]";
    mistaken(&rig().rule(both), "a rule sends it");
    mistaken(
        &rig().rule("host: api.test, inject: [{ gcp: { key: client } }]"),
        "`gcp` wants `scopes`",
    );
}

pub fn mistaken(rig: &Rig, said: &str) {
    let output = rig.command(&["check"]).output().unwrap();
    let all = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{said}: {all}");
    assert!(all.contains(said), "{said}: {all}");
}
