//! A request that is refused while its body is still to come: the answer arrives whole, the connection goes on, and
//! nothing of the body is kept.

use super::{FLAT, Siege};
use crate::hostile::frames::{Frames, RST_STREAM};
use tokio::io::{AsyncRead, AsyncWrite};

type List<'a> = Vec<(&'a str, &'a str)>;

fn post<'a>(scheme: &'a str, authority: &'a str, path: &'a str) -> List<'a> {
    vec![
        (":method", "POST"),
        (":scheme", scheme),
        (":authority", authority),
        (":path", path),
    ]
}

/// Sends a head with a part of its body, hears the refusal, and sends the rest. Less in all than a stream's first
/// window (RFC 9113 §6.9.2).
async fn refused<I: AsyncRead + AsyncWrite + Unpin>(frames: &mut Frames<I>, stream: u32, list: &List<'_>, status: u16) {
    frames.head(stream, list, false).await;
    for _ in 0..3 {
        frames.data(stream, &[7; 15_000], false).await;
    }
    let outcome = frames.outcome(stream).await;
    assert_eq!(outcome.status(), status, "{outcome:?}");
    frames.data(stream, &[7; 15_000], true).await;
}

/// No stream was reset: some clients take that for a failure of the answer too.
fn no_resets<I: AsyncRead + AsyncWrite + Unpin>(frames: &Frames<I>, refusals: u32) {
    for n in 0..refusals {
        let kinds = frames.kinds(2 * n + 1);
        assert!(!kinds.contains(&RST_STREAM), "refusal {n} came with a reset: {kinds:?}");
    }
}

#[tokio::test]
async fn a_refusal_over_http2_is_whole_and_its_body_is_let_go_of() {
    let siege = Siege::with("streams: 100", async |rig, _| {
        rig.reach_as("narrow.test", "127.0.0.1:9".parse().unwrap())
            .rule("host: narrow.test, allow: [\"POST /upload\"]")
    })
    .await;
    let many: Vec<(String, String)> = (0..150).map(|n| (format!("x-{n}"), "a".to_owned())).collect();
    let mut lists = [
        (403, post("https", "narrow.test", "/other")),
        (421, post("https", "api.test", "/upload")),
        (405, post("https", "narrow.test", "/upload")),
        (431, post("https", "narrow.test", "/upload")),
    ];
    lists[2].1[0].1 = "TRACE";
    lists[3]
        .1
        .extend(many.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let attack = async {
        let mut frames = Frames::greet(siege.hostile.tls("narrow.test", &["h2"]).await).await;
        // Together far more than the connection's window: each body's part of it must be given back.
        for (n, (status, list)) in (0..64).zip(lists.iter().cycle()) {
            refused(&mut frames, 2 * n + 1, list, *status).await;
        }
        no_resets(&frames, 64);
    };
    siege.withstands(FLAT, attack).await;
    assert!(siege.origin.seen().iter().all(|one| one.target == "/hello"));
}

#[tokio::test]
async fn a_refusal_on_the_proxy_port_over_http2_is_whole_too() {
    let siege = Siege::under("streams: 100").await;
    let token = siege.hostile.offer.clone().unwrap();
    let known = |scheme, authority| {
        let mut list = post(scheme, authority, "/upload");
        list.push(("proxy-authorization", token.as_str()));
        list
    };
    let mut frames = Frames::greet(siege.hostile.dial().await.io).await;
    // Nobody; a host that no rule has; TLS without a CONNECT.
    let lists = [
        (407, post("http", "api.test", "/upload")),
        (403, known("http", "other.test")),
        (400, known("https", "api.test")),
    ];
    for (n, (status, list)) in (0..12).zip(lists.iter().cycle()) {
        refused(&mut frames, 2 * n + 1, list, *status).await;
    }
    no_resets(&frames, 12);
}
