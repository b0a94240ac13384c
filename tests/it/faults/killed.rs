//! Keyferry killed in the middle of everything: the next start finds its files whole.

use super::{BEARER, KEY, all_armed, killed, whole};
use crate::fidelity::by;
use crate::rig::agent::{Agent, Raw, get, status};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{PATIENCE, eventually, soon};
use http_body_util::BodyExt;
use std::io::Write;
use tokio::net::UnixStream;

#[tokio::test]
async fn a_killed_proxy_cuts_every_stream_and_starts_again_with_its_ca_and_its_socket() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let socket = rig.dir().join("p.sock");
    let listen = format!("127.0.0.1:0, {{ bind: \"unix:{}\", speak: proxy }}", socket.display());
    let proxy = rig.listen(&listen).serve().await;
    let ca = std::fs::read(&proxy.ca).unwrap();
    let mut bodies = Vec::new();
    for http2 in [false, true] {
        let mut http = by(&proxy.agent, http2).await;
        bodies.push((
            http.send(get("https://api.test/sse?n=3")).await.unwrap().into_body(),
            http,
        ));
    }
    let mut websocket = crate::websocket::open(&proxy.agent, false, "/ws").await.unwrap();

    let proxy = killed(proxy).await;

    for (body, _http) in bodies {
        assert!(
            soon("the cut", body.collect()).await.is_err(),
            "a stream that was cut looked whole"
        );
    }
    let message = soon("the WebSocket's end", futures_util::StreamExt::next(&mut websocket)).await;
    assert!(message.is_none_or(|message| message.is_err()));
    origin
        .saw("the exchange ended upstream too", |one| one.answered == Some(false))
        .await;
    assert_eq!(std::fs::read(&proxy.ca).unwrap(), ca);
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    let mut raw = Raw::new(UnixStream::connect(&socket).await.unwrap());
    raw.say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    assert_eq!(status(&raw.head().await), 200);
    all_armed(&origin);
}

#[tokio::test]
async fn half_a_line_left_by_a_crash_is_taken_away_and_counted() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let proxy = rig.serve().await;
    let audit = proxy.rig.dir().join("audit.jsonl");
    proxy.agent.get("https://api.test/first").await;
    proxy.records(1).await;
    let line = std::fs::read(&audit).unwrap();
    let mut proxy = proxy;
    // What a kill in the middle of a write leaves, at every length that matters.
    for (at, kept) in [1, line.len() / 2, line.len() - 1].into_iter().enumerate() {
        let mut file = std::fs::File::options().append(true).open(&audit).unwrap();
        file.write_all(&line[..kept]).unwrap();
        proxy = killed(proxy).await;
        let found = whole(&audit);
        assert_eq!(found.len(), 1 + 2 * at, "{found:#?}");
        proxy.agent.get(&format!("https://api.test/{at}")).await;
        eventually("both lines", || (whole(&audit).len() == found.len() + 2).then_some(())).await;
        let found = whole(&audit);
        let (last, path) = (&found[found.len() - 2..], format!("/{at}"));
        assert!(last.iter().any(|one| one["path"] == path.as_str()), "{found:#?}");
        assert!(last.iter().any(|one| one["lost"] == 1), "{found:#?}");
    }
}

#[tokio::test]
async fn the_last_line_of_somebody_elses_file_is_left_alone() {
    let root = Root::new();
    let rig = Rig::new(&root).rule("host: a.test");
    let audit = rig.dir().join("audit.jsonl");
    std::fs::write(&audit, "notes of mine\nand a last line").unwrap();
    let proxy = rig.serve().await;
    proxy.agent.connect("denied.test:443").await;
    proxy.records(1).await;
    let text = std::fs::read_to_string(&audit).unwrap();
    assert!(text.starts_with("notes of mine\nand a last line\n{\"time\":"), "{text}");
}

/// Asks until the proxy is gone.
async fn ask(agent: Agent, at: u32) {
    let mut http = by(&agent, at.is_multiple_of(2)).await;
    let url = format!("https://api.test/{at}/{}", "x".repeat(1000));
    let mut answered = async || http.send(get(&url)).await?.into_body().collect().await;
    while answered().await.is_ok() {}
}

#[tokio::test]
async fn killed_under_load_again_and_again_no_line_is_torn_and_the_start_is_clean() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let audit = rig.dir().join("audit.jsonl");
    let mut proxy = rig.serve().await;
    for round in 0..5 {
        let mut asking = tokio::task::JoinSet::new();
        for at in 0..20 {
            let agent = proxy.agent.clone();
            asking.spawn(ask(agent, at));
        }
        let before = std::fs::metadata(&audit).map_or(0, |found| found.len());
        let end = std::time::Instant::now() + PATIENCE;
        while std::fs::metadata(&audit).map_or(0, |found| found.len()) < before + 300_000 {
            assert!(std::time::Instant::now() < end, "no load in round {round}");
            tokio::time::sleep(std::time::Duration::from_millis(7)).await;
        }
        proxy = killed(proxy).await;
        soon("the agents", asking.join_all()).await;
        assert!(whole(&audit).len() > 100 * (round + 1));
    }
    all_armed(&origin);
}
