use super::*;
use crate::base::budget::Budget;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use flate2::{Compression, GzBuilder};
use http::StatusCode;
use http::response::Parts;
use std::io::Write as _;

/// Forty events and then `token=` with [`TOKEN`], as another implementation compressed it.
const BROTLI: &str = "1b1e06801c07760cf945bb8871306c8e182b6be7b47e3f4cfec9311810cb2a498c4a2ac4d0a4ce5e9f075cf4a34a8a4953660a6c\
                      c081a4c3c3360e318a8d309e7415aa2227ecf3a4389b5b3af78d7cc55ebb465d3e8a3640cc0a96e6907708c54d";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
        .collect()
}

fn text(token: &str) -> Vec<u8> {
    format!(
        "{}token={token}\n",
        "data: {\"text\":\"a line that repeats\"}\n\n".repeat(40)
    )
    .into_bytes()
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    fn written<W: std::io::Write>(mut to: W, text: &[u8]) -> W {
        to.write_all(text).unwrap();
        to
    }
    match coding {
        "gzip" => written(GzEncoder::new(Vec::new(), Compression::default()), text)
            .finish()
            .unwrap(),
        "two gzip members" => {
            let (one, two) = text.split_at(text.len() / 2);
            [coded("gzip", one), coded("gzip", two)].concat()
        }
        "deflate" => written(ZlibEncoder::new(Vec::new(), Compression::default()), text)
            .finish()
            .unwrap(),
        "bare deflate" => written(DeflateEncoder::new(Vec::new(), Compression::default()), text)
            .finish()
            .unwrap(),
        "zstd" => zstd::encode_all(text, 3).unwrap(),
        "two zstd frames" => {
            let (one, two) = text.split_at(text.len() / 2);
            [coded("zstd", one), coded("zstd", two)].concat()
        }
        other => panic!("{other}"),
    }
}

/// Each kind of stream with its `Content-Encoding`.
fn all_streams() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![("br", unhex(BROTLI))];
    for kind in [
        "gzip",
        "two gzip members",
        "deflate",
        "bare deflate",
        "zstd",
        "two zstd frames",
    ] {
        let name = kind
            .split(' ')
            .find(|w| ["gzip", "deflate", "zstd"].contains(w))
            .unwrap();
        all.push((name, coded(kind, &text(TOKEN))));
    }
    all
}

fn parts(pairs: &[(&str, &str)]) -> Parts {
    let response = pairs
        .iter()
        .fold(http::Response::builder(), |b, (n, v)| b.header(*n, *v));
    response.body(()).unwrap().into_parts().0
}

fn offered(codings: &str) -> Asked {
    let mut headers = HeaderMap::new();
    headers.insert("accept-encoding", codings.parse().unwrap());
    ask(&mut headers)
}

/// Sends a coded body through [`reply`].
fn through(coding: &str, list: Vec<Bytes>, asked: Asked, value: &str) -> (Outcome, Parts, u64) {
    let length: usize = list.iter().map(Bytes::len).sum();
    let mut parts = parts(&[
        ("content-encoding", coding),
        ("content-length", &length.to_string()),
        ("etag", "\"1\""),
    ]);
    let hits = Arc::new(AtomicU64::new(0));
    let body = reply(
        &mut parts,
        pieces(list, None, false),
        &[needles(&[(value, Some(STAND_IN))])],
        asked,
        &hits,
        &Budget::default(),
    );
    (drain(body.unwrap()), parts, hits.load(Ordering::Relaxed))
}

#[test]
fn a_compressed_body_is_decoded_and_masked_wherever_it_is_cut() {
    for (name, stream) in all_streams() {
        for cuts in [
            vec![],
            vec![1],
            vec![1, 2, 3, 9, 10, 11, 40],
            (0..stream.len()).collect(),
        ] {
            let (out, parts, hits) = through(name, cut(&stream, &cuts), offered("gzip, deflate, br, zstd"), TOKEN);
            assert_eq!(out.error, None, "{name}");
            assert_eq!(out.data(), text(STAND_IN), "{name}");
            assert_eq!(hits, 1);
            let names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
            assert_eq!(names, ["etag"]);
        }
    }
}

#[test]
fn empty_pieces_do_not_end_a_compressed_body() {
    for (name, stream) in all_streams() {
        let list = cut(&stream, &[1, 9, 40]).into_iter();
        let list: Vec<_> = list
            .flat_map(|piece| std::iter::repeat_n(Bytes::new(), 40).chain([piece]))
            .collect();
        let (out, _, hits) = through(name, list.clone(), offered("gzip, deflate, br, zstd"), TOKEN);
        assert_eq!((out.error.as_deref(), hits), (None, 1), "{name}");
        assert_eq!(out.data(), text(STAND_IN), "{name}");
        let (out, _, hits) = through(name, list, Asked::default(), "another-secret-value");
        assert_eq!((out.error.as_deref(), hits), (None, 0), "{name}");
        assert_eq!(out.data(), stream, "{name}");
    }
}

#[test]
fn a_watched_body_keeps_its_bytes_and_its_length() {
    for (name, stream) in all_streams() {
        for cuts in [vec![], vec![1], (0..stream.len()).collect()] {
            let list = cut(&stream, &cuts);
            let (out, parts, hits) = through(name, list, Asked::default(), "another-secret-value");
            assert_eq!((out.error.as_deref(), hits), (None, 0), "{name}");
            assert_eq!(out.data(), stream, "{name}");
            assert_eq!(parts.headers["content-encoding"], name);
            assert_eq!(parts.headers["content-length"], stream.len().to_string());
        }
    }
}

#[test]
fn a_watched_body_with_the_credential_is_cut_before_it() {
    for (name, stream) in all_streams() {
        for cuts in [vec![], (0..stream.len()).collect()] {
            let (out, _, hits) = through(name, cut(&stream, &cuts), Asked::default(), TOKEN);
            assert_eq!(
                (out.error.as_deref(), hits),
                (Some(Unscrubbable::Echoed.to_string().as_str()), 1),
                "{name}"
            );
            assert!(out.data().len() < stream.len());
        }
    }
}

#[test]
fn plain_text_inside_a_watched_stream_is_seen_as_well() {
    let mut gzip = GzBuilder::new().comment(TOKEN).write(Vec::new(), Compression::fast());
    gzip.write_all(b"nothing here").unwrap();
    let stream = gzip.finish().unwrap();
    for cuts in [vec![], vec![20], (0..stream.len()).collect()] {
        let (out, ..) = through("gzip", cut(&stream, &cuts), Asked::default(), TOKEN);
        assert_eq!(out.error, Some(Unscrubbable::Echoed.to_string()));
        assert!(!out.data().windows(5).any(|w| w == &TOKEN.as_bytes()[..5]));
    }
    let behind = [coded("gzip", b"nothing"), TOKEN.as_bytes().to_vec()].concat();
    assert!(
        through("gzip", vec![behind.clone().into()], Asked::default(), TOKEN)
            .0
            .error
            .is_some()
    );
    assert_eq!(
        through("gzip", vec![behind.into()], offered("gzip"), TOKEN).0.data(),
        b"nothing"
    );
}

#[test]
fn an_event_in_a_compressed_stream_is_passed_on_at_once() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    let mut lists = [Vec::new(), Vec::new()];
    for event in ["data: one\n\n", "data: two\n\n"] {
        gzip.write_all(event.as_bytes()).unwrap();
        gzip.flush().unwrap();
        lists[0].push(Bytes::from(std::mem::take(gzip.get_mut())));
        zstd.write_all(event.as_bytes()).unwrap();
        zstd.flush().unwrap();
        lists[1].push(Bytes::from(std::mem::take(zstd.get_mut())));
    }
    lists[0].push(gzip.finish().unwrap().into());
    lists[1].push(zstd.finish().unwrap().into());
    let brotli = ["0b0580646174613a206f6e650a0a", "5000805f5ae18dee4e11a24a04600b", "03"].map(|p| unhex(p).into());
    let [gzip, zstd] = lists;
    for (name, list) in [("gzip", gzip), ("zstd", zstd), ("br", brotli.to_vec())] {
        let (out, ..) = through(name, list, offered(name), TOKEN);
        assert_eq!(out.frames, ["data: one\n\n", "data: two\n\n"], "{name}");
    }
}

#[test]
fn a_truncated_or_broken_stream_does_not_end_well() {
    for (name, stream) in all_streams() {
        let short = stream[..stream.len() - 3].to_vec();
        let (out, ..) = through(name, vec![short.clone().into()], offered(name), "another-secret-value");
        assert!(out.error.is_some(), "{name}");
        // The agent has the compressed bytes and sees for itself.
        let (out, ..) = through(
            name,
            vec![short.clone().into()],
            Asked::default(),
            "another-secret-value",
        );
        assert_eq!((out.data(), out.error), (short, None), "{name}");
    }
    for name in ["gzip", "deflate", "br", "zstd"] {
        for asked in [Asked::default(), offered(name)] {
            let (out, ..) = through(
                name,
                vec![Bytes::from_static(b"\x1f\x8b not at all what it says")],
                asked,
                TOKEN,
            );
            assert!(out.error.is_some(), "{name}");
        }
        let (out, ..) = through(name, vec![], offered(name), TOKEN);
        assert_eq!((out.error, out.frames.len()), (None, 0));
    }
}

#[test]
fn a_bomb_is_cut_and_never_in_memory_at_once() {
    let zeros = vec![0; 80 << 20];
    for name in ["gzip", "zstd"] {
        let bomb = coded(name, &zeros);
        for asked in [Asked::default(), offered(name)] {
            let (out, ..) = through(name, vec![bomb.clone().into()], asked, TOKEN);
            assert!(out.error.unwrap().contains("bomb"), "{name}");
            assert!(out.frames.iter().all(|f| f.len() <= bomb.len().max(16 * 1024)));
        }
    }
}

#[test]
fn what_cannot_be_looked_into_is_refused_unless_there_is_no_body() {
    let set = [needles(&[(TOKEN, None)])];
    for coding in ["compress", "gzip, gzip", "dcb"] {
        let mut head = parts(&[("content-encoding", coding)]);
        let refused = reply(
            &mut head,
            Body::full("x"),
            &set,
            Asked::default(),
            &Arc::default(),
            &Budget::default(),
        );
        assert_eq!(refused.unwrap_err().code(), "response_not_scrubbable");
        assert!(
            reply(
                &mut head,
                Body::Empty,
                &set,
                Asked::default(),
                &Arc::default(),
                &Budget::default()
            )
            .is_ok()
        );
        assert!(
            reply(
                &mut head,
                Body::full("x"),
                &[],
                Asked::default(),
                &Arc::default(),
                &Budget::default()
            )
            .is_ok()
        );
    }
    let mut range = parts(&[("content-encoding", "gzip")]);
    range.status = StatusCode::PARTIAL_CONTENT;
    assert!(
        reply(
            &mut range,
            Body::full("x"),
            &set,
            Asked::default(),
            &Arc::default(),
            &Budget::default()
        )
        .is_err()
    );
}

#[test]
fn messages_in_a_body_with_a_coding_that_must_stay_are_refused() {
    let set = [needles(&[(TOKEN, None)])];
    for asked in [Asked::default(), offered("gzip")] {
        let mut head = parts(&[("content-encoding", "gzip"), ("content-type", "application/grpc")]);
        let inner = [b"\x01", &10_u32.to_be_bytes()[..], b"compressed"].concat();
        let body = pieces(vec![coded("gzip", &inner).into()], None, false);
        match reply(&mut head, body, &set, asked, &Arc::default(), &Budget::default()) {
            Err(refused) => assert_eq!(refused, Unscrubbable::CompressedMessage),
            Ok(body) => {
                let out = drain(body);
                assert_eq!(
                    (out.data().len(), out.error),
                    (0, Some(Unscrubbable::CompressedMessage.to_string()))
                );
            }
        }
    }
}

#[test]
fn a_reason_phrase_with_the_credential_is_dropped() {
    let mut head = parts(&[]);
    let phrase = hyper::ext::ReasonPhrase::try_from(format!("No {TOKEN}").into_bytes()).unwrap();
    head.extensions.insert(phrase);
    let hits = Arc::new(AtomicU64::new(0));
    reply(
        &mut head,
        Body::Empty,
        &[needles(&[(TOKEN, None)])],
        Asked::default(),
        &hits,
        &Budget::default(),
    )
    .unwrap();
    assert!(head.extensions.get::<hyper::ext::ReasonPhrase>().is_none());
    assert_eq!(hits.load(Ordering::Relaxed), 1);
}
