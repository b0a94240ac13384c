//! Stopping and reloading: nothing is cut without a record, and a bad config changes nothing.

use crate::fidelity::{before, by};
use crate::rig::agent::get;
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{eventually, soon};
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn an_idle_proxy_stops_at_once_when_told_to() {
    for signal in ["TERM", "INT"] {
        let (_, mut proxy) = before(Speaks::Both).await;
        // Kept-alive connections, idle: the agent's and the upstream's.
        let mut http = proxy.agent.h1("api.test").await;
        assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
        let began = std::time::Instant::now();
        proxy.child.signal(signal);
        let status = proxy.child.ended().await;
        assert!(status.success(), "{status}: {}", proxy.child.log());
        // Well below the 30 s that an exchange would be given.
        assert!(began.elapsed().as_secs() < 15);
    }
}

#[tokio::test]
async fn an_exchange_under_way_is_finished_before_the_proxy_stops() {
    for http2 in [false, true] {
        let (origin, mut proxy) = before(Speaks::Both).await;
        let mut http = by(&proxy.agent, http2).await;
        let mut body = http.send(get("https://api.test/gated?n=3")).await.unwrap().into_body();
        origin.gate.add_permits(1);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "0;");
        proxy.child.signal("TERM");
        let address = proxy.address;
        refuses_soon(address).await;
        origin.gate.add_permits(2);
        let rest = soon("the rest", body.collect()).await.unwrap().to_bytes();
        assert_eq!(rest, "1;2;");
        assert!(proxy.child.ended().await.success());
        assert_eq!(proxy.record().await["outcome"], "ok");
    }
}

/// Waits until nobody accepts there any more.
async fn refuses_soon(address: std::net::SocketAddr) {
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(std::time::Instant::now() < end, "still accepting after SIGTERM");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_with_a_record() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .rule("host: api.test")
        .config("limits: { drain_time: 300ms }");
    let mut proxy = rig.serve().await;
    let mut http = proxy.agent.h1("api.test").await;
    let body = http.send(get("https://api.test/gated?n=3")).await.unwrap().into_body();
    proxy.child.signal("TERM");
    assert!(
        soon("the cut", body.collect()).await.is_err(),
        "a body cut by the stop looked whole"
    );
    proxy.child.ended().await;
    let record = proxy.record().await;
    assert_ne!(record["outcome"], "ok", "{record:#}");
    assert_eq!(record["path"], "/gated?n=***");
}

async fn reloadable() -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .rule("name: old, host: api.test")
        .serve()
        .await;
    (origin, proxy)
}

/// Replaces the config file's text and asks for a reload.
fn reload(proxy: &Proxy, change: impl Fn(String) -> String) {
    let file = proxy.rig.dir().join("keyferry.yaml");
    let text = change(std::fs::read_to_string(&file).unwrap());
    std::fs::write(file, text).unwrap();
    proxy.child.signal("HUP");
}

#[tokio::test]
async fn a_reload_holds_from_the_next_request_on_even_on_open_connections() {
    let (_, proxy) = reloadable().await;
    let mut http = proxy.agent.h1("api.test").await;
    assert_eq!(http.reply(get("https://api.test/v1")).await.status, StatusCode::OK);
    reload(&proxy, |text| {
        text.replace("host: api.test", "host: api.test, allow: [\"GET /v2\"]")
    });
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while http.reply(get("https://api.test/v1")).await.status != StatusCode::FORBIDDEN {
        assert!(
            std::time::Instant::now() < end,
            "the reload never came: {}",
            proxy.child.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(http.reply(get("https://api.test/v2")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_config_with_a_mistake_leaves_the_old_one_in_force() {
    let (_, proxy) = reloadable().await;
    reload(&proxy, |text| {
        text.replace("host: api.test", "host: other.test, injcet: []")
    });
    eventually("word of the mistake", || {
        proxy.child.log().contains("injcet").then_some(())
    })
    .await;
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
}

#[tokio::test]
async fn an_open_tunnel_that_a_reload_forbids_is_closed() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .rule("name: old, host: api.test, tunnel: true")
        .serve()
        .await;
    let trusting = crate::rig::agent::Agent::new(proxy.address, &root.pem());
    let mut raw = trusting.raw("api.test").await;
    raw.say("GET /hello HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    reload(&proxy, |text| text.replace("host: api.test", "host: other.test"));
    raw.bytes(5).await;
    let (left, _) = raw.rest().await;
    assert!(left.is_empty());
    let record = proxy.record().await;
    assert_eq!(record["target"], "api.test:443", "{record:#}");
}
