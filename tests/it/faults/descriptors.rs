//! No file descriptor left: connections wait, what cannot be dialled is refused with a word that says why, and all of
//! it ends by itself.

use super::{BEARER, KEY, all_armed, whole};
use crate::rig::agent::{Http, get};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::soon;
use http::StatusCode;
use std::time::Duration;
use tokio::net::TcpStream;

/// A proxy that may open so many files, before an origin that has a connection for each request under way.
async fn short_of(files: u32) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Http1).await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    (origin, rig.through(&limit(files)).serve().await)
}

/// The words that start a command which may open so many files.
fn limit(files: u32) -> [String; 3] {
    let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    ["/bin/sh".to_owned(), "-c".to_owned(), script]
}

/// Streams on one connection, each of which costs the proxy a connection to the origin; and how many were refused.
async fn use_up(proxy: &Proxy) -> (Http, Vec<http::Response<hyper::body::Incoming>>, usize) {
    let mut http = proxy.agent.h2("api.test").await;
    let (mut held, mut refused) = (Vec::new(), 0);
    while refused < 3 {
        let response = http.send(get("https://api.test/gated?n=1")).await.unwrap();
        if response.status() == StatusCode::OK {
            held.push(response);
            assert!(held.len() < 200, "descriptors never run out");
            continue;
        }
        let reply = crate::rig::agent::Reply::read(response).await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (503, "proxy_exhausted"),
            "{}",
            reply.text()
        );
        assert_eq!(reply.header("retry-after"), "1");
        refused += 1;
    }
    (http, held, refused)
}

#[tokio::test]
async fn without_descriptors_requests_are_refused_connections_wait_and_all_is_well_afterwards() {
    let (origin, proxy) = short_of(80).await;
    let (http, held, refused) = use_up(&proxy).await;
    // These wait: nobody turns them away.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let agent = proxy.agent.clone();
            tokio::spawn(async move {
                let mut raw = agent.dial().await;
                raw.say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
                    .await;
                raw.head().await
            })
        })
        .collect();
    // A while, in which a loop that complains would complain often.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(waiting.iter().any(|one| !one.is_finished()), "nobody had to wait");
    assert_eq!(
        proxy.child.log().matches("cannot accept").count(),
        1,
        "{}",
        proxy.child.log()
    );
    let stands = held.len();
    origin.gate.add_permits(stands);
    for response in held {
        assert_eq!(crate::rig::agent::Reply::read(response).await.unwrap().text(), "0;");
    }
    drop(http);
    for one in waiting {
        let head = soon("those that waited", one).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    let reply = proxy.agent.get("https://api.test/hello").await;
    assert_eq!(reply.text(), "hello");
    let records = whole(&proxy.rig.dir().join("audit.jsonl"));
    let count = |code: &str| records.iter().filter(|one| one["code"] == code).count();
    assert!(
        count("proxy_exhausted") == refused && count("ok") >= stands,
        "{records:#?}"
    );
    all_armed(&origin);
}

#[tokio::test]
async fn connections_alone_never_take_the_descriptors_that_requests_need() {
    let (origin, proxy) = short_of(80).await;
    // More than may be open, of an agent that says nothing.
    let mut silent = Vec::new();
    for _ in 0..120 {
        silent.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let log = proxy.child.log();
    assert!(!log.contains("cannot accept"), "{log}");
    assert!(
        log.contains("limits.connections"),
        "the smaller number is not told of: {log}"
    );
    silent.clear();
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    all_armed(&origin);
}

#[tokio::test]
async fn a_reload_and_a_turned_over_audit_log_survive_a_want_of_descriptors() {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Http1).await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let audit = rig.dir().join("audit.jsonl");
    // Nearly full, so that it is turned over soon.
    let old = "{\"time\":\"2026-01-01T00:00:00.000Z\",\"lost\":1}\n".repeat(23_080);
    std::fs::write(&audit, &old).unwrap();
    let proxy = rig
        .config(&format!(
            "audit: {{ file: {}, rotate: 1MiB, keep: 100 }}",
            audit.display()
        ))
        .through(&limit(80))
        .serve()
        .await;
    let mut kept = proxy.agent.h1("api.test").await;
    kept.reply(get("https://api.test/hello")).await;
    let (_http, held, refused) = use_up(&proxy).await;
    proxy.child.signal("HUP");
    // Through the connections that are there requests go on, and their records are written.
    for _ in 0..50 {
        assert_eq!(
            kept.reply(get("https://api.test/hello")).await.code(),
            "proxy_exhausted"
        );
    }
    let stands = held.len();
    origin.gate.add_permits(stands);
    for response in held {
        crate::rig::agent::Reply::read(response).await.unwrap();
    }
    assert_eq!(kept.reply(get("https://api.test/hello")).await.text(), "hello");
    let all = || {
        let entries = std::fs::read_dir(audit.parent().unwrap()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let logs = paths.filter(|path| path.to_str().unwrap().contains("audit.jsonl"));
        logs.map(|path| whole(&path).len()).sum::<usize>()
    };
    crate::rig::eventually("every record", || {
        (all() == 23_080 + stands + refused + 52).then_some(())
    })
    .await;
    all_armed(&origin);
}
