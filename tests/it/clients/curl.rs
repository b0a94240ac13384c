//! curl.

use super::{REAL, api, credential_once};
use crate::rig::origin::Origin;
use crate::rig::root::Root;
use crate::rig::routes;

#[tokio::test]
async fn curl_gets_its_answer_over_http_1_and_2() {
    let (origin, rig) = api().await;
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let ran = rig
            .run(&[
                "curl",
                "-sS",
                "-w",
                "%{stderr}version=%{http_version};",
                flag,
                "https://api.test/v1/x?y=1",
            ])
            .await
            .ok();
        assert_eq!(ran.json()["target"], "/v1/x?y=1");
        assert!(ran.stderr.contains(&format!("version={version};")), "{}", ran.stderr);
        credential_once(&origin.seen().pop().unwrap(), &ran, "x-api-key", REAL);
    }
}

#[tokio::test]
async fn what_curl_sends_in_the_injected_place_is_replaced() {
    let (origin, rig) = api().await;
    let headers = [
        "-H",
        "X-Api-Key: mine",
        "-H",
        "x-api-key: mine-too",
        "-H",
        "X-Other: kept",
    ];
    let argv = [&["curl", "-sS", "https://api.test/"][..], &headers].concat();
    let ran = rig.run(&argv).await.ok();
    let seen = origin.only();
    credential_once(&seen, &ran, "x-api-key", REAL);
    assert_eq!(seen.all("x-other"), ["kept"]);
}

#[tokio::test]
async fn the_placeholder_curl_holds_becomes_the_credential_where_the_rule_says() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = crate::rig::proxy::Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", REAL)
        .rule("host: api.test, inject: [{ placeholder: api_key, in: [\"header:authorization\"] }]");
    let script = "curl -sS -H \"Authorization: Bearer $API_KEY\" https://api.test/";
    let ran = rig.run(&["/bin/sh", "-c", script]).await.ok();
    let held = &ran.env["API_KEY"];
    assert!(
        held.starts_with("sk-") && held.len() == REAL.len() && held != REAL,
        "{held}"
    );
    credential_once(&origin.only(), &ran, "authorization", &format!("Bearer {REAL}"));
}

#[tokio::test]
async fn a_placeholder_in_any_other_place_never_leaves() {
    let (origin, rig) = api().await;
    let ran = rig
        .run(&[
            "/bin/sh",
            "-c",
            "curl -sS -o body -w '%{http_code}' \"https://api.test/?k=$API_KEY\"",
        ])
        .await
        .ok();
    assert_eq!(ran.stdout, "403");
    assert_eq!(origin.seen().len(), 0);
    let body: serde_json::Value = serde_json::from_slice(&std::fs::read(rig.dir().join("body")).unwrap()).unwrap();
    assert!(body["hint"].is_string() && body["error"].is_string(), "{body}");
}

#[tokio::test]
async fn curl_uploads_a_large_file_whole_over_http_1_and_2() {
    let (origin, rig) = api().await;
    let file = rig.dir().join("big");
    let content: Vec<u8> = routes::PIECE
        .iter()
        .copied()
        .cycle()
        .take(48 * 1024 * 1024 + 7)
        .collect();
    std::fs::write(&file, &content).unwrap();
    let digest = routes::sha256(&content);
    for flag in ["--http1.1", "--http2"] {
        let ran = rig
            .run(&[
                "curl",
                "-sS",
                flag,
                "-T",
                file.to_str().unwrap(),
                "https://api.test/upload",
            ])
            .await
            .ok();
        assert_eq!(ran.json()["sha256"], digest);
        let seen = origin.seen().pop().unwrap();
        assert_eq!((seen.body_bytes, seen.whole), (content.len() as u64, true));
        credential_once(&seen, &ran, "x-api-key", REAL);
    }
}

#[tokio::test]
async fn a_host_without_a_rule_gives_curl_a_reason_and_the_host_no_connection() {
    let root = Root::new();
    let other = Origin::start(&root, "other.test").await;
    let rig = crate::rig::proxy::Rig::new(&root).reach(&other);
    let ran = rig.run(&["curl", "-sS", "-v", "https://other.test/"]).await;
    assert!(!ran.status.success());
    assert!(ran.stderr.contains("HTTP/1.1 403"), "{}", ran.stderr);
    assert!(
        ran.stderr.to_lowercase().contains("x-keyferry-error: denied"),
        "{}",
        ran.stderr
    );
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn curl_may_use_a_plain_http_origin_through_the_proxy() {
    let root = Root::new();
    let origin = Origin::plain("plain.test").await;
    let rig = crate::rig::proxy::Rig::new(&root)
        .reach(&origin)
        .rule("host: plain.test");
    let ran = rig.run(&["curl", "-sS", "http://plain.test/a%2Fb?q"]).await.ok();
    assert_eq!(
        (&ran.json()["target"], &ran.json()["authority"]),
        (&"/a%2Fb?q".into(), &"plain.test".into())
    );
    assert_eq!(origin.only().all("proxy-connection"), [""; 0]);
}
