//! A resolver that fails or says nothing: what needs no name goes on, what needs one is refused in time, and a stop is
//! not held up.

use super::{BEARER, KEY, all_armed, whole};
use crate::rig::agent::{Reply, get, status};
use crate::rig::names::{Names, Says};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{PATIENCE, eventually, soon};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_resolver_that_fails_refuses_what_needs_it_alone_and_is_asked_again() {
    let root = Root::new();
    let [named, fixed] = [
        Origin::start(&root, "named.test").await,
        Origin::start(&root, "fixed.test").await,
    ];
    let names = Names::start(Says::Loopback).await;
    let rig = Rig::new(&root).reach(&fixed).secret("API_KEY", KEY);
    let port = named.address.port();
    let rig = rig
        .rule(&format!("host: \"named.test:{port}\", inject: [{{ bearer: api_key }}]"))
        .rule("host: fixed.test");
    let words = names.asked_by(rig.dir(), "timeout:1 attempts:1");
    let proxy = rig.config("limits: { connect_time: 3s }").through(&words).serve().await;
    let url = format!("https://named.test:{port}/hello");
    let ask = async || -> Reply { proxy.agent.get(&url).await };
    let mut expected = Vec::new();
    for (says, name) in [
        (Says::Code(2), "fails"),
        (Says::Code(3), "knows no such name"),
        (Says::Code(5), "refuses"),
        (Says::Code(0), "knows no address"),
        (Says::Garbage, "talks garbage"),
        (Says::Nothing, "says nothing"),
    ] {
        names.says(says);
        let reply = ask().await;
        let codes = ["upstream_unresolved", "upstream_timeout"];
        assert!(
            codes.contains(&reply.code()),
            "the resolver {name}: {} {}",
            reply.status,
            reply.text()
        );
        expected.push(reply.code().to_owned());
        assert_eq!(
            proxy.agent.get("https://fixed.test/hello").await.text(),
            "hello",
            "the resolver {name}"
        );
        names.says(Says::Loopback);
        assert_eq!(ask().await.text(), "hello", "after the resolver {name}");
        // The next question is asked anew: no connection is kept that would need none.
        proxy.child.signal("HUP");
        let reloads = expected.len();
        eventually("the reload", || {
            (proxy.child.log().matches("the config was reloaded").count() == reloads).then_some(())
        })
        .await;
    }
    let told: Vec<_> = proxy.records(18).await;
    let failed = told.iter().filter(|one| one["outcome"] == "failed");
    assert_eq!(
        failed.map(|one| one["code"].as_str().unwrap()).collect::<Vec<_>>(),
        expected
    );
    all_armed(&named);
}

#[tokio::test]
async fn a_flood_of_names_that_nobody_answers_for_holds_up_neither_secrets_nor_other_hosts_nor_a_stop() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let names = Names::start(Says::Loopback).await;
    let rig = Rig::new(&root).reach(&origin);
    let file = rig.dir().join("key");
    std::fs::write(&file, "sk-live-the-first-value").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rig = rig
        .secret_spec("api_key", &format!("{{ file: {} }}", file.display()))
        .rule(BEARER)
        .rule("host: \"*.slow.test\", tunnel: true")
        .config("limits: { connect_time: 2s }");
    // Ten minutes for each name: nobody waits so long, and a thread would.
    let words = names.asked_by(rig.dir(), "timeout:30 attempts:5");
    let mut proxy = rig.through(&words).serve().await;
    let flood: Vec<_> = (0..700)
        .map(|at| {
            let agent = proxy.agent.clone();
            tokio::spawn(async move {
                let mut raw = agent.dial().await;
                let target = format!("n{at}.slow.test:443");
                raw.say(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"))
                    .await;
                status(&raw.head().await)
            })
        })
        .collect();
    for one in flood {
        assert_eq!(soon("an answer", one).await.unwrap(), 504);
    }
    // Now every thread that asks is still waiting. A new value is read from its file all the same.
    std::fs::write(&file, KEY).unwrap();
    let mut http = proxy.agent.h1("api.test").await;
    let end = Instant::now() + PATIENCE;
    loop {
        assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
        if origin.seen().pop().unwrap().all("authorization") == [format!("Bearer {KEY}")] {
            break;
        }
        assert!(Instant::now() < end, "a new value is not taken up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(http);
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success(), "{}", proxy.child.log());
    let records = whole(&proxy.rig.dir().join("audit.jsonl"));
    let late = records.iter().filter(|one| one["code"] == "upstream_timeout");
    assert_eq!(late.count(), 700);
    assert_eq!(records.len(), 700 + origin.seen().len());
}
