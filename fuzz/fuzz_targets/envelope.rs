//! gRPC messages keep their lengths, tell nothing, and are never held back at their end.
#![no_main]

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::Response;
use http_body_util::BodyExt as _;
use keyferry::base::budget::Budget;
use keyferry::base::secret::Secret;
use keyferry::scrub::{self, Needles};
use keyferry_fuzz::{cut, drained, holds, streamed};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

const VALUE: &[u8] = b"ghp_16C7e42F292c";

static NEEDLES: LazyLock<[Arc<Needles>; 1]> = LazyLock::new(|| {
    let secret = Secret::new(VALUE.to_vec()).unwrap();
    [Arc::new(Needles::new([(&secret, None)]))]
});

#[derive(Debug, Arbitrary)]
struct Message<'a> {
    compressed: bool,
    before: &'a [u8],
    /// How much of the credential stands in it.
    part: u8,
    after: &'a [u8],
}

#[derive(Debug, Arbitrary)]
struct Reply<'a> {
    kind: u8,
    messages: Vec<Message<'a>>,
    tail: &'a [u8],
    cuts: Vec<u16>,
}

const KINDS: [&str; 4] = [
    "application/grpc",
    "application/grpc-web+proto",
    "application/connect+json",
    "APPLICATION/GRPC+x",
];

fuzz_target!(|reply: Reply| {
    let bodies = reply.messages.iter().map(|message| {
        let part = &VALUE[..usize::from(message.part) % (VALUE.len() + 1)];
        [message.before, part, message.after].concat()
    });
    let bodies: Vec<Vec<u8>> = bodies.collect();
    let framed = |flag: bool, body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[u8::from(flag)], &length[..], body].concat()
    };
    let kind = KINDS[usize::from(reply.kind) % KINDS.len()];
    at_once(kind, &bodies);
    let sent: Vec<Vec<u8>> = reply
        .messages
        .iter()
        .zip(&bodies)
        .map(|(m, body)| framed(m.compressed, body))
        .collect();
    let whole = [sent.concat(), reply.tail.to_vec()].concat();
    let (got, ended) = drained(through(kind, cut(&whole, &reply.cuts)));
    assert!(!holds(&got, VALUE), "the credential came back");
    if reply.messages.iter().any(|message| message.compressed) {
        assert!(!ended, "a compressed message passed");
        let clear: usize = reply
            .messages
            .iter()
            .zip(&sent)
            .take_while(|(m, _)| !m.compressed)
            .map(|(_, s)| s.len())
            .sum();
        assert!(got.len() <= clear, "some of a compressed message passed");
        return;
    }
    if ended {
        let mut expected = Vec::new();
        for message in sent {
            let mut message = message;
            NEEDLES[0].mask(&mut message);
            expected.extend(message);
        }
        assert!(got.starts_with(&expected), "a message changed its length or more");
        assert_eq!(got.len(), whole.len());
    }
});

fn through(kind: &str, pieces: Vec<Bytes>) -> keyferry::base::body::Body {
    let (mut parts, ()) = Response::builder()
        .header("content-type", kind)
        .body(())
        .unwrap()
        .into_parts();
    scrub::reply(
        &mut parts,
        streamed(pieces),
        &*NEEDLES,
        scrub::Asked::default(),
        &Arc::default(),
        &Budget::default(),
    )
    .unwrap()
}

/// A peer that waits for each message before it says more gets each one whole.
fn at_once(kind: &str, bodies: &[Vec<u8>]) {
    let pieces = bodies.iter().map(|body| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        Bytes::from([&[0], &length[..], body].concat())
    });
    let pieces: Vec<Bytes> = pieces.collect();
    let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
    // One piece in, and then silence: what is out by then is all that the peer will ever see of it.
    for end in 1..=lengths.len().min(4) {
        let given = futures_util::stream::iter(pieces[..end].to_vec()).map(Ok::<_, keyferry::base::body::BoxError>);
        let silent = given
            .map(|piece| piece.map(http_body::Frame::data))
            .chain(futures_util::stream::pending());
        let body = keyferry::base::body::Body::wrap(http_body_util::StreamBody::new(silent));
        let (mut parts, ()) = Response::builder()
            .header("content-type", kind)
            .body(())
            .unwrap()
            .into_parts();
        let mut body = scrub::reply(
            &mut parts,
            body,
            &*NEEDLES,
            scrub::Asked::default(),
            &Arc::default(),
            &Budget::default(),
        )
        .unwrap();
        let mut got = 0;
        while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
            got += frame.data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(got, lengths[..end].iter().sum::<usize>(), "a message is held back");
    }
}
