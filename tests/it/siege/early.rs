//! A request that is refused while its body is still to come: the answer arrives whole, the connection goes on, and
//! nothing of the body is kept.

use super::{FLAT, Siege};
use crate::hostile::frames::{Frames, RST_STREAM};

fn post<'a>(authority: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
    ]
}

#[tokio::test]
async fn a_refusal_over_http2_is_whole_and_its_body_is_let_go_of() {
    let siege = Siege::with("streams: 100", async |rig, _| {
        rig.reach_as("narrow.test", "127.0.0.1:9".parse().unwrap())
            .rule("host: narrow.test, allow: [\"POST /upload\"]")
    })
    .await;
    let many: Vec<(String, String)> = (0..150).map(|n| (format!("x-{n}"), "a".to_owned())).collect();
    let attack = async {
        let mut frames = Frames::greet(siege.hostile.tls("narrow.test", &["h2"]).await).await;
        let mut stream = 1;
        // Less than a stream's first window (RFC 9113 §6.9.2), and together far more than the connection's: each body's
        // part of it must be given back.
        for _ in 0..16 {
            for (expected, mut list) in [
                (403, post("narrow.test", "/other")),
                (421, post("api.test", "/upload")),
                (405, post("narrow.test", "/upload")),
                (431, post("narrow.test", "/upload")),
            ] {
                match expected {
                    405 => list[0].1 = "TRACE",
                    431 => list.extend(many.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
                    _ => {}
                }
                frames.head(stream, &list, false).await;
                for _ in 0..4 {
                    frames.data(stream, &[7; 15_000], false).await;
                }
                frames.data(stream, b"", true).await;
                assert_eq!(frames.outcome(stream).await.status(), expected);
                let kinds = frames.kinds(stream);
                assert!(
                    !kinds.contains(&RST_STREAM),
                    "a refusal with {expected} came with a reset: {kinds:?}"
                );
                stream += 2;
            }
        }
    };
    siege.withstands(FLAT, attack).await;
    assert!(siege.origin.seen().iter().all(|one| one.target == "/hello"));
}

#[tokio::test]
async fn a_refusal_on_the_proxy_port_over_http2_is_whole_too() {
    let siege = Siege::under("streams: 100").await;
    let token = siege.hostile.offer.clone().unwrap();
    let mut frames = Frames::greet(siege.hostile.dial().await.io).await;
    let lists = [
        // Nobody.
        (
            407,
            vec![
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "api.test"),
                (":path", "/upload"),
            ],
        ),
        // A host that no rule has.
        (
            403,
            vec![
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "other.test"),
                (":path", "/upload"),
                ("proxy-authorization", token.as_str()),
            ],
        ),
        // TLS is asked for with no CONNECT.
        (
            400,
            vec![
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", "api.test"),
                (":path", "/upload"),
                ("proxy-authorization", token.as_str()),
            ],
        ),
    ];
    for ((expected, list), stream) in lists.iter().zip([1, 3, 5]) {
        frames.head(stream, list, false).await;
        for _ in 0..4 {
            frames.data(stream, &[7; 15_000], false).await;
        }
        frames.data(stream, b"", true).await;
        let outcome = frames.outcome(stream).await;
        assert_eq!(outcome.status(), *expected, "{outcome:?}");
        let kinds = frames.kinds(stream);
        assert!(
            !kinds.contains(&RST_STREAM),
            "a refusal with {expected} came with a reset: {kinds:?}"
        );
    }
}
