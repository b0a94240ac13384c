//! Whoever asks for much and takes nothing: what waits for it is bounded, and it is given up in the end.

use super::agent2::{PREFACE, WINDOW_UPDATE};
use super::{FLAT, Siege, on_each};
use crate::hostile::frames::{END_HEADERS, END_STREAM, HEADERS, SETTINGS, fields, frame};
use crate::rig::agent::{Agent, Raw, status};
use crate::rig::root::Root;
use crate::rig::script::Script;
use crate::rig::{eventually, soon};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};

const LIMITS: &str = "stall_time: 2s, response_time: 20s";

#[tokio::test]
async fn a_download_that_nobody_reads_waits_in_bounds_and_is_given_up() {
    let siege = Siege::under(LIMITS).await;
    let asking = on_each(12, async |at| {
        if at % 2 == 0 {
            let mut raw = siege.hostile.raw("api.test").await;
            raw.say("GET /download?bytes=300000000 HTTP/1.1\r\nHost: api.test\r\n\r\n")
                .await;
            return raw.io;
        }
        // Room for everything is promised on twenty streams, and no byte is read.
        let ask = fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "api.test"),
            (":path", "/download?bytes=300000000"),
        ]);
        let much = 0x3fff_ffff_u32.to_be_bytes();
        let windows = frame(SETTINGS, 0, 0, &[&[0, 4], &much[..]].concat());
        let mut said = [PREFACE, &windows, &frame(WINDOW_UPDATE, 0, 0, &much)].concat();
        for n in 0..20 {
            said.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &ask));
        }
        let mut raw = Raw::new(siege.hostile.tls("api.test", &["h2"]).await);
        raw.say(&said).await;
        raw.io
    });
    let attack = async {
        let _held = asking.await;
        eventually("every download cut short at the origin", || {
            let seen = siege.origin.seen();
            let downloads = seen.iter().filter(|one| one.target.starts_with("/download"));
            let cut = downloads.filter(|one| one.answered == Some(false)).count();
            (cut == 126).then_some(())
        })
        .await;
    };
    // 126 downloads, of which each may have some 200 KiB on the way.
    siege.withstands(2 * FLAT, attack).await;
}

#[tokio::test]
async fn a_websocket_whose_echo_nobody_reads_is_given_up() {
    let siege = Siege::under(LIMITS).await;
    let attack = on_each(6, async |_| {
        let mut raw = siege.hostile.raw("api.test").await;
        raw.say(
            "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
        assert_eq!(status(&raw.head().await), 101);
        let message = [&[0x82, 0xfe, 0x40, 0, 0, 0, 0, 0], &[7; 0x4000][..]].concat();
        let pouring = async { while raw.io.write_all(&message).await.is_ok() {} };
        soon("the end of the WebSocket", pouring).await;
    });
    siege.withstands(FLAT, attack).await;
}

#[tokio::test]
async fn a_tunnel_or_an_upload_that_the_upstream_does_not_read_is_given_up() {
    let siege = Siege::with(LIMITS, async |rig, root: &Root| {
        let deaf = Script::start(root, "deaf.test", |mut line| async move {
            line.head().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        let mute = Script::tcp("mute.test", |tcp| async move {
            let _kept = tcp;
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        let rig = rig.reach_script(&deaf.await).rule("host: deaf.test");
        rig.reach_script(&mute.await)
            .rule("host: \"mute.test:8000\", tunnel: true")
    })
    .await;
    let upload = on_each(4, async |_| {
        let mut raw = siege.hostile.raw("deaf.test").await;
        raw.say("POST / HTTP/1.1\r\nHost: deaf.test\r\nContent-Length: 1000000000\r\n\r\n")
            .await;
        pour(&mut raw).await;
    });
    let tunnel = on_each(4, async |_| pour(&mut opened(&siege.hostile).await).await);
    siege.withstands(FLAT, async { tokio::join!(upload, tunnel) }).await;
}

async fn opened(agent: &Agent) -> Raw<tokio::net::TcpStream> {
    let (status, head, mut raw) = agent.connect("mute.test:8000").await;
    assert_eq!(status, 200, "{head}");
    raw.say([0; 64]).await;
    raw
}

async fn pour<I: tokio::io::AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<I>) {
    let piece = [0; 16 * 1024];
    let pouring = async { while raw.io.write_all(&piece).await.is_ok() {} };
    soon("the end of what nobody takes", pouring).await;
}
