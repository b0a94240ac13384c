//! The operator's listener, which can tell much, but no secret.

use crate::rig::agent::Raw;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use std::net::SocketAddr;
use tokio::net::TcpStream;

const KEY: &str = "sk-live-0a1b2c3d4e5f";

async fn ask(admin: SocketAddr, path: &str, more: &str) -> (u16, String) {
    let mut raw = Raw::new(TcpStream::connect(admin).await.unwrap());
    raw.say(format!(
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\n{more}Connection: close\r\n\r\n"
    ))
    .await;
    let (answer, _) = raw.rest().await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (crate::rig::agent::status(&answer), answer)
}

#[tokio::test]
async fn health_and_metrics_are_told_and_no_secret() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rule = "name: api, host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }]";
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", KEY)
        .rule(rule)
        .config("admin: { bind: 127.0.0.1:0 }");
    let proxy = rig.serve().await;
    let admin = proxy.admin().await;
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    assert_eq!(proxy.agent.connect("denied.test:443").await.0, 403);
    proxy.records(2).await;

    assert_eq!(ask(admin, "/healthz", "").await.0, 200);
    assert_eq!(ask(admin, "/readyz", "").await.0, 200);
    let (status, metrics) = ask(admin, "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE keyferry_"), "{metrics}");
    assert!(
        metrics.contains("rule=\"api\"") && metrics.contains("denied_by_policy"),
        "{metrics}"
    );
    for (path, _) in [("/metrics", 0), ("/", 0), ("/status", 0), ("/config", 0)] {
        assert!(!ask(admin, path, "").await.1.contains(KEY), "{path} tells the secret");
    }
}
