//! A disk that is really full: records are counted or requests refused, and no file is ever half written.

use super::{BEARER, KEY, all_armed, killed, whole};
use crate::rig::admin::page;
use crate::rig::agent::get;
use crate::rig::disk::Disk;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::running::Running;
use crate::rig::{eventually, soon};
use http::StatusCode;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

/// A rig whose `small` folder is a small disk, with the audit file on it.
async fn small(when_full: &str) -> (Disk, Origin, Rig) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let folder = rig.dir().join("small");
    let disk = Disk::new(&folder, 256);
    let audit = format!(
        "audit: {{ file: {}, when_full: {when_full} }}\nadmin: {{ bind: \"127.0.0.1:0\" }}",
        folder.join("audit.jsonl").display()
    );
    let rig = rig.config(&audit).through(&disk.inside());
    (disk, origin, rig)
}

fn records(disk: &Disk) -> Vec<Value> {
    whole(&disk.file("audit.jsonl"))
}

fn lost(records: &[Value]) -> u64 {
    records.iter().filter_map(|one| one["lost"].as_u64()).sum()
}

/// As many requests, each with an answer.
async fn ask(proxy: &Proxy, count: usize) {
    let mut http = proxy.agent.h1("api.test").await;
    for _ in 0..count {
        let reply = http.reply(get("https://api.test/hello")).await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (StatusCode::OK, "hello"),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_full_disk_under_the_audit_log_stops_nothing_tears_nothing_and_is_told_of() {
    let (disk, origin, rig) = small("count").await;
    let proxy = rig.serve().await;
    ask(&proxy, 3).await;
    disk.fill();
    ask(&proxy, 300).await;
    eventually("word of it", || {
        proxy.child.log().contains("cannot be written").then_some(())
    })
    .await;
    assert!(page(&proxy, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(page(&proxy, "/metrics").await.contains("\nkeyferry_audit_failing 1\n"));
    assert!(records(&disk).len() < 303);
    // A kill now, and a start on the disk that is still full.
    let proxy = killed(proxy).await;
    ask(&proxy, 10).await;
    let before = records(&disk);
    disk.make_room();
    eventually("the records since the start", || {
        (records(&disk).len() >= before.len() + 10).then_some(())
    })
    .await;
    assert_eq!(lost(&records(&disk)), 0, "nothing was lost of what fits the queue");
    assert_eq!(
        proxy.child.log().matches("cannot be written").count(),
        1,
        "{}",
        proxy.child.log()
    );
    all_armed(&origin);
}

#[tokio::test]
async fn a_full_disk_refuses_new_exchanges_where_that_is_asked_for_and_room_ends_it() {
    let (disk, origin, rig) = small("refuse").await;
    let proxy = rig.serve().await;
    disk.fill();
    let mut http = proxy.agent.h1("api.test").await;
    let refused = async |http: &mut crate::rig::agent::Http| http.reply(get("https://api.test/hello")).await;
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    let refusal = loop {
        let reply = refused(&mut http).await;
        if reply.status != StatusCode::OK {
            break reply;
        }
        assert!(std::time::Instant::now() < end, "it is never refused");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((refusal.status.as_u16(), refusal.code()), (503, "audit_unavailable"));
    let seen = origin.seen().len();
    for _ in 0..20 {
        assert_eq!(refused(&mut http).await.code(), "audit_unavailable");
    }
    let (status, head, _) = proxy.agent.connect("api.test:443").await;
    assert_eq!(status, 503, "{head}");
    assert_eq!(origin.seen().len(), seen, "something went out unrecorded");
    assert!(page(&proxy, "/readyz").await.starts_with("HTTP/1.1 503"));
    disk.make_room();
    while refused(&mut http).await.status != StatusCode::OK {
        assert!(std::time::Instant::now() < end, "room does not end it");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Each exchange that reached the host is on record, now that it can be.
    let sent = origin.seen().len();
    let told = |code: &str| records(&disk).iter().filter(|one| one["code"] == code).count();
    eventually("all records", || (told("ok") == sent).then_some(())).await;
    assert!(told("audit_unavailable") >= 22);
    assert_eq!(lost(&records(&disk)), 0);
    all_armed(&origin);
}

#[tokio::test]
async fn two_that_share_a_full_disk_never_cut_each_others_lines() {
    let (disk, _, rig) = small("count").await;
    let first = rig.serve().await;
    let mut second = Running::start(first.rig.command(&["serve"]));
    let address = second.listening().await.unwrap();
    let other = crate::rig::agent::Agent {
        proxy: address,
        ..first.agent.clone()
    };
    let long = "x".repeat(1500);
    let mut sent = 0;
    for round in 0..4 {
        disk.fill();
        // Each in turn finds the disk full in the middle of a line that begins where the other's ended.
        for agent in [&first.agent, &other, &first.agent, &other] {
            let mut http = agent.h1("api.test").await;
            for _ in 0..5 {
                http.reply(get(&format!("https://api.test/{round}/{long}"))).await;
                sent += 1;
            }
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        disk.make_room();
        eventually("all records", || (records(&disk).len() == sent).then_some(())).await;
    }
    second.signal("TERM");
    second.ended().await;
}

#[tokio::test]
async fn a_ca_that_finds_no_room_is_not_made_by_half() {
    let root = Root::new();
    let rig = Rig::new(&root).rule("host: a.test");
    let folder = rig.dir().join("small");
    let disk = Disk::new(&folder, 256);
    let rig = rig
        .config(&format!("ca: {{ dir: {}/ca }}", folder.display()))
        .through(&disk.inside());
    disk.fill();
    let mut child = Running::start(rig.command(&["serve"]));
    assert_eq!(child.ended().await.code(), Some(1), "{}", child.log());
    assert!(
        child.log().contains("No space left") && child.log().contains("ca-key.pem"),
        "{}",
        child.log()
    );
    assert!(
        std::fs::read_dir(disk.file("ca")).is_ok_and(|mut left| left.next().is_none()),
        "half a CA is left"
    );
    disk.make_room();
    let mut child = Running::start(rig.command(&["serve"]));
    child.listening().await.unwrap();
    child.kill().await;
    let [key, shown] = ["ca/ca-key.pem", "ca/ca.pem"].map(|name| std::fs::read_to_string(disk.file(name)).unwrap());
    assert!(key.contains("PRIVATE KEY") && key.ends_with(&shown));
}

#[tokio::test]
async fn a_store_that_finds_no_room_keeps_what_it_had() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret_spec("api_key", "{ store: api_key }")
        .rule(BEARER);
    let folder = rig.dir().join("small");
    let disk = Disk::new(&folder, 256);
    let rig = rig
        .env("XDG_DATA_HOME", folder.to_str().unwrap())
        .through(&disk.inside());
    let set = async |name: &str, value: &str| {
        let mut command = tokio::process::Command::from(rig.command(&["secret", "set", name]));
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child
            .stdin
            .take()
            .unwrap()
            .into_owned_fd()
            .map(std::fs::File::from)
            .unwrap();
        stdin.write_all(value.as_bytes()).unwrap();
        drop(stdin);
        let output = soon("`secret set`", child.wait_with_output()).await.unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (well, told) = set("api_key", KEY).await;
    assert!(well, "{told}");
    let before = (disk.names(), std::fs::read(disk.file("keyferry/secrets.age")).unwrap());
    disk.fill();
    for (name, value) in [("api_key", "sk-live-another-value"), ("other", &*"x".repeat(20_000))] {
        let (well, told) = set(name, value).await;
        assert!(!well && told.contains("No space left"), "{told}");
        assert!(!told.contains(value));
    }
    assert_eq!(std::fs::read(disk.file("keyferry/secrets.age")).unwrap(), before.1);
    let left = std::fs::read_dir(disk.file("keyferry"))
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap());
    assert!(
        left.into_iter().all(|name| name.starts_with("secrets.")),
        "something half written is left"
    );
    disk.make_room();
    let proxy = rig.serve().await;
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    all_armed(&origin);
}
