//! What the operator is told of an exchange, and what happens when it cannot be written down.

use crate::fidelity::by;
use crate::rig::agent::{get, request};
use crate::rig::eventually;
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use http::{Method, StatusCode};
use serde_json::json;

const KEY: &str = "sk-live-0a1b2c3d4e5f";

#[tokio::test]
async fn a_record_tells_who_asked_what_came_of_it_and_where_the_time_went() {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Http2).await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", KEY)
        .rule("name: api, host: api.test, inject: [{ bearer: api_key }]")
        .serve()
        .await;
    let ask = || request(Method::POST, "https://api.test/slow?ms=50&token=mine", "four");
    let mut http = by(&proxy.agent, false).await;
    assert_eq!(http.reply(ask()).await.text(), "slow");
    assert_eq!(http.reply(ask()).await.text(), "slow");
    let records = proxy.records(2).await;
    for record in &records {
        let mut told = record.as_object().unwrap().clone();
        let mut take = |name: &str| told.remove(name).unwrap_or_else(|| panic!("no {name}: {record:#}"));
        let time = take("time").as_str().unwrap().to_owned();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert!(!take("request_id").as_str().unwrap().is_empty());
        assert!(take("peer").as_str().unwrap().starts_with("127.0.0.1:"));
        let ms = take("ms");
        let spent = |name: &str| ms[name].as_f64();
        let (first, total) = (spent("first_byte").unwrap(), spent("total").unwrap());
        assert!((50.0..30_000.0).contains(&first) && first <= total, "{ms}");
        assert_eq!(
            serde_json::Value::from(told),
            json!({
                "agent": "default", "way": "proxy", "target": "api.test:443", "mode": "intercept", "scheme": "https",
                "method": "POST", "path": "/slow?ms=***&token=***", "protocol_in": "h1", "protocol_out": "h2",
                "rule": "api", "credentials": ["api_key"], "status": 200, "outcome": "ok", "code": "ok",
                "bytes_in": 4, "bytes_out": 4, "scrubbed": 0,
            })
        );
    }
    assert_ne!(records[0]["request_id"], records[1]["request_id"]);
    // Only the first of the two had a connection to make.
    for name in ["dns", "connect", "tls"] {
        let spent = |at: usize| records[at]["ms"][name].as_f64();
        assert!(spent(0).is_some() && spent(1).is_none(), "{name}: {records:#?}");
    }
}

/// A proxy whose records go to a disk that is full, and the number of requests until `status` came.
async fn on_a_full_disk(when_full: &str) -> Proxy {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).rule("host: api.test");
    let path = rig.dir().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let audit = format!("audit: {{ file: {}, when_full: {when_full} }}", path.display());
    rig.config(&audit).serve().await
}

/// Makes room, and says so as a program that turns logs over does.
fn room(proxy: &Proxy) {
    std::fs::remove_file(proxy.rig.dir().join("audit.jsonl")).unwrap();
    proxy.child.signal("HUP");
}

#[tokio::test]
async fn a_full_disk_lets_requests_pass_and_tells_how_many_records_it_took() {
    let mut proxy = on_a_full_disk("count").await;
    for _ in 0..20 {
        assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    }
    eventually("word of it in the log", || {
        proxy.child.log().contains("audit").then_some(())
    })
    .await;
    room(&proxy);
    let all = |proxy: &Proxy| {
        let lines = proxy.rig.audit();
        let lost: u64 = lines.iter().filter_map(|line| line["lost"].as_u64()).sum();
        lost + lines.iter().filter(|line| line["request_id"].is_string()).count() as u64
    };
    eventually("20 records, written or counted", || (all(&proxy) == 20).then_some(())).await;
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success());
}

#[tokio::test]
async fn a_full_disk_refuses_requests_if_that_is_asked_for_until_there_is_room() {
    let proxy = on_a_full_disk("refuse").await;
    let mut http = by(&proxy.agent, false).await;
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        let reply = http.reply(get("https://api.test/hello")).await;
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(reply.code(), "audit_unavailable");
            break;
        }
        assert!(std::time::Instant::now() < end, "requests went on without a record");
    }
    room(&proxy);
    while http.reply(get("https://api.test/hello")).await.status != StatusCode::OK {
        assert!(
            std::time::Instant::now() < end,
            "it never went on: {}",
            proxy.child.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
