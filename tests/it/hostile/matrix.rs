//! One authority for each request: what CONNECT, the handshake and the request itself name must be one and the
//! same, in every protocol, for every stream and every request on a connection.

use super::careless::tls;
use super::frames::{Frames, Outcome};
use super::witness::Witness;
use super::{KEY, kept};
use crate::rig::agent::{Raw, content_length, status};
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use tokio::io::{AsyncRead, AsyncWrite};

/// The host the credential is for, another, and one known by its address alone; all are allowed.
struct Before {
    api: Witness,
    other: Witness,
    bare: Witness,
    proxy: Proxy,
}

async fn before() -> Before {
    let root = Root::new();
    let api = Witness::start(&root, "api.test").await;
    let other = Witness::start(&root, "other.test").await;
    let bare = Witness::start(&root, "127.0.0.1").await;
    let port = bare.address.port();
    let proxy = Rig::new(&root)
        .reach_as("api.test", api.address)
        .reach_as("other.test", other.address)
        .secret("API_KEY", KEY)
        .rule(&format!("host: \"api.test:{port}\", inject: [{{ bearer: api_key }}]"))
        .rule(&format!("host: \"other.test:{port}\""))
        .rule(&format!("host: \"127.0.0.1:{port}\""))
        .serve()
        .await;
    Before {
        api,
        other,
        bare,
        proxy,
    }
}

impl Before {
    fn counts(&self) -> [usize; 3] {
        [&self.api, &self.other, &self.bare].map(|one| one.requests().len())
    }

    fn connections(&self) -> [usize; 3] {
        [&self.api, &self.other, &self.bare].map(Witness::connections)
    }

    fn port(&self) -> u16 {
        self.bare.address.port()
    }

    fn name(&self, at: Option<usize>) -> Option<String> {
        at.map(|at| format!("{}:{}", ["api.test", "other.test", "127.0.0.1"][at], self.port()))
    }
}

/// The last is: none.
const NAMES: [Option<usize>; 4] = [Some(0), Some(1), Some(2), None];

async fn answer<I: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<I>) -> u16 {
    let head = raw.head().await;
    raw.bytes(content_length(&head)).await;
    status(&head)
}

async fn ask1(stream: impl AsyncRead + AsyncWrite + Unpin, target: &str, host: Option<&str>) -> u16 {
    let mut raw = Raw::new(stream);
    let host = host.map_or(String::new(), |host| format!("Host: {host}\r\n"));
    raw.say(format!("GET {target} HTTP/1.1\r\n{host}\r\n")).await;
    answer(&mut raw).await
}

async fn ask2(stream: impl AsyncRead + AsyncWrite + Unpin, authority: Option<&str>, host: Option<&str>) -> Outcome {
    let mut frames = Frames::greet(stream).await;
    let mut list = vec![(":method", "GET"), (":scheme", "https"), (":path", "/")];
    list.extend(authority.map(|authority| (":authority", authority)));
    list.extend(host.map(|host| ("host", host)));
    frames.head(1, &list, true).await;
    frames.outcome(1).await
}

#[tokio::test]
async fn only_where_all_names_agree_does_a_request_reach_an_origin() {
    let before = before().await;
    let agent = &before.proxy.agent;
    for connect in 0..3 {
        let target = before.name(Some(connect)).unwrap();
        for sni in NAMES {
            // An address cannot be named in a handshake, so there no name is the right one.
            let named = sni.filter(|at| *at < 2).map(|at| ["api.test", "other.test"][at]);
            let agrees = if connect == 2 {
                named.is_none()
            } else {
                sni == Some(connect)
            };
            for host in NAMES {
                let equal = agrees && host == Some(connect);
                let host = before.name(host);
                for way in ["host", "absolute", ":authority", "host in h2"] {
                    let counts = before.counts();
                    let alpn = if way.contains("h2") || way == ":authority" {
                        "h2"
                    } else {
                        "http/1.1"
                    };
                    let stream = tls(agent, &target, named, alpn).await.unwrap();
                    let status = match way {
                        "host" => ask1(stream, "/", host.as_deref()).await,
                        "absolute" => {
                            let named = host.as_ref().map_or("/".to_owned(), |host| format!("https://{host}/"));
                            ask1(stream, &named, Some(&target)).await
                        }
                        ":authority" => ask2(stream, host.as_deref(), None).await.status(),
                        _ => ask2(stream, None, host.as_deref()).await.status(),
                    };
                    // Origin-form with the right host is an agreeing request too.
                    let equal = equal || way == "absolute" && host.is_none() && agrees;
                    let cell = format!("CONNECT {target}, handshake {named:?}, {way} {host:?}: {status}");
                    let mut expected = counts;
                    expected[connect] += usize::from(equal);
                    assert_eq!(before.counts(), expected, "{cell}");
                    assert_eq!(status == 200, equal, "{cell}");
                    assert!(equal || [0, 400, 421].contains(&status), "{cell}");
                }
            }
        }
    }
    for one in before.api.requests() {
        assert_eq!(one.all("authorization"), [format!("Bearer {KEY}")]);
    }
    kept(&before.proxy, &[&before.other.bytes(), &before.bare.bytes()]);
}

#[tokio::test]
async fn without_connect_nothing_but_plain_http_is_understood() {
    let before = before().await;
    for sni in [Some("api.test"), None] {
        for alpn in ["http/1.1", "h2"] {
            let raw = before.proxy.agent.dial().await;
            assert!(super::careless::handshake(raw.io, sni, alpn).await.is_err());
        }
    }
    assert_eq!(before.connections(), [0, 0, 0]);
}

#[tokio::test]
async fn every_request_and_every_stream_of_a_connection_is_held_to_its_target() {
    let before = before().await;
    let agent = &before.proxy.agent;
    let [api, other] = [0, 1].map(|at| before.name(Some(at)).unwrap());
    let mut raw = Raw::new(tls(agent, &api, Some("api.test"), "http/1.1").await.unwrap());
    for (host, code) in [(&api, 200), (&other, 421), (&api, 200), (&other, 421)] {
        raw.say(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer(&mut raw).await, code);
    }
    let mut frames = Frames::greet(tls(agent, &api, Some("api.test"), "h2").await.unwrap()).await;
    let head = |host| {
        [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", host),
        ]
    };
    // All streams are open before any of them is whole, and their pieces take turns.
    let hosts = [&api, &other, &api, &other, &other, &api];
    for (host, stream) in hosts.iter().zip((1..).step_by(2)) {
        frames.head(stream, &head(host), false).await;
    }
    for piece in ["one ", "two"] {
        for stream in (1..12).step_by(2) {
            frames.data(stream, piece.as_bytes(), piece == "two").await;
        }
    }
    for (host, stream) in hosts.iter().zip((1..).step_by(2)) {
        let code = if *host == &api { 200 } else { 421 };
        assert_eq!(frames.outcome(stream).await.status(), code, "stream {stream} to {host}");
    }
    assert_eq!(before.counts(), [5, 0, 0]);
    let bodies = before.api.requests().into_iter().filter(|one| one.body == b"one two");
    assert_eq!(bodies.count(), 3);
    kept(&before.proxy, &[&frames.heard]);
}

#[tokio::test]
async fn an_authority_and_a_host_that_differ_are_no_request() {
    let before = before().await;
    let [api, other] = [0, 1].map(|at| before.name(Some(at)).unwrap());
    let port = before.port();
    for (authority, host) in [
        (api.clone(), other.clone()),
        (other.clone(), api.clone()),
        (api.clone(), String::new()),
        (format!("user@{api}"), api.clone()),
        (api.clone(), format!("user:word@{api}")),
        (format!("{other}@{api}"), api.clone()),
        (String::new(), api.clone()),
        (format!("api.test:{}", port ^ 1), api.clone()),
        (api.clone(), "api.test:443".to_owned()),
        ("api.test".to_owned(), api.clone()),
        (format!("api.test:{port}:443"), api.clone()),
        (format!("api.test.:{port}.other.test"), api.clone()),
        (format!("api.test,{other}"), api.clone()),
        (format!("{api}/"), api.clone()),
        (format!("{api}#"), api.clone()),
        (format!("api.test%2eother.test:{port}"), api.clone()),
        (format!("api..test:{port}"), api.clone()),
        (format!("xapi.test:{port}"), api.clone()),
    ] {
        let stream = tls(&before.proxy.agent, &api, Some("api.test"), "h2").await.unwrap();
        let outcome = ask2(stream, Some(&authority), Some(&host)).await;
        assert!(outcome.is_refused(), "{authority:?} and {host:?}: {outcome:?}");
    }
    assert_eq!(before.connections(), [0, 0, 0]);
    // Spellings of one and the same name are no difference.
    let stream = tls(&before.proxy.agent, &api, Some("api.test"), "h2").await.unwrap();
    let loud = format!("API.Test.:{port}");
    assert_eq!(ask2(stream, Some(&api), Some(&loud)).await.status(), 200);
}

#[tokio::test]
async fn after_an_upgrade_the_connection_leads_nowhere_else() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let other = Origin::start(&root, "other.test").await;
    let rig = Rig::new(&root).reach(&api).reach(&other).secret("API_KEY", KEY);
    let rule = "host: api.test, inject: [{ bearer: api_key }]";
    let proxy = rig.rule(rule).rule("host: other.test").serve().await;
    let mut raw = Raw::new(
        tls(&proxy.agent, "api.test:443", Some("api.test"), "http/1.1")
            .await
            .unwrap(),
    );
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    raw.say(format!("GET /ws HTTP/1.1\r\nHost: other.test\r\n{upgrade}\r\n"))
        .await;
    assert_eq!(answer(&mut raw).await, 421);
    raw.say(format!("GET /ws HTTP/1.1\r\nHost: api.test\r\n{upgrade}\r\n"))
        .await;
    assert_eq!(status(&raw.head().await), 101);
    raw.say("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    raw.rest().await;
    assert_eq!((api.seen().len(), other.connections()), (1, 0));
    kept(&proxy, &[]);
}

#[tokio::test]
async fn an_upstream_connection_serves_one_name_only() {
    // Both names lead to one address, whose certificate is good for both: no reason to share a connection.
    let root = Root::new();
    let shared = Origin::with_names(&root, &["api.test", "other.test"]).await;
    let rig = Rig::new(&root)
        .reach_as("api.test", shared.address)
        .reach_as("other.test", shared.address)
        .secret("API_KEY", KEY);
    let rule = "host: api.test, inject: [{ bearer: api_key }]";
    let proxy = rig.rule(rule).rule("host: other.test").serve().await;
    for _ in 0..3 {
        for host in ["api.test", "other.test"] {
            let reply = proxy.agent.get2(&format!("https://{host}/hello")).await;
            assert_eq!(reply.text(), "hello");
        }
    }
    assert_eq!(shared.connections(), 2);
    for one in shared.seen() {
        let given = one.all("authorization").len();
        assert_eq!(given, usize::from(one.authority == "api.test"), "{one:#?}");
    }
}
