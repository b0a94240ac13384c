//! Room that one agent, or a crowd of strangers, may take up: heads, streams, connections, requests.

use super::agent2::PREFACE;
use super::{FLAT, Siege, on_each};
use crate::hostile::frames::{END_HEADERS, Frames, HEADERS, Outcome, fields, frame};
use crate::rig::agent::{get, status};
use crate::rig::soon;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const GET: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "api.test"),
    (":path", "/never"),
];

#[tokio::test]
async fn a_head_over_the_cap_is_refused_on_every_way_and_goes_nowhere() {
    let siege = Siege::under("head_bytes: 16KiB").await;
    let long = format!("X-Long: {}\r\n", "a".repeat(20 * 1024));
    let many = "X-Many: a\r\n".repeat(200);
    for fields in [&long, &many] {
        let attack = on_each(10, async |_| {
            let head = format!("GET /over HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n");
            let mut raw = siege.hostile.raw("api.test").await;
            raw.say(&head).await;
            assert_eq!(status(&raw.head().await), 431);
            let mut raw = siege.hostile.dial().await;
            raw.say(format!(
                "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n{fields}\r\n"
            ))
            .await;
            assert_eq!(status(&raw.head().await), 431);
        });
        siege.withstands(FLAT, attack).await;
    }
    let filler: Vec<(String, String)> = (0..200).map(|n| (format!("x-{n}"), "a".to_owned())).collect();
    let long = vec![("x-long".to_owned(), "a".repeat(20 * 1024))];
    for more in [filler, long] {
        let mut list = GET.to_vec();
        list.extend(more.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut frames = Frames::greet(siege.hostile.tls("api.test", &["h2"]).await).await;
        let block = fields(&list);
        let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            let (kind, end) = if at == 0 { (HEADERS, end | 1) } else { (9, end) };
            frames.say(&frame(kind, end, 1, piece)).await;
        }
        assert_eq!(frames.outcome(1).await.status(), 431);
    }
    assert!(siege.origin.seen().iter().all(|one| one.target == "/hello"));
}

#[tokio::test]
async fn streams_over_the_cap_are_refused_and_the_others_go_on() {
    let siege = Siege::under("streams: 8").await;
    let mut frames = Frames::greet(siege.hostile.tls("api.test", &["h2"]).await).await;
    // Asked for before the cap can have been heard of.
    for at in 0..20 {
        frames.head(2 * at + 1, GET, true).await;
    }
    for at in 8..20 {
        // REFUSED_STREAM (RFC 9113 §7): it may be tried again.
        assert_eq!(frames.outcome(2 * at + 1).await, Outcome::Reset(7), "stream {at}");
    }
    siege.origin.saw("the last of those that may be", |_| true).await;
    let seen = || siege.origin.seen().iter().filter(|one| one.target == "/never").count();
    crate::rig::eventually("eight requests", || (seen() == 8).then_some(())).await;
    siege.serves().await;
}

#[tokio::test]
async fn connections_over_an_agents_share_are_refused_with_a_reason_and_others_have_theirs() {
    let siege = Siege::under("agent_connections: 5").await;
    let attack = async {
        let mut held = Vec::new();
        for _ in 0..5 {
            let (status, head, raw) = siege.hostile.connect("api.test:443").await;
            assert_eq!(status, 200, "{head}");
            held.push(raw);
        }
        let mut told = on_each(20, async |_| siege.hostile.connect("api.test:443").await.1).await;
        for head in told.drain(..) {
            assert!(
                status(&head) == 429 && head.contains("x-keyferry-error: agent_limited"),
                "{head}"
            );
        }
        held
    };
    drop(siege.withstands(FLAT, attack).await);
    // What ends makes room.
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while siege.hostile.connect("api.test:443").await.0 != 200 {
        assert!(std::time::Instant::now() < end, "the places were never given back");
    }
}

#[tokio::test]
async fn requests_over_an_agents_share_are_refused_with_a_reason_and_others_have_theirs() {
    let siege = Siege::under("agent_requests: 4").await;
    let attack = async {
        let mut frames = Frames::greet(siege.hostile.tls("api.test", &["h2"]).await).await;
        for at in 0..4 {
            frames.head(2 * at + 1, GET, true).await;
        }
        let waiting = || siege.origin.seen().iter().filter(|one| one.target == "/never").count();
        crate::rig::eventually("four requests", || (waiting() == 4).then_some(())).await;
        for at in 4..30 {
            frames.head(2 * at + 1, GET, true).await;
            assert_eq!(frames.outcome(2 * at + 1).await.status(), 429);
        }
        // On any other connection of its, too.
        let reply = siege.hostile.get("https://api.test/hello").await;
        assert_eq!((reply.status.as_u16(), reply.code()), (429, "agent_limited"));
    };
    siege.withstands(FLAT, attack).await;
}

#[tokio::test]
async fn strangers_who_take_every_place_and_say_nothing_make_room_for_who_is_known() {
    let siege = Siege::under("connections: 400").await;
    let attack = async {
        let mut silent = Vec::new();
        for round in 0..800 {
            let mut tcp = TcpStream::connect(siege.proxy.address).await.unwrap();
            // Some begin to say something.
            let words: &[u8] = [b"", &b"CONNECT api.test:443 HT"[..], &PREFACE[..10]][round % 3];
            tokio::io::AsyncWriteExt::write_all(&mut tcp, words).await.unwrap();
            silent.push(tcp);
            if round % 100 == 0 {
                siege.serves().await;
            }
        }
        // The first of them were shown out.
        let gone = soon("an end", silent[0].read(&mut [0; 64])).await;
        assert!(gone.is_err() || gone.is_ok_and(|count| count == 0));
    };
    siege.withstands(FLAT, attack).await;
}

#[tokio::test]
async fn guesses_at_a_token_cost_a_407_each_and_no_memory() {
    let siege = Siege::under("connections: 100").await;
    let attack = on_each(4, async |at| {
        crate::agents::guesses(&siege.proxy.agent, &at.to_string(), 1000).await;
    });
    siege.withstands(FLAT, attack).await;
    assert_eq!(
        siege
            .honest
            .h2("api.test")
            .await
            .reply(get("https://api.test/hello"))
            .await
            .text(),
        "hello"
    );
}
