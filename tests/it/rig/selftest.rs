//! The rig itself: a fault here would look like one of Keyferry's.

use super::origin::{Origin, Speaks};
use super::root::Root;
use super::{routes, tools};
use std::process::Output;

async fn direct(root: &Root, origin: &Origin, argv: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("root.pem");
    std::fs::write(&pem, root.pem()).unwrap();
    let mut command = tokio::process::Command::new(tools::need(argv[0]));
    command
        .env_clear()
        .env("SSL_CERT_FILE", &pem)
        .env("HOME", dir.path())
        .args(&argv[1..]);
    if argv[0] == "curl" {
        command.args([
            "-sS",
            "--resolve",
            &format!("{}:443:{}", origin.name, origin.address.ip()),
        ]);
        command.args([
            "--connect-to",
            &format!("{}:443:127.0.0.1:{}", origin.name, origin.address.port()),
        ]);
    }
    super::soon("the client", command.output()).await.unwrap()
}

#[tokio::test]
async fn the_origin_speaks_both_protocols_to_a_real_client() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    for (flag, http2) in [("--http1.1", false), ("--http2", true)] {
        let output = direct(
            &root,
            &origin,
            &["curl", flag, "-H", "X-Mark: one", "https://api.test/a%2Fb?c=%20"],
        )
        .await;
        let echo: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&echo["target"], &echo["http2"]),
            (&"/a%2Fb?c=%20".into(), &http2.into())
        );
        assert_eq!(origin.seen().pop().unwrap().all("x-mark"), ["one"]);
    }
    assert_eq!((origin.connections(), origin.seen().len()), (2, 2));
}

#[tokio::test]
async fn the_origin_counts_an_upload_and_says_when_a_client_left() {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Http1).await;
    let output = direct(
        &root,
        &origin,
        &["curl", "--data-binary", "abc", "https://api.test/upload"],
    )
    .await;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["sha256"], routes::sha256(b"abc"));
    assert!(origin.only().whole);
    let output = direct(&root, &origin, &["curl", "--max-time", "0.3", "https://api.test/gated"]).await;
    assert!(!output.status.success());
    origin
        .saw("the exchange cut short", |one| {
            one.target == "/gated" && one.answered == Some(false)
        })
        .await;
}

#[tokio::test]
async fn the_origins_websocket_answers_a_real_client() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let script = "import asyncio,sys,websockets\n\
        async def main():\n\
        \x20async with websockets.connect('wss://api.test/ws',host='127.0.0.1',port=int(sys.argv[1]),proxy=None) as ws:\n\
        \x20 await ws.send('ping'); print(await ws.recv())\n\
        asyncio.run(main())\n";
    let port = origin.address.port().to_string();
    let output = direct(&root, &origin, &["python", "-c", script, &port]).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "ping\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
