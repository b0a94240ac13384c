//! An HTTP/1.1 upstream that never comes to an end of what should be short, and one that sends little which becomes
//! much.

use super::{FLAT, Siege, on_each};
use crate::rig::agent::get;
use crate::rig::eventually;
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::root::Root;
use crate::rig::routes;
use crate::rig::script::Script;
use http_body_util::BodyExt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;

/// What is said once, and what again and again.
const ENDLESS: &[(&str, &str, &str)] = &[
    ("a status line", "HTTP/1.1 200 ", "OKOKOKOKOKOKOKOKOKOKOKOKOKOKOK"),
    ("a field", "HTTP/1.1 200 OK\r\nX: ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ("a field's name", "HTTP/1.1 200 OK\r\nX", "aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ("fields", "HTTP/1.1 200 OK\r\n", "X: a\r\n"),
    ("empty lines", "", "\r\n"),
    ("interim answers", "", "HTTP/1.1 100 Continue\r\n\r\n"),
    (
        "early hints",
        "",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
    ),
    (
        "a chunk's size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0000000000000000",
    ),
    (
        "a chunk's extension",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        "a=bbbbbbbbbbbbb;",
    ),
    (
        "trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "X: aaaaaaaaaaaaaaaa\r\n",
    ),
    (
        "a trailer",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        "aaaaaaaaaaaaaaaaa",
    ),
];

#[tokio::test]
async fn what_an_upstream_never_ends_is_ended_for_it() {
    for (what, before, again) in ENDLESS {
        let ended = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&ended);
        let siege = Siege::with(
            "connect_time: 2s, response_time: 3s, idle_time: 5s, stall_time: 5s",
            async |rig, root: &Root| {
                let evil = Script::start(root, "evil.test", move |mut line| {
                    let ended = Arc::clone(&counted);
                    async move {
                        if line.head().await.is_none() {
                            return;
                        }
                        line.say(before).await;
                        let batch = again.repeat(16 * 1024 / again.len());
                        while line.io.write_all(batch.as_bytes()).await.is_ok() {}
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                });
                rig.reach_script(&evil.await).rule("host: evil.test")
            },
        )
        .await;
        let attack = on_each(4, async |at| {
            let mut http = match at % 2 {
                0 => siege.hostile.h1("evil.test").await,
                _ => siege.hostile.h2("evil.test").await,
            };
            if let Ok(answer) = http.send(get("https://evil.test/")).await {
                let status = answer.status();
                let whole = answer.into_body().collect().await.is_ok();
                assert!(
                    !(whole && status.is_success()),
                    "{what} without end was taken for an answer"
                );
            }
        });
        siege.withstands(FLAT, attack).await;
        eventually(&format!("the end of {what}"), || {
            (ended.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
    }
}

/// So many zeros, in a coding.
fn zeros(coding: &str, bytes: usize) -> Vec<u8> {
    let piece = vec![0; 1 << 16];
    let mut out = Vec::new();
    let pieces = bytes / piece.len();
    match coding {
        "gzip" => {
            let mut coder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
            (0..pieces).for_each(|_| coder.write_all(&piece).unwrap());
            coder.finish().unwrap();
        }
        "deflate" => {
            let mut coder = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::fast());
            (0..pieces).for_each(|_| coder.write_all(&piece).unwrap());
            coder.finish().unwrap();
        }
        _ => {
            let mut coder = zstd::Encoder::new(&mut out, 1).unwrap();
            (0..pieces).for_each(|_| coder.write_all(&piece).unwrap());
            coder.finish().unwrap();
        }
    }
    out
}

#[tokio::test]
async fn a_little_that_becomes_much_is_cut_and_is_never_in_memory_at_once() {
    const BYTES: usize = 256 << 20;
    let bombs = ["gzip", "deflate", "zstd"].map(|coding| (coding, bytes::Bytes::from(zeros(coding, BYTES))));
    let service = move |request: http::Request<_>, _| -> Answer {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let (coding, bomb) = bombs.iter().find(|(coding, _)| *coding == path).unwrap();
        let answer = routes::with(routes::bytes(bomb.clone(), "text/plain"), "content-encoding", coding);
        Box::pin(async move { answer })
    };
    let siege = Siege::with("stall_time: 5s", async |rig, root: &Root| {
        let evil = Origin::with(root, "evil.test", Speaks::Both, Arc::new(service)).await;
        rig.secret("API_KEY", "sk-live-2c7f1e9d4b8a6053")
            .reach(&evil)
            .rule("host: evil.test, inject: [{ bearer: api_key }]")
    })
    .await;
    // Asked for in the coding, and not: decoded on the way, or watched.
    for accepted in ["gzip, deflate, zstd", "identity"] {
        let attack = on_each(6, async |at| {
            let coding = ["gzip", "deflate", "zstd"][at % 3];
            let mut ask = get(&format!("https://evil.test/{coding}"));
            ask.headers_mut().insert("accept-encoding", accepted.parse().unwrap());
            let mut http = siege.hostile.h2("evil.test").await;
            let Ok(answer) = http.send(ask).await else { return };
            let mut body = answer.into_body();
            while let Some(piece) = body.frame().await {
                if piece.is_err() {
                    return;
                }
            }
            assert_ne!(coding, "zstd", "it came whole where {accepted:?} was accepted");
        });
        siege.withstands(FLAT, attack).await;
    }
}
