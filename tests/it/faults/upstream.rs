//! An upstream killed in the middle of everything: what was cut stays cut, and each exchange is on record.

use super::{BEARER, KEY, whole};
use crate::fidelity::{PAIRS, by};
use crate::rig::agent::get;
use crate::rig::process::Killable;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::soon;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

async fn before(root: &Root, speaks: crate::rig::origin::Speaks) -> (Killable, Proxy) {
    let rig = Rig::new(root);
    let origin = Killable::start(root, "api.test", speaks, rig.dir()).await;
    let rig = rig.reach_as("api.test", origin.address).secret("API_KEY", KEY);
    let rig = rig.rule(BEARER).rule("host: pinned.test, tunnel: true");
    let rig = rig.reach_as("pinned.test", origin.address);
    (origin, rig.serve().await)
}

#[tokio::test]
async fn a_killed_upstream_leaves_cut_answers_that_never_look_whole_and_a_record_of_each() {
    let root = Root::new();
    for (http2, speaks) in PAIRS {
        let (mut origin, proxy) = before(&root, speaks).await;
        let mut bodies = Vec::new();
        for path in [
            "/sse?n=100000",
            "/download?bytes=10000000000",
            "/download?bytes=10000000000&length",
        ] {
            let mut http = by(&proxy.agent, http2).await;
            let response = http.send(get(&format!("https://api.test{path}"))).await.unwrap();
            let mut body = response.into_body();
            assert!(soon("the first piece", body.frame()).await.unwrap().unwrap().is_data());
            bodies.push((path, body, http));
        }
        // One whose answer has not begun: an upload under way.
        let mut uploading = by(&proxy.agent, http2).await;
        let pieces = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"a piece"))) });
        let body = StreamBody::new(pieces.chain(futures_util::stream::pending())).boxed_unsync();
        let ask = Request::post("https://api.test/upload").body(body).unwrap();
        let upload = tokio::spawn(async move { uploading.send(ask).await.map(|response| response.status()) });
        let mut websocket = crate::websocket::open(&proxy.agent, http2, "/ws").await.unwrap();
        // Long enough for the upload to have arrived.
        websocket.send_ping().await;

        origin.kill();

        for (path, body, _http) in bodies {
            let end = soon("the cut", body.collect()).await;
            assert!(end.is_err(), "{path} was cut and looked whole");
        }
        let message = soon("the WebSocket's end", websocket.next()).await;
        assert!(message.is_none_or(|message| message.is_err()), "a WebSocket went on");
        let status = soon("the upload's answer", upload).await.unwrap();
        assert_eq!(status.unwrap(), StatusCode::BAD_GATEWAY);
        let records = proxy.records(5).await;
        let mut codes: Vec<_> = records.iter().map(|one| one["code"].as_str().unwrap()).collect();
        codes.sort_unstable();
        let cut = "upstream_broke_off";
        assert_eq!(
            codes,
            [cut, cut, cut, "upstream_protocol", "websocket_broke"],
            "{records:#?}"
        );
        whole(&proxy.rig.dir().join("audit.jsonl"));
    }
}

#[tokio::test]
async fn an_upstream_that_is_back_is_used_again_at_once() {
    let root = Root::new();
    for (http2, speaks) in PAIRS {
        let (mut origin, proxy) = before(&root, speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
        origin.kill();
        // The first may still find the old connection, and be told that it broke.
        let codes = ["upstream_protocol", "upstream_unreachable"];
        assert!(codes.contains(&http.reply(get("https://api.test/hello")).await.code()));
        let reply = http.reply(get("https://api.test/hello")).await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::BAD_GATEWAY, "upstream_unreachable")
        );
        let _back = Killable::start_at(origin.address, &root, "api.test", speaks, proxy.rig.dir()).await;
        assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    }
}

#[tokio::test]
async fn a_tunnel_to_a_killed_upstream_is_closed_with_a_record() {
    let root = Root::new();
    let (mut origin, proxy) = before(&root, crate::rig::origin::Speaks::Http1).await;
    let trusting = crate::rig::agent::Agent::new(proxy.address, &root.pem());
    let (status, _, raw) = trusting.connect("pinned.test:443").await;
    assert_eq!(status, 200);
    let tls = trusting.handshake(raw.io, "pinned.test", &["http/1.1"]).await.unwrap();
    let mut raw = crate::rig::agent::Raw::new(tls);
    raw.say("GET /sse?n=100000 HTTP/1.1\r\nHost: pinned.test\r\n\r\n").await;
    raw.head().await;
    origin.kill();
    let (_, clean) = raw.rest().await;
    assert!(!clean, "TLS in the tunnel was closed as if all had been said");
    drop(raw);
    let record = proxy.record().await;
    assert_eq!(
        (&record["mode"], &record["target"]),
        (&"tunnel".into(), &"pinned.test:443".into())
    );
}

/// Something small to be sure of: that all sent before has gone through.
trait Ping {
    async fn send_ping(&mut self);
}

impl Ping for crate::websocket::Socket {
    async fn send_ping(&mut self) {
        futures_util::SinkExt::send(self, tokio_websockets::Message::text("ping".to_owned()))
            .await
            .unwrap();
        let back = soon("the echo", self.next()).await.unwrap().unwrap();
        assert_eq!(back.as_text(), Some("ping"));
    }
}
