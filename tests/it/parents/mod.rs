//! Parent proxies: every path through Squid, tinyproxy and microsocks, and what happens when one will not.

mod guard;
mod page;
mod refusals;
mod servers;

use crate::rig::agent::{Agent, Raw, content_length, get, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::script::Script;
use crate::rig::{eventually, soon};
use futures_util::{SinkExt, StreamExt};
use servers::{Kind, LOGIN, Parent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECRET: &str = "sk-live-0a1b2c3d4e5f";

/// A proxy whose way out is `parent`, with a host for each kind of path.
struct Before {
    root: Root,
    proxy: Proxy,
    api: Origin,
    old: Origin,
    pinned: Origin,
    plain: Origin,
}

async fn before(parent: &str, login: Option<&str>, root: Root) -> Before {
    let api = Origin::start(&root, "api.test").await;
    let old = Origin::speaking(&root, "old.test", Speaks::Http1).await;
    let pinned = Origin::speaking(&root, "pinned.test", Speaks::Both).await;
    let plain = Origin::plain("plain.test").await;
    let mut rig = Rig::new(&root)
        .reach(&api)
        .reach(&old)
        .reach(&pinned)
        .reach(&plain)
        .secret("API_KEY", SECRET)
        .rule("host: api.test, inject: [{ bearer: api_key }]")
        .rule("host: old.test, inject: [{ bearer: api_key }]")
        .rule("host: pinned.test, tunnel: true")
        .rule("host: plain.test")
        .upstream(&format!("parent: \"{parent}\""))
        .config("limits: { connect_time: 10s }");
    if let Some(login) = login {
        rig = rig.secret("PARENT", login).upstream("parent_auth: parent");
    }
    Before {
        proxy: rig.serve().await,
        root,
        api,
        old,
        pinned,
        plain,
    }
}

impl Before {
    async fn every_path(&self, what: Kind) {
        let (proxy, agent) = (&self.proxy, &self.proxy.agent);
        assert_eq!(agent.get("https://api.test/hello").await.text(), "hello", "{what:?}");
        assert_eq!(agent.get2("https://old.test/hello").await.text(), "hello", "{what:?}");
        let trailers = agent.get2("https://api.test/trailers").await.trailers;
        assert_eq!(trailers.unwrap()["x-checksum"], "abc123", "{what:?}");
        let seen = [self.api.seen(), self.old.seen()].concat();
        let bearer = format!("Bearer {SECRET}");
        assert!(seen.iter().all(|one| one.all("authorization") == [bearer.as_str()]));
        // The parent's credential is for the parent alone.
        assert!(seen.iter().all(|one| one.all("proxy-authorization").is_empty()));
        self.websocket(what).await;
        let pinning = Agent::new(proxy.address, &self.root.pem());
        assert_eq!(
            pinning.get2("https://pinned.test/hello").await.text(),
            "hello",
            "{what:?}"
        );
        assert!(self.pinned.only().all("authorization").is_empty());
        let (code, body) = absolute(&proxy.agent, "plain.test", "/hello").await;
        assert_eq!((code, body.as_str()), (200, "hello"), "{what:?}");
        assert_eq!(self.plain.only().authority, "plain.test");
        let big = agent.get2("https://api.test/download?bytes=3000000").await;
        assert_eq!(big.body.len(), 3_000_000, "{what:?}");
    }

    async fn websocket(&self, what: Kind) {
        let mut http = self.proxy.agent.h1("old.test").await;
        let mut ask = get("https://old.test/ws");
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            ask.headers_mut().insert(name, value.parse().unwrap());
        }
        let response = http.send(ask).await.unwrap();
        assert_eq!(response.status(), 101, "{what:?}");
        let upgraded = soon("the upgrade", hyper::upgrade::on(response)).await.unwrap();
        let mut socket = tokio_websockets::ClientBuilder::new().take_over(hyper_util::rt::TokioIo::new(upgraded));
        socket.send(tokio_websockets::Message::text("hello")).await.unwrap();
        let back = soon("the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(back.as_text(), Some("hello"), "{what:?}");
    }

    /// Nothing the operator or the agent can read holds the parent's credential.
    fn shows_no_login(&self, login: &str) {
        let password = login.split_once(':').map_or(login, |(_, password)| password);
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, login);
        let audit = std::fs::read_to_string(self.proxy.rig.dir().join("audit.jsonl")).unwrap_or_default();
        for text in [self.proxy.child.log(), audit] {
            assert!(!text.contains(password) && !text.contains(&encoded), "{text}");
        }
    }
}

/// A plain request in absolute-form; the status and the body.
async fn absolute(agent: &Agent, host: &str, path: &str) -> (u16, String) {
    let mut raw = agent.dial().await;
    raw.say(format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    let head = raw.head().await;
    let body = raw.bytes(content_length(&head)).await;
    (status(&head), String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn every_path_goes_through_the_parent_and_nothing_past_it() {
    for kind in [Kind::Squid, Kind::SquidTls, Kind::Tinyproxy, Kind::Microsocks] {
        for login in [true, false] {
            let root = Root::new();
            let mut parent = Parent::start(kind, &root, login).await;
            let before = before(&parent.url, login.then_some(LOGIN), root).await;
            before.every_path(kind).await;
            before.shows_no_login(LOGIN);
            // Without it there is no way: so there was none past it either.
            parent.end();
            let (code, body) = absolute(&before.proxy.agent, "plain.test", "/again").await;
            assert_eq!(code, 502, "{kind:?}: {body}");
            assert!(body.contains("parent_unreachable"), "{kind:?}: {body}");
            assert_eq!(before.plain.seen().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_name_that_only_the_parent_knows_is_left_to_it() {
    let root = Root::new();
    let parent = Parent::start(Kind::Squid, &root, false).await;
    let origin = Origin::start(&root, "only-there.test").await;
    let port = origin.address.port();
    let rule = format!("host: \"only-there.test:{port}\"");
    let rig = Rig::new(&root)
        .rule(&rule)
        .upstream(&format!("parent: \"{}\"", parent.url));
    let proxy = rig.allow_networks("").serve().await;
    let reply = proxy.agent.get(&format!("https://only-there.test:{port}/hello")).await;
    assert_eq!(reply.text(), "hello", "{}", parent.log());
    // Squid writes a tunnel down when it ends.
    drop(proxy);
    let line = format!("CONNECT only-there.test:{port}");
    eventually("the parent's log", || parent.log().contains(&line).then_some(())).await;
}

#[tokio::test]
async fn exceptions_and_rules_choose_the_way() {
    let root = Root::new();
    let parent = Parent::start(Kind::Tinyproxy, &root, false).await;
    let dead = "http://127.0.0.1:1";
    let (a, b, c, d) = (
        Origin::start(&root, "through.test").await,
        Origin::start(&root, "x.excepted.test").await,
        Origin::start(&root, "direct.test").await,
        Origin::start(&root, "own.test").await,
    );
    let rig = [&a, &b, &c, &d].into_iter().fold(Rig::new(&root), Rig::reach);
    let proxy = rig
        .upstream(&format!("parent: \"{dead}\""))
        .upstream("parent_except: [\"*.excepted.test\", 10.0.0.0/8]")
        .rule("host: through.test")
        .rule("host: \"*.excepted.test\"")
        .rule("host: direct.test, parent: none")
        .rule(&format!("host: own.test, parent: \"{}\"", parent.url))
        .serve()
        .await;
    let agent = &proxy.agent;
    let refused = agent.get("https://through.test/hello").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (502, "parent_unreachable"));
    for host in ["x.excepted.test", "direct.test", "own.test"] {
        assert_eq!(
            agent.get(&format!("https://{host}/hello")).await.text(),
            "hello",
            "{host}"
        );
    }
    let log = parent.log();
    assert!(log.contains(&d.address.to_string()), "{log}");
    assert!(
        !log.contains(&b.address.to_string()) && !log.contains(&c.address.to_string()),
        "{log}"
    );
}

#[tokio::test]
async fn a_connection_through_one_parent_serves_no_request_that_goes_another_way() {
    let root = Root::new();
    let parent = Parent::start(Kind::Tinyproxy, &root, false).await;
    let origin = Origin::speaking(&root, "api.test", Speaks::Both).await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .rule(&format!("host: api.test, allow: /a, parent: \"{}\"", parent.url))
        .rule("host: api.test, allow: /b")
        .serve()
        .await;
    let mut http = proxy.agent.h2("api.test").await;
    for (path, connections) in [("a", 1), ("b", 2), ("a", 2), ("b", 2)] {
        assert_eq!(http.reply(get(&format!("https://api.test/{path}"))).await.status, 200);
        assert_eq!(origin.connections(), connections, "/{path}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_loses_nothing_behind_the_parents_reply() {
    let root = Root::new();
    let parent = Script::tcp("parent.test", |mut tcp| async move {
        let mut head = [0; 1024];
        let _ = tcp.read(&mut head).await;
        // The reply and the server's first words in one piece.
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n220 mail.test ready\r\n").await;
        let mut word = [0; 6];
        let _ = tcp.read_exact(&mut word).await;
        let _ = tcp.write_all(&[b"250 ", &word[..]].concat()).await;
    })
    .await;
    let proxy = Rig::new(&root)
        .rule("host: \"mail.test:25\", tunnel: true")
        .upstream(&format!("parent: \"http://{}\"", parent.address))
        .serve()
        .await;
    let (code, _, mut tunnel): (_, _, Raw<_>) = proxy.agent.connect("mail.test:25").await;
    assert_eq!(code, 200);
    assert_eq!(tunnel.bytes(21).await, b"220 mail.test ready\r\n");
    tunnel.say("EHLO\r\n").await;
    assert_eq!(tunnel.bytes(10).await, b"250 EHLO\r\n");
}
