//! Names without end, and a name in as many pieces as it has bytes.

use super::slow::hello;
use super::{Siege, on_each};
use crate::rig::admin::metric;
use crate::rig::agent::{Agent, get};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

/// Names asked for. The figure in `SECURITY.md` is for 50,000.
fn names() -> usize {
    std::env::var("KEYFERRY_SIEGE_NAMES").map_or(8_000, |count| count.parse().unwrap())
}

#[tokio::test]
async fn names_without_end_take_no_more_memory_than_the_leaves_that_are_kept() {
    let siege = Siege::with("leaves: 100", async |rig, _| {
        rig.config("admin: { bind: \"127.0.0.1:0\" }")
            .rule("host: \"*.many.test\"")
    })
    .await;
    let (next, names) = (AtomicUsize::new(0), names());
    let attack = on_each(8, async |_| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= names {
                return;
            }
            let host = format!("host-{at}.many.test");
            let (status, head, mut raw) = siege.hostile.connect(&format!("{host}:443")).await;
            assert_eq!(status, 200, "{head}");
            raw.say(hello(&host, &[])).await;
            // The answer begins: there is a leaf.
            assert_eq!(raw.bytes(5).await[..3], [22, 3, 3], "no ServerHello for {host}");
        }
    });
    // Eight thousand that were kept would be 15.
    siege.withstands(10 << 20, attack).await;
    let minted = metric(&siege.proxy, "keyferry_leaves_minted").await;
    assert!(
        minted >= i64::try_from(names).unwrap(),
        "{minted} leaves for {names} names"
    );
    // A name that no rule allows is refused before there is one.
    for at in 0..50 {
        let (status, ..) = siege.hostile.connect(&format!("host-{at}.denied.test:443")).await;
        assert_eq!(status, 403);
    }
    assert_eq!(metric(&siege.proxy, "keyferry_leaves_minted").await, minted);
}

/// A line on which the first record, a ClientHello, goes out in records of so many bytes each (RFC 8446 §5.1).
fn shredded(tcp: TcpStream, size: usize) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut head = [0; 5];
        far.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        far.read_exact(&mut body).await.unwrap();
        let mut tcp = tcp;
        for piece in body.chunks(size) {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            let record = [&head[..3], &length, piece].concat();
            // Once it has decided, the proxy may close before all is said.
            if tcp.write_all(&record).await.is_err() {
                return;
            }
            tcp.flush().await.unwrap();
        }
        let _ = tokio::io::copy_bidirectional(&mut far, &mut tcp).await;
    });
    near
}

async fn asked(agent: &Agent, named: &str, size: usize) -> Option<u16> {
    let (status, head, raw) = agent.connect("api.test:443").await;
    assert_eq!(status, 200, "{head}");
    let line = agent
        .handshake(shredded(raw.io, size), named, &["http/1.1"])
        .await
        .ok()?;
    let mut http = crate::rig::agent::Http::one(line).await;
    let reply = http.reply(get("https://api.test/hello")).await;
    Some(reply.status.as_u16())
}

#[tokio::test]
async fn a_hello_in_as_many_records_as_it_has_bytes_is_judged_as_any_other_or_ends() {
    let siege = Siege::under("head_time: 20s").await;
    for size in [1, 7, 100] {
        let status = asked(&siege.hostile, "api.test", size).await;
        assert!(status.is_none_or(|status| status == 200), "{size}: {status:?}");
    }
    assert_eq!(
        asked(&siege.hostile, "api.test", 100).await,
        Some(200),
        "what clients do is understood"
    );
    let seen = siege.origin.seen().len();
    // The leaf is the target's, whatever the pieces name.
    for size in [1, 100] {
        assert_eq!(asked(&siege.hostile, "evil.test", size).await, None);
    }
    assert_eq!(siege.origin.seen().len(), seen);
    siege.serves().await;
}
