//! A compressed reply is decoded or watched within bounds, and the credential does not come through.
#![no_main]

use http::{HeaderMap, HeaderValue, Response};
use keyferry::base::secret::Secret;
use keyferry::scrub::{self, Needles};
use keyferry_fuzz::{cut, drained, holds, streamed};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

const VALUE: &[u8] = b"ghp_16C7e42F292c";
const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];
/// No text of a few kilobytes expands beyond this under the bomb's threshold.
const MOST: usize = 64 << 20;

static NEEDLES: LazyLock<[Arc<Needles>; 1]> = LazyLock::new(|| {
    let secret = Secret::new(VALUE.to_vec()).unwrap();
    [Arc::new(Needles::new([(&secret, None)]))]
});

#[derive(Debug, Arbitrary)]
struct Reply<'a> {
    coding: u8,
    offered: bool,
    grpc: bool,
    bytes: &'a [u8],
    cuts: Vec<u16>,
}

fuzz_target!(|reply: Reply| {
    let coding = CODINGS[usize::from(reply.coding) % 4];
    let mut headers = HeaderMap::new();
    headers.insert(
        "accept-encoding",
        HeaderValue::from_static(if reply.offered { coding } else { "identity" }),
    );
    let asked = scrub::ask(&mut headers);
    let content_type = if reply.grpc { "application/grpc" } else { "text/plain" };
    let response = Response::builder()
        .header("content-type", content_type)
        .header("content-encoding", coding);
    let (mut parts, ()) = response.body(()).unwrap().into_parts();
    let body = streamed(cut(reply.bytes, &reply.cuts));
    let Ok(body) = scrub::reply(&mut parts, body, &*NEEDLES, asked, &Arc::default()) else {
        return;
    };
    let (got, ended) = drained(body);
    if reply.offered {
        assert!(!holds(&got, VALUE) && got.len() < MOST, "{} bytes", got.len());
    } else {
        assert!(reply.bytes.starts_with(&got), "watched bytes changed");
        assert!(!ended || got.len() == reply.bytes.len());
    }
});
