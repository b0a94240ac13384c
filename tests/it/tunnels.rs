//! What an opaque tunnel looks at: the first bytes, and nothing after.

use crate::rig::agent::{Agent, Raw};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::script::Script;
use crate::rig::{eventually, soon};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The hello that rustls sends for a name or an address.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A proxy with tunnels on several ports, and what reached the upstream behind them.
async fn before() -> (Proxy, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    let upstream = Script::tcp("raw.test", move |mut tcp: TcpStream| {
        let heard = hearing.clone();
        async move {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = tcp.read(&mut chunk).await {
                heard.lock().unwrap().extend_from_slice(&chunk[..read]);
                let _ = tcp.write_all(&[b'.'].repeat(read)).await;
            }
        }
    })
    .await;
    let root = Root::new();
    let proxy = Rig::new(&root)
        .reach_as("raw.test", upstream.address)
        .reach_as("192.0.2.7", upstream.address)
        .rule("host: [\"raw.test\", \"raw.test:8443\", \"raw.test:5432\", \"192.0.2.7\"], tunnel: true")
        .config("limits: { head_time: 1s }")
        .serve()
        .await;
    (proxy, heard)
}

async fn opened(agent: &Agent, target: &str) -> Raw<TcpStream> {
    let (status, head, raw) = agent.connect(target).await;
    assert_eq!(status, 200, "{target}: {head}");
    raw
}

#[tokio::test]
async fn a_hello_for_another_host_never_leaves_a_tunnel() {
    let other = hello("other.test");
    let nameless = hello("192.0.2.9");
    let mut broken = hello("raw.test");
    broken[5] = 77;
    let table: &[(&str, &[u8], &str)] = &[
        ("raw.test:443", &other, "names other.test"),
        ("raw.test:5432", &other, "names other.test"),
        ("192.0.2.7:443", &other, "names other.test"),
        ("raw.test:443", &nameless, "names no host"),
        ("raw.test:8443", &nameless, "names no host"),
        ("raw.test:443", b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", "no TLS"),
        ("raw.test:5432", &broken, "cannot be read"),
        ("raw.test:443", &other[..40], "in time"),
        ("raw.test:443", b"", "in time"),
    ];
    let (proxy, heard) = before().await;
    for (count, (target, said, why)) in table.iter().enumerate() {
        for split in [false, true] {
            let mut raw = opened(&proxy.agent, target).await;
            for piece in said.chunks(if split { 1 } else { 4096 }) {
                // It may be refused before all of it was sent.
                let _ = raw.io.write_all(piece).await;
            }
            let (left, _) = raw.rest().await;
            // An alert of TLS, `unrecognized_name`; a reset, for bytes that nobody read, may overtake it.
            let alert: &[u8] = if *why == "no TLS" {
                b""
            } else {
                &[21, 3, 3, 0, 2, 2, 112]
            };
            assert!(left == alert || split && left.is_empty(), "{target}: {why}: {left:?}");
            let records = proxy.records(2 * count + 1 + usize::from(split)).await;
            let record = records.last().unwrap();
            assert_eq!(
                (&record["outcome"], &record["code"]),
                (&"denied".into(), &"misdirected_request".into())
            );
            assert!(record["reason"].as_str().unwrap().contains(why), "{record}");
            assert_eq!(record["bytes_in"], 0, "{record}");
        }
    }
    assert_eq!(*heard.lock().unwrap(), b"", "something reached the upstream");
}

#[tokio::test]
async fn what_names_the_target_or_needs_no_name_passes_whole_and_is_counted() {
    let (right, nameless) = (hello("raw.test"), hello("192.0.2.9"));
    let table: &[(&str, &[u8])] = &[
        ("raw.test:443", &right),
        ("RAW.test.:443", &right),
        ("192.0.2.7:443", &nameless),
        ("raw.test:5432", &nameless),
        ("raw.test:5432", &right),
        ("raw.test:5432", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
    ];
    let (proxy, heard) = before().await;
    for (count, (target, said)) in table.iter().enumerate() {
        let mut raw = opened(&proxy.agent, target).await;
        for piece in said.chunks(1 + said.len() / 3) {
            raw.say(piece).await;
        }
        raw.say("and the rest").await;
        let sent = said.len() + 12;
        assert_eq!(raw.bytes(sent).await.len(), sent, "{target}");
        raw.io.shutdown().await.unwrap();
        raw.rest().await;
        let record = proxy.records(count + 1).await.pop().unwrap();
        assert_eq!(
            (&record["code"], &record["bytes_in"], &record["bytes_out"]),
            (&"ok".into(), &sent.into(), &sent.into()),
            "{record}"
        );
        assert!(record["ms"]["total"].as_f64().unwrap() > 0.0);
        let heard = std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(heard, [said, &b"and the rest"[..]].concat(), "{target}");
    }
    // Nor is an agent that says nothing hurried where the other side may speak first.
    let idle = opened(&proxy.agent, "raw.test:5432").await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let mut idle = idle;
    idle.say("late").await;
    assert_eq!(soon("the late answer", idle.bytes(4)).await, b"....");
    eventually("what came late", || (heard.lock().unwrap().len() == 4).then_some(())).await;
}
