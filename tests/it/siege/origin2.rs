//! Floods of HTTP/2 frames from an upstream: the connection is ended, and the agent told.

use super::agent2::{Flood, PRIORITY, UNKNOWN, WINDOW_UPDATE, bomb, poured};
use super::{FLAT, Siege, on_each};
use crate::hostile::frames::{CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, SETTINGS, fields, frame};
use crate::rig::agent::get;
use crate::rig::eventually;
use crate::rig::root::{Root, Validity};
use crate::rig::script::{Line, Script};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PUSH_PROMISE: u8 = 5;

/// The head of an answer.
fn head() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &[0x88])
}

/// The first part of one.
fn half() -> Vec<u8> {
    frame(HEADERS, 0, 1, &[0x88])
}

const FLOODS: &[Flood] = &[
    Flood::new("pings", Vec::new, |_| frame(PING, 0, 0, &[0; 8])),
    Flood::new("settings", Vec::new, |_| frame(SETTINGS, 0, 0, &[])),
    Flood::new("frames of an unknown kind", Vec::new, |_| frame(UNKNOWN, 0, 1, &[0; 4])),
    Flood::new("room on the connection", Vec::new, |_| {
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
    }),
    Flood::new("farewells", Vec::new, |_| {
        frame(GOAWAY, 0, 0, &[0x7f, 255, 255, 255, 0, 0, 0, 0])
    }),
    Flood::new("promises", Vec::new, |n| {
        frame(PUSH_PROMISE, END_HEADERS, 1, &(2 * n + 2).to_be_bytes())
    }),
    Flood::new("interim answers", Vec::new, |_| {
        frame(
            HEADERS,
            END_HEADERS,
            1,
            &fields(&[(":status", "103"), ("link", "</a>")]),
        )
    }),
    Flood::new("HPACK bombs", Vec::new, |_| {
        frame(HEADERS, END_HEADERS, 1, &[vec![0x88], bomb()].concat())
    }),
    Flood::new("pings below an answer", head, |_| frame(PING, 0, 0, &[0; 8])),
    Flood::new("empty pieces", head, |_| frame(DATA, 0, 1, &[])),
    Flood::new("priorities", head, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7])),
    Flood::new("room in a stream", head, |_| {
        frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())
    }),
    Flood::new("second heads", head, |_| frame(HEADERS, END_HEADERS, 1, &[0x88])),
    Flood::new("empty pieces of a head", half, |_| frame(CONTINUATION, 0, 1, &[])),
    Flood::new("pieces of a head", half, |n| {
        frame(CONTINUATION, 0, 1, &fields(&[(&format!("x-{n}"), &"a".repeat(8000))]))
    }),
];

/// Reads the client's preface and frames up to the head of its first request.
async fn asked(line: &mut Line) -> bool {
    if line.body(24).await.len() < 24 {
        return false;
    }
    loop {
        let head = line.body(9).await;
        let [a, b, c, kind, ..] = head[..] else { return false };
        line.body(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
            .await;
        if kind == HEADERS {
            return true;
        }
    }
}

#[tokio::test]
async fn whatever_an_upstream_sends_without_end_ends_its_connection_and_is_no_answer() {
    for flood in FLOODS {
        let (name, ended) = (flood.name, Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&ended);
        let siege = Siege::with("response_time: 5s, stall_time: 5s", async |rig, root: &Root| {
            let tls = root.server(&["evil.test"], Validity::Now, &["h2"]);
            let evil = Script::tls(tls, "evil.test", move |mut line| {
                let ended = Arc::clone(&counted);
                async move {
                    if asked(&mut line).await {
                        poured(line.io, &[], flood, true).await;
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
            rig.reach_script(&evil.await).rule("host: evil.test")
        })
        .await;
        let attack = on_each(3, async |at| {
            let url = "https://evil.test/";
            let mut http = if at % 2 == 0 {
                siege.hostile.h1("evil.test").await
            } else {
                siege.hostile.h2("evil.test").await
            };
            if let Ok(answer) = http.send(get(url)).await {
                let status = answer.status();
                let whole = answer.into_body().collect().await.is_ok();
                assert!(!(whole && status.is_success()), "{name}: it was taken for an answer");
            }
        });
        siege.withstands(FLAT, attack).await;
        eventually(&format!("the end of {name}"), || {
            (ended.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
    }
}
