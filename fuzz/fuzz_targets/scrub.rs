//! No credential leaves a reply, wherever the network cuts it, and no length changes.
#![no_main]

use keyferry::base::secret::Secret;
use keyferry::scrub::{self, Needles};
use keyferry_fuzz::{cut, drained, holds, streamed};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Debug, Arbitrary)]
struct Reply<'a> {
    secret: &'a [u8],
    stand_in: Option<&'a str>,
    parts: Vec<Part<'a>>,
    cuts: Vec<u16>,
}

#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Text(&'a [u8]),
    Secret,
    Hex,
    Start(u8),
}

fuzz_target!(|reply: Reply| {
    // What the mask is made of cannot be a credential as well.
    if reply.secret.len() > 200 || reply.secret.contains(&b'*') {
        return;
    }
    let Ok(secret) = Secret::new(reply.secret.to_vec()) else {
        return;
    };
    let value: Vec<u8> = secret.expose(<[u8]>::to_vec);
    let stand_in = reply.stand_in.filter(|text| text.bytes().all(|b| !value.contains(&b)));
    let mut sent = Vec::new();
    for part in &reply.parts {
        match part {
            Part::Text(text) => sent.extend_from_slice(text),
            Part::Secret => sent.extend_from_slice(&value),
            Part::Hex => sent.extend(value.iter().flat_map(|b| format!("{b:02x}").into_bytes())),
            Part::Start(n) => sent.extend_from_slice(&value[..usize::from(*n) % value.len()]),
        }
    }
    let needles = Arc::new(Needles::new([(&secret, stand_in)]));
    let hits = Arc::default();
    let body = scrub::body(streamed(cut(&sent, &reply.cuts)), &[Arc::clone(&needles)], &hits);
    let (got, ended) = drained(body);
    assert!(ended);
    assert_eq!(got.len(), sent.len());
    let mut whole = sent;
    assert_eq!(needles.mask(&mut whole), hits.load(Ordering::Relaxed));
    assert_eq!(got, whole, "the pieces matter");
    if value.len() >= scrub::MIN_SEARCHED {
        assert!(!holds(&got, &value));
    }
});
