//! A compressed reply is decoded or watched within bounds, and the credential does not come through.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use keyferry::base::budget::Budget;
use keyferry::base::secret::Secret;
use keyferry::scrub::{self, Needles};
use keyferry_fuzz::{cut, drained, holds, streamed};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::io::{Read as _, Write};
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
    accept: &'a [u8],
    bytes: &'a [u8],
    parts: Vec<Part<'a>>,
    level: u8,
    cuts: Vec<u16>,
}

#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Text(&'a [u8]),
    Value,
    Start(u8),
    Flush,
}

fuzz_target!(|reply: Reply| {
    asking(reply.accept);
    let coding = CODINGS[usize::from(reply.coding) % 4];
    raw(&reply, coding);
    whole(&reply, coding);
});

/// Whatever an agent takes, no more is asked for than can be decoded.
fn asking(accept: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(accept) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert("accept-encoding", value);
    scrub::ask(&mut headers);
    let asked = headers["accept-encoding"].to_str().unwrap().to_ascii_lowercase();
    for item in asked.split(',') {
        let name = item.split(';').next().unwrap().trim();
        assert!(
            CODINGS.contains(&name) || ["x-gzip", "identity"].contains(&name),
            "{asked:?}"
        );
    }
}

fn through(reply: &Reply, coding: &'static str, bytes: &[u8], grpc: bool) -> Option<(Vec<u8>, bool)> {
    let mut headers = HeaderMap::new();
    headers.insert(
        "accept-encoding",
        HeaderValue::from_static(if reply.offered { coding } else { "identity" }),
    );
    let asked = scrub::ask(&mut headers);
    let content_type = if grpc { "application/grpc" } else { "text/plain" };
    let response = Response::builder()
        .header("content-type", content_type)
        .header("content-encoding", coding);
    let (mut parts, ()) = response.body(()).unwrap().into_parts();
    let pieces: Vec<Bytes> = cut(bytes, &reply.cuts);
    let body = scrub::reply(
        &mut parts,
        streamed(pieces),
        &*NEEDLES,
        asked,
        &Arc::default(),
        &Budget::default(),
    );
    body.ok().map(drained)
}

/// Bytes that may be anything.
fn raw(reply: &Reply, coding: &'static str) {
    let Some((got, ended)) = through(reply, coding, reply.bytes, reply.grpc) else {
        return;
    };
    if reply.offered {
        assert!(!holds(&got, VALUE) && got.len() < MOST, "{} bytes", got.len());
    } else {
        assert!(reply.bytes.starts_with(&got), "watched bytes changed");
        assert!(!ended || got.len() == reply.bytes.len());
        assert!(
            !holds(&got, VALUE) && !holds(&decoded(coding, &got), VALUE),
            "the credential passed"
        );
    }
}

/// A true stream of this coding, by another's encoder.
fn whole(reply: &Reply, coding: &'static str) {
    let mut text = Vec::new();
    let mut writes = Vec::new();
    for part in &reply.parts {
        let piece = match part {
            Part::Text(text) => text,
            Part::Value => VALUE,
            Part::Start(n) => &VALUE[..usize::from(*n) % VALUE.len()],
            Part::Flush => {
                writes.push(None);
                continue;
            }
        };
        text.extend_from_slice(piece);
        writes.push(Some(piece));
    }
    let stream = encoded(coding, reply.level, &writes);
    let Some((got, ended)) = through(reply, coding, &stream, false) else {
        panic!("an honest reply was refused")
    };
    let told = NEEDLES[0].found_in(&text);
    if reply.offered {
        NEEDLES[0].mask(&mut text);
        assert!(ended && got == text, "the text is not what was sent");
    } else if told || NEEDLES[0].found_in(&stream) {
        assert!(!ended && stream.starts_with(&got) && !holds(&decoded(coding, &got), VALUE));
    } else {
        assert!(ended && got == stream, "watched bytes changed");
    }
}

fn encoded(coding: &str, level: u8, writes: &[Option<&[u8]>]) -> Vec<u8> {
    fn all<W: Write>(to: &mut W, writes: &[Option<&[u8]>]) {
        for one in writes {
            match one {
                Some(text) => to.write_all(text).unwrap(),
                None => to.flush().unwrap(),
            }
        }
    }
    let small = flate2::Compression::new(u32::from(level % 10));
    match coding {
        "gzip" => {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), small);
            all(&mut coder, writes);
            coder.finish().unwrap()
        }
        "deflate" => {
            let mut coder = flate2::write::ZlibEncoder::new(Vec::new(), small);
            all(&mut coder, writes);
            coder.finish().unwrap()
        }
        "zstd" => {
            let mut coder = zstd::Encoder::new(Vec::new(), i32::from(level % 4)).unwrap();
            all(&mut coder, writes);
            coder.finish().unwrap()
        }
        _ => {
            let mut coder = brotli::CompressorWriter::new(Vec::new(), 4096, u32::from(level % 6), 16);
            all(&mut coder, writes);
            coder.into_inner()
        }
    }
}

/// What an agent could read of it, be it cut or broken.
fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let most = 1 << 20;
    let _ = match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(bytes)
            .take(most)
            .read_to_end(&mut out),
        "deflate" => flate2::read::ZlibDecoder::new(bytes).take(most).read_to_end(&mut out),
        "zstd" => zstd::Decoder::new(bytes).and_then(|coder| coder.take(most).read_to_end(&mut out)),
        _ => brotli::Decompressor::new(bytes, 4096).take(most).read_to_end(&mut out),
    };
    out
}
