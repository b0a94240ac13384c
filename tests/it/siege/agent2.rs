//! Floods of HTTP/2 frames from an agent, inside its TLS and on the proxy port: each ends with its connection.

use super::{FLAT, Siege, on_each};
use crate::hostile::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
};
use crate::hostile::frames::{fields, frame};
use crate::rig::soon;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub const PRIORITY: u8 = 2;
pub const WINDOW_UPDATE: u8 = 8;
/// A kind of frame that nobody has defined (RFC 9113 §5.5).
pub const UNKNOWN: u8 = 0x42;
const PADDED: u8 = 8;
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes written at a time.
const BATCH: usize = 32 * 1024;

/// What is said once, and what is said again and again; counted, for the streams.
pub struct Flood {
    pub name: &'static str,
    before: fn() -> Vec<u8>,
    again: fn(u32) -> Vec<u8>,
}

impl Flood {
    pub const fn new(name: &'static str, before: fn() -> Vec<u8>, again: fn(u32) -> Vec<u8>) -> Self {
        Self { name, before, again }
    }
}

fn request(method: &str) -> Vec<u8> {
    fields(&[
        (":method", method),
        (":scheme", "https"),
        (":authority", "api.test"),
        (":path", "/upload"),
    ])
}

/// The n-th stream of a client.
fn stream(n: u32) -> u32 {
    (2 * n + 1) & 0x7fff_ffff
}

/// A block that puts one long field into the table, and then names it ten thousand times (RFC 7541 §6.1, §6.2.1).
pub fn bomb() -> Vec<u8> {
    let mut long = fields(&[("x-long", &"a".repeat(4000))]);
    long[0] = 0x40;
    [long, vec![0xbe; 10_000]].concat()
}

/// A stream that waits for its body.
fn open() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &request("POST"))
}

/// The first part of a head.
fn half() -> Vec<u8> {
    frame(HEADERS, 0, 1, &request("GET"))
}

const FLOODS: &[Flood] = &[
    Flood::new("pings", Vec::new, |_| frame(PING, 0, 0, &[0; 8])),
    Flood::new("answers to pings", Vec::new, |_| frame(PING, 1, 0, &[0; 8])),
    Flood::new("settings", Vec::new, |_| frame(SETTINGS, 0, 0, &[])),
    Flood::new("settings that change", Vec::new, |n| {
        let size = (n % 2 * 4096).to_be_bytes();
        frame(SETTINGS, 0, 0, &[&[0, 1], &size[..]].concat())
    }),
    Flood::new("answers to settings", Vec::new, |_| frame(SETTINGS, 1, 0, &[])),
    Flood::new("farewells", Vec::new, |_| frame(GOAWAY, 0, 0, &[0; 8])),
    Flood::new("frames of an unknown kind", Vec::new, |_| frame(UNKNOWN, 0, 0, &[0; 4])),
    Flood::new("room on the connection", Vec::new, |_| {
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())
    }),
    Flood::new("rapid resets", Vec::new, |n| {
        let reset = frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes());
        [
            frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &request("GET")),
            reset,
        ]
        .concat()
    }),
    Flood::new("resets that we are made to send", Vec::new, |n| {
        let wrong = frame(WINDOW_UPDATE, 0, stream(n), &0_u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS, stream(n), &request("POST")), wrong].concat()
    }),
    Flood::new("streams without end", Vec::new, |n| {
        frame(HEADERS, END_HEADERS, stream(n), &request("POST"))
    }),
    Flood::new("HPACK bombs", Vec::new, |n| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &bomb())
    }),
    Flood::new("empty pieces", open, |_| frame(DATA, 0, 1, &[])),
    Flood::new("pieces of padding", open, |_| {
        frame(DATA, PADDED, 1, &[&[255], &[0; 255][..]].concat())
    }),
    Flood::new("priorities", open, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7])),
    Flood::new("room in a stream", open, |_| {
        frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())
    }),
    Flood::new("second heads", open, |_| {
        frame(HEADERS, END_HEADERS, 1, &request("POST"))
    }),
    Flood::new("empty pieces of a head", half, |_| frame(CONTINUATION, 0, 1, &[])),
    Flood::new("pieces of a head", half, |n| {
        frame(CONTINUATION, 0, 1, &fields(&[(&format!("x-{n}"), &"a".repeat(8000))]))
    }),
    Flood::new("pieces of a head of small fields", half, |_| {
        frame(CONTINUATION, 0, 1, &[0x82; 8000])
    }),
];

/// Pours until the other side ends the connection, and reads meanwhile if `reads`; how many were sent.
pub async fn poured<I: AsyncRead + AsyncWrite>(io: I, greeting: &[u8], flood: &Flood, reads: bool) -> u32 {
    let (mut read, mut write) = tokio::io::split(io);
    let sent = AtomicU32::new(0);
    let drained = async {
        if !reads {
            std::future::pending::<()>().await;
        }
        let mut buffer = [0; 16 * 1024];
        while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    let pouring = async {
        let mut batch = [greeting, &frame(SETTINGS, 0, 0, &[]), &(flood.before)()].concat();
        loop {
            while batch.len() < BATCH {
                batch.extend((flood.again)(sent.fetch_add(1, Ordering::Relaxed)));
            }
            if write.write_all(&batch).await.is_err() || write.flush().await.is_err() {
                return;
            }
            batch.clear();
        }
    };
    let ended = async {
        tokio::select! { () = drained => {} () = pouring => {} }
    };
    soon(&format!("the end of a flood of {}", flood.name), ended).await;
    sent.into_inner()
}

#[tokio::test]
async fn whatever_an_agent_sends_without_end_ends_its_connection() {
    let siege = Siege::under("head_time: 3s, response_time: 3s, stall_time: 3s").await;
    for flood in FLOODS {
        let attack = async {
            let inside = on_each(3, async |_| {
                poured(siege.hostile.tls("api.test", &["h2"]).await, PREFACE, flood, true).await
            });
            let outside = on_each(3, async |_| {
                poured(siege.hostile.dial().await.io, PREFACE, flood, true).await
            });
            tokio::join!(inside, outside)
        };
        siege.withstands(FLAT, attack).await;
    }
    // What was opened to be reset was not all sent on.
    let asked = siege.origin.seen().iter().filter(|one| one.target == "/upload").count();
    assert!(asked < 20_000, "{asked} requests reached the origin");
}

#[tokio::test]
async fn an_agent_that_floods_and_never_reads_is_ended_too() {
    let siege = Siege::under("head_time: 2s, response_time: 2s, stall_time: 2s").await;
    for name in [
        "pings",
        "settings",
        "rapid resets",
        "streams without end",
        "HPACK bombs",
    ] {
        let flood = FLOODS.iter().find(|flood| flood.name == name).unwrap();
        let attack = on_each(3, async |_| {
            poured(siege.hostile.tls("api.test", &["h2"]).await, PREFACE, flood, false).await
        });
        siege.withstands(FLAT, attack).await;
    }
}
