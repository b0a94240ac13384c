//! One proxy, however it is reached: TCP, a unix socket, TLS, HTTP/1.1 or HTTP/2.

use crate::rig::agent::{Agent, Http, Raw, content_length, get, request, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{routes, soon};
use http::{Method, Request, StatusCode};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

async fn listening(listen: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).rule("host: api.test");
    let listen = listen.replace("DIR", rig.dir().to_str().unwrap());
    (origin, rig.listen(&listen).serve().await)
}

/// A GET inside a tunnel that is already open on `io`.
async fn fetch<I>(agent: &Agent, io: I) -> String
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tls = agent.handshake(io, "api.test", &["http/1.1"]).await.unwrap();
    let (send, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    Http::One(send).reply(get("https://api.test/hello")).await.text()
}

const CONNECT: &str = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n";

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_is_gone_after_a_stop() {
    let (_, mut proxy) = listening("127.0.0.1:0, { bind: \"unix:DIR/p.sock\", speak: proxy, mode: \"0660\" }").await;
    let path = proxy.rig.dir().join("p.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut raw = Raw::new(UnixStream::connect(&path).await.unwrap());
    raw.say(CONNECT).await;
    assert_eq!(status(&raw.head().await), 200);
    assert_eq!(fetch(&proxy.agent, raw.io).await, "hello");
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success());
    assert!(!path.exists(), "the socket was left behind");
}

#[tokio::test]
async fn http_2_connect_opens_tunnels_side_by_side() {
    let (origin, proxy) = listening("127.0.0.1:0").await;
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    side_by_side(&origin, &proxy, tcp).await;
}

#[tokio::test]
async fn a_proxy_that_is_tls_itself_speaks_http_2_too() {
    let (origin, proxy) = listening("{ bind: \"127.0.0.1:0\", speak: proxy, tls: true }").await;
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    let tls = proxy.agent.handshake(tcp, "localhost", &["h2"]).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    side_by_side(&origin, &proxy, tls).await;
}

async fn side_by_side<I>(origin: &Origin, proxy: &Proxy, io: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let ask = Request::connect("api.test:443").body(routes::nothing()).unwrap();
        let answer = soon("the tunnel", send.send_request(ask)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        tunnels.push(TokioIo::new(hyper::upgrade::on(answer).await.unwrap()));
    }
    for tunnel in tunnels {
        assert_eq!(fetch(&proxy.agent, tunnel).await, "hello");
    }
    assert_eq!(origin.seen().len(), 2);
    let refused = Request::connect("other.test:443").body(routes::nothing()).unwrap();
    assert_eq!(
        soon("the refusal", send.send_request(refused)).await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn a_proxy_that_is_tls_itself_serves_curl() {
    let (_, proxy) = listening("{ bind: \"127.0.0.1:0\", speak: proxy, tls: true }").await;
    let mut curl = std::process::Command::new(crate::rig::tools::need("curl"));
    crate::rig::proxy::bare(&mut curl, proxy.rig.dir());
    let port = proxy.address.port();
    curl.args(["-sS", "--proxy", &format!("https://localhost:{port}"), "--proxy-cacert"])
        .arg(&proxy.ca);
    curl.arg("--cacert").arg(&proxy.ca).arg("https://api.test/hello");
    let output = tokio::process::Command::from(curl).output().await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_plain_request_goes_through_in_absolute_form() {
    let root = Root::new();
    let origin = Origin::plain("plain.test").await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", "sk-live-0a1b2c3d4e5f")
        .rule("host: plain.test");
    let proxy = rig.serve().await;
    let mut raw = proxy.agent.dial().await;
    // Two on one connection: the second must not be taken for the first's.
    for path in ["/a%2Fb?x=1", "/second"] {
        raw.say(format!(
            "GET http://plain.test{path} HTTP/1.1\r\nHost: plain.test\r\nProxy-Connection: keep-alive\r\n\r\n"
        ))
        .await;
        let head = raw.head().await;
        assert_eq!(status(&head), 200, "{head}");
        raw.bytes(content_length(&head)).await;
    }
    let seen = origin.seen();
    assert_eq!(
        seen.iter().map(|one| one.target.as_str()).collect::<Vec<_>>(),
        ["/a%2Fb?x=1", "/second"]
    );
    assert!(
        seen.iter()
            .all(|one| one.authority == "plain.test" && !one.headers.contains_key("proxy-connection"))
    );
}

#[tokio::test]
async fn a_credential_never_goes_over_plain_http_unless_the_rule_says_so() {
    let root = Root::new();
    let origin = Origin::plain("plain.test").await;
    let rule = "host: plain.test, inject: [{ bearer: api_key }]";
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", "sk-live-0a1b2c3d4e5f")
        .rule(rule);
    let proxy = rig.serve().await;
    let mut raw = proxy.agent.dial().await;
    raw.say("GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n")
        .await;
    let head = raw.head().await;
    assert!(
        head.starts_with("HTTP/1.1 403") && head.contains("plaintext_refused"),
        "{head}"
    );
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_tunnel_passes_bytes_unread() {
    let root = Root::new();
    let origin = Origin::speaking(&root, "pinned.test", Speaks::Both).await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .rule("host: pinned.test, tunnel: true")
        .serve()
        .await;
    // It sees the origin's own certificate, which only the origin's root vouches for.
    let pinning = Agent::new(proxy.address, &root.pem());
    let reply = pinning
        .h2("pinned.test")
        .await
        .reply(request(Method::POST, "https://pinned.test/upload", "abc"))
        .await;
    assert_eq!(reply.json()["bytes"], 3);
    drop(reply);
    let record = proxy.record().await;
    assert_eq!(
        (&record["target"], &record["path"]),
        (&"pinned.test:443".into(), &serde_json::Value::Null)
    );
}

#[tokio::test]
async fn a_tunnel_to_one_host_is_none_to_another_at_its_address() {
    let root = Root::new();
    let origin = Origin::with_names(&root, &["pinned.test", "hidden.test"]).await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .rule("host: pinned.test, tunnel: true")
        .serve()
        .await;
    let pinning = Agent::new(proxy.address, &root.pem());
    let (status, _, raw) = pinning.connect("pinned.test:443").await;
    assert_eq!(status, 200);
    let fronted = pinning.handshake(raw.io, "hidden.test", &["h2"]).await;
    assert!(fronted.is_err(), "the tunnel led to a host that no rule allows");
    assert_eq!(origin.connections(), 0);
    let record = proxy.record().await;
    assert_eq!(
        (&record["outcome"], &record["code"], &record["mode"]),
        (&"denied".into(), &"misdirected_request".into(), &"tunnel".into()),
        "{record:#}"
    );
}

#[tokio::test]
async fn a_client_that_says_nothing_or_nonsense_costs_no_more_than_its_time() {
    let root = Root::new();
    let proxy = Rig::new(&root)
        .rule("host: a.test")
        .config("limits: { head_time: 300ms }")
        .serve()
        .await;
    let mut silent = proxy.agent.dial().await;
    let mut slow = proxy.agent.dial().await;
    slow.say("CONN").await;
    let mut nonsense = proxy.agent.dial().await;
    nonsense
        .say([0x16, 0x03, 0x01, 0xff, 0xff, 0x00, 0x00, b'\r', b'\n', b'\r', b'\n'])
        .await;
    for raw in [&mut silent, &mut slow, &mut nonsense] {
        raw.rest().await;
    }
    let (status, _, mut tunnel) = proxy.agent.connect("a.test:443").await;
    assert_eq!(status, 200);
    // No ClientHello follows.
    tunnel.rest().await;
}
