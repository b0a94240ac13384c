//! Each grant, from a certified authorisation server.

use super::{BASIC, POST, asked, pass, provider, rule};
use crate::rig::root::Root;
use http::StatusCode;

#[tokio::test]
async fn a_client_gets_its_token_whichever_way_it_proves_who_it_is() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 600, dir.path()).await;
    for (client, keys) in [
        ("basic", "client_id: basic, client_secret: basic"),
        ("post", "client_id: post, client_secret: post, client_auth: post"),
        (
            "signed",
            "client_id: signed, private_key: key, key_id: k1, audience: \"https://auth.test\"",
        ),
    ] {
        let rig = match client {
            "basic" => provider.rig(&root).secret("BASIC", BASIC),
            "post" => provider.rig(&root).secret("POST", POST),
            _ => provider.rig(&root).secret("KEY", &provider.key),
        };
        let proxy = rig
            .rule(&rule(&format!("grant: client_credentials, {keys}, scopes: [read]")))
            .serve()
            .await;
        for _ in 0..3 {
            let reply = asked(&proxy, "/api").await;
            assert_eq!(
                reply.status,
                StatusCode::OK,
                "{client}: {}",
                provider.server.running.log()
            );
            let said = reply.json();
            assert_eq!(
                (said["client"].as_str(), said["scope"].as_str()),
                (Some(client), Some("read"))
            );
            // The token was echoed, and did not come through.
            let echo = said["echo"].as_str().unwrap();
            assert!(echo.starts_with("Bearer ***") && echo.len() > 40, "{echo}");
        }
        let record = proxy.records(3).await.pop().unwrap();
        assert_eq!(record["credentials"], serde_json::json!(["api/oauth2"]));
    }
    let granted = provider.server.running.log();
    assert!(!granted.contains("invalid"), "{granted}");
}

#[tokio::test]
async fn one_token_serves_all_who_ask_at_once_and_is_renewed_before_it_ends() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 4, dir.path()).await;
    let proxy = provider
        .rig(&root)
        .secret("BASIC", BASIC)
        .rule(&rule(
            "grant: client_credentials, client_id: basic, client_secret: basic",
        ))
        .serve()
        .await;
    let first = futures_util::future::join_all((0..20).map(|_| asked(&proxy, "/api"))).await;
    for reply in first {
        assert_eq!(reply.json()["granted"], 1, "one asks for all");
    }
    for _ in 0..40 {
        assert_eq!(asked(&proxy, "/api").await.status, StatusCode::OK, "a token had ended");
        pass(0.2).await;
    }
    let granted = asked(&proxy, "/api").await.json()["granted"].as_u64().unwrap();
    assert!((2..=8).contains(&granted), "{granted} tokens for ten seconds");
}

#[tokio::test]
async fn a_refresh_token_that_was_rotated_is_stored_and_used_after_a_restart() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 2, dir.path()).await;
    let rig = provider
        .rig(&root)
        .secret("BASIC", BASIC)
        .secret("REFRESH", &provider.refresh)
        .rule(&rule(
            "grant: refresh_token, client_id: basic, client_secret: basic, refresh_token: refresh",
        ));
    let mut proxy = rig.serve().await;
    for start in 0..3 {
        // The server takes each refresh token once, and revokes all when one comes again.
        for _ in 0..6 {
            let reply = asked(&proxy, "/api").await;
            assert_eq!(
                reply.status,
                StatusCode::OK,
                "start {start}: {}",
                provider.server.running.log()
            );
            assert_eq!(reply.json()["client"], "basic");
            pass(0.5).await;
        }
        proxy.child.signal("TERM");
        proxy.child.ended().await;
        proxy = proxy.rig.serve().await;
    }
    assert!(asked(&proxy, "/api").await.json()["granted"].as_u64().unwrap() > 4);
    let kept = proxy.rig.command(&["secret", "list"]).output().unwrap();
    let kept = String::from_utf8_lossy(&kept.stdout).into_owned();
    assert!(kept.contains("rotated/api/oauth2/"), "{kept}");
}

#[tokio::test]
async fn two_processes_do_not_spend_one_refresh_token_twice() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 2, dir.path()).await;
    let shared = dir.path().join("shared");
    let start = || {
        provider
            .rig(&root)
            .secret("BASIC", BASIC)
            .secret("REFRESH", &provider.refresh)
            .env("XDG_DATA_HOME", shared.to_str().unwrap())
            .rule(&rule(
                "grant: refresh_token, client_id: basic, client_secret: basic, refresh_token: refresh",
            ))
            .serve()
    };
    let (one, other) = (start().await, start().await);
    for _ in 0..8 {
        let (first, second) = tokio::join!(asked(&one, "/api"), asked(&other, "/api"));
        let log = provider.server.running.log();
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200), "{log}");
        pass(0.4).await;
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_is_replaced_and_the_request_sent_once_more() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let provider = provider(&root, 600, dir.path()).await;
    let proxy = provider
        .rig(&root)
        .secret("BASIC", BASIC)
        .rule(&rule(
            "grant: client_credentials, client_id: basic, client_secret: basic",
        ))
        .serve()
        .await;
    assert_eq!(asked(&proxy, "/api/revoke").await.status, StatusCode::OK);
    // A token that has just been fetched is not fetched again: a host that refuses all would have it so without end.
    assert_eq!(asked(&proxy, "/api").await.status, StatusCode::UNAUTHORIZED);
    pass(5.5).await;
    let both = tokio::join!(asked(&proxy, "/api"), asked(&proxy, "/api"));
    for reply in [both.0, both.1] {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(reply.json()["granted"], 2, "one asks for both");
    }
    assert_eq!(proxy.records(4).await.len(), 4, "one record for each exchange");
}
