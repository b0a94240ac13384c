//! Signals: a stop in the middle of every kind of stream, storms of reloads, a second start beside the first.

use super::{BEARER, KEY, all_armed, whole};
use crate::fidelity::by;
use crate::rig::agent::{Agent, get};
use crate::rig::origin::{AnyBody, Origin};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::running::Running;
use crate::rig::{eventually, soon};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

/// A body that begins and never ends.
fn endless() -> AnyBody {
    let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"a piece"))) });
    StreamBody::new(first.chain(futures_util::stream::pending())).boxed_unsync()
}

async fn before(root: &Root, more: &str) -> (Origin, Proxy) {
    let origin = Origin::start(root, "api.test").await;
    let rig = Rig::new(root).reach(&origin).secret("API_KEY", KEY).config(more);
    let rig = rig.reach_as("pinned.test", origin.address).rule(BEARER);
    (origin, rig.rule("host: pinned.test, tunnel: true").serve().await)
}

#[tokio::test]
async fn a_stop_in_the_middle_of_every_kind_of_stream_cuts_each_with_a_record() {
    let root = Root::new();
    let (origin, mut proxy) = before(&root, "limits: { drain_time: 500ms }").await;
    let agent = &proxy.agent;
    // Connections on which nothing is asked: at each step of their beginning.
    let _silent = agent.dial().await;
    let mut half = agent.dial().await;
    half.say("CONNECT api.test:443 HT").await;
    let (_, _, _unused) = agent.connect("api.test:443").await;
    let (_, _, mut greeting) = agent.connect("api.test:443").await;
    greeting.say([0x16, 3, 1, 0, 200, 1]).await;
    let mut cut = Vec::new();
    let mut open = Vec::new();
    for http2 in [false, true] {
        for path in ["/sse?n=3", "/gated?n=3"] {
            let mut http = by(agent, http2).await;
            let body = http
                .send(get(&format!("https://api.test{path}")))
                .await
                .unwrap()
                .into_body();
            cut.push(tokio::spawn(async move { body.collect().await.is_err() }));
            open.push(http);
        }
        for path in ["/never", "/upload"] {
            let mut http = by(agent, http2).await;
            let ask = Request::post(format!("https://api.test{path}"))
                .body(endless())
                .unwrap();
            cut.push(tokio::spawn(async move { http.send(ask).await.is_err() }));
        }
        let mut websocket = crate::websocket::open(agent, http2, "/ws").await.unwrap();
        cut.push(tokio::spawn(async move {
            websocket.next().await.is_none_or(|message| message.is_err())
        }));
    }
    let trusting = Agent::new(proxy.address, &root.pem());
    let (status, _, mut tunnel) = trusting.connect("pinned.test:443").await;
    assert_eq!(status, 200);
    eventually("all to have begun", || (origin.seen().len() == 10).then_some(())).await;

    proxy.child.signal("TERM");

    assert!(proxy.child.ended().await.success(), "{}", proxy.child.log());
    for (at, cut) in cut.into_iter().enumerate() {
        assert!(soon("the cut", cut).await.unwrap(), "stream {at} looked whole");
    }
    tunnel.rest().await;
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for record in whole(&proxy.rig.dir().join("audit.jsonl")) {
        *codes.entry(record["code"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    // Ten requests and the tunnel; and two granted CONNECTs that nothing came through.
    let stopped = codes.remove("stopped");
    assert_eq!(stopped, Some(11), "and {codes:?}");
    assert!(codes.values().sum::<usize>() <= 2, "{codes:?}");
    all_armed(&origin);
}

/// Nothing was wrong. A user has 128 inotify instances (inotify(7)), those of other tests included: without one, files
/// are looked at, and that is told.
fn warned_of_nothing(log: &str) {
    let inotify = |line: &str| line.contains("only seen by looking now and then");
    assert!(
        !log.lines().any(|line| line.contains("WARN") && !inotify(line)),
        "{log}"
    );
}

#[tokio::test]
async fn a_storm_of_reloads_loses_no_request_and_leaves_nothing_behind() {
    let root = Root::new();
    let rig = Rig::new(&root);
    let file = rig.dir().join("file-key");
    std::fs::write(&file, KEY).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = rig
        .reach(&origin)
        .secret_spec("api_key", &format!("{{ file: {} }}", file.display()))
        .rule(BEARER)
        .config("admin: { bind: \"127.0.0.1:0\" }")
        .serve()
        .await;
    let before = open_files(&proxy).await;
    let asking: Vec<_> = (0..4)
        .map(|at| {
            let agent = proxy.agent.clone();
            tokio::spawn(async move {
                let mut http = by(&agent, at % 2 == 0).await;
                for _ in 0..200 {
                    let reply = http.reply(get("https://api.test/hello")).await;
                    assert_eq!(
                        (reply.status, reply.text().as_str()),
                        (StatusCode::OK, "hello"),
                        "{}",
                        reply.text()
                    );
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    let busy = || asking.iter().any(|one| !one.is_finished());
    let mut sent = 0;
    while busy() {
        proxy.child.signal("HUP");
        sent += 1;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for one in asking {
        one.await.unwrap();
    }
    assert!(sent > 300, "{sent} signals are no storm");
    assert!(proxy.child.log().matches("the config was reloaded").count() > 50);
    warned_of_nothing(&proxy.child.log());
    eventually("the records", || (proxy.rig.audit().len() == 800).then_some(())).await;
    all_armed(&origin);
    // What the last configuration has, and none of those before.
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while open_files(&proxy).await > before + 12 {
        assert!(
            std::time::Instant::now() < end,
            "{} files are open",
            open_files(&proxy).await
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn open_files(proxy: &Proxy) -> i64 {
    crate::rig::admin::metric(proxy, "process_open_fds").await
}

#[tokio::test]
async fn a_stop_is_heeded_in_a_storm_of_reloads() {
    let root = Root::new();
    let (_, mut proxy) = before(&root, "").await;
    for _ in 0..50 {
        proxy.child.signal("HUP");
    }
    proxy.child.signal("TERM");
    for _ in 0..50 {
        proxy.child.signal("HUP");
    }
    assert!(proxy.child.ended().await.success(), "{}", proxy.child.log());
}

#[tokio::test]
async fn a_second_start_on_the_same_sockets_fails_and_leaves_the_first_alone() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).rule("host: api.test");
    let socket = rig.dir().join("p.sock");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let first = rig
        .listen(&format!("\"{free}\", \"unix:{}\"", socket.display()))
        .serve()
        .await;
    let mut second = Running::start(first.rig.command(&["serve"]));
    assert_eq!(second.ended().await.code(), Some(1));
    assert!(second.log().contains("in use"), "{}", second.log());
    // By its unix socket alone too.
    let by_socket = first.rig.yaml().replace(&free.to_string(), "127.0.0.1:0");
    let file = first.rig.dir().join("second.yaml");
    std::fs::write(&file, by_socket).unwrap();
    let mut command = first.rig.command(&["serve"]);
    command.arg("--config").arg(&file);
    let mut third = Running::start(command);
    third.ended().await;
    assert!(socket.exists());
    assert_eq!(first.agent.get("https://api.test/hello").await.text(), "hello");
}

#[tokio::test]
async fn of_many_that_start_at_once_on_a_stale_socket_one_serves_and_the_others_say_so() {
    let root = Root::new();
    let rig = Rig::new(&root).rule("host: api.test");
    let socket = rig.dir().join("p.sock");
    let rig = rig.listen(&format!("\"unix:{}\"", socket.display()));
    for round in 0..5 {
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        // Each writes the config, so all of them before the first start.
        let commands: Vec<_> = (0..8).map(|_| rig.command(&["serve"])).collect();
        let mut all: Vec<_> = commands.into_iter().map(Running::start).collect();
        for one in &all {
            let said = || ["in use", "listening on"].iter().any(|word| one.log().contains(word));
            eventually("a word from each", || said().then_some(())).await;
        }
        let mut serving: Vec<_> = all
            .iter_mut()
            .filter(|one| one.log().contains("listening on"))
            .collect();
        assert_eq!(serving.len(), 1, "in round {round}");
        assert!(
            std::os::unix::net::UnixStream::connect(&socket).is_ok(),
            "nobody is behind the socket in round {round}"
        );
        serving[0].signal("TERM");
        serving[0].ended().await;
        assert!(!socket.exists());
    }
}
