//! Scrubbing: bodies in which nothing can be found, bodies full of near misses, bodies with hits, compressed bodies.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use keyferry::base::body::{Body, BoxError};
use keyferry::base::budget::Budget;
use keyferry::base::secret::Secret;
use keyferry::scrub::{self, Needles};
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

/// A value with special characters, which has many more spellings.
const AWKWARD: &str = "p/a+s=s&w-o_r.d~16C7e42F292c6912";

const EVENT: &[u8] = b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" and then\"}}\n\n";

/// What a body costs by what is in it.
pub fn bodies(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sets = [("token", needles(TOKEN)), ("awkward", needles(AWKWARD))];
    let mut group = c.benchmark_group("scrub");
    group.bench_function("prepare", |b| b.iter(|| needles(black_box(TOKEN))));
    for (name, piece) in pieces() {
        let list = vec![piece; 64];
        group.throughput(Throughput::Bytes(list.iter().map(|p| p.len() as u64).sum()));
        group.bench_function(BenchmarkId::new(name, "unscrubbed"), |b| {
            b.to_async(&runtime).iter(|| drain(stream(&list)));
        });
        for (which, set) in &sets {
            group.bench_function(BenchmarkId::new(name, which), |b| {
                b.to_async(&runtime)
                    .iter(|| drain(scrub::body(stream(&list), set, &Arc::default())));
            });
        }
    }
    group.finish();
}

/// What an event of a stream costs, and what decoding costs.
pub fn coded(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let set = needles(TOKEN);
    let mut group = c.benchmark_group("scrub_coded");
    let text = EVENT.repeat(8_000);
    group.throughput(Throughput::Bytes(text.len() as u64));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&text).unwrap();
    for (coding, stream_of) in [
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
    ] {
        let list: Vec<_> = stream_of.chunks(16 * 1024).map(Bytes::copy_from_slice).collect();
        for (name, offered) in [("decoded", coding), ("watched", "identity")] {
            group.bench_function(BenchmarkId::new(coding, name), |b| {
                b.to_async(&runtime).iter(|| drain(reply(coding, offered, &list, &set)));
            });
        }
    }
    group.finish();
}

/// A reply in `coding` to an agent that offered to take `offered`.
fn reply(coding: &str, offered: &str, list: &[Bytes], set: &[Arc<Needles>]) -> Body {
    let mut headers = http::HeaderMap::new();
    headers.insert("accept-encoding", offered.parse().unwrap());
    let asked = scrub::ask(&mut headers);
    let response = http::Response::builder()
        .header("content-encoding", coding)
        .body(())
        .unwrap();
    scrub::reply(
        &mut response.into_parts().0,
        stream(list),
        set,
        asked,
        &Arc::default(),
        &Budget::default(),
    )
    .unwrap()
}

fn needles(value: &str) -> Vec<Arc<Needles>> {
    let secret = Secret::new(value.as_bytes().to_vec()).unwrap();
    vec![Arc::new(Needles::new([(&secret, None)]))]
}

/// Pieces as they come from a connection, by what is in them.
fn pieces() -> Vec<(&'static str, Bytes)> {
    const SIZE: usize = 16 * 1024;
    let filled = |with: &[u8]| Bytes::from(with.iter().copied().cycle().take(SIZE).collect::<Vec<_>>());
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = (0..SIZE).map(|_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()[3]
    });
    vec![
        ("zeros", filled(&[0])),
        ("binary", noise.collect::<Vec<_>>().into()),
        (
            "json",
            filled(br#"{"id":81723,"name":"a repository","url":"https:\/\/api.github.com\/repos\/x","ok":true},"#),
        ),
        ("event", Bytes::from_static(EVENT)),
        ("near_misses", filled(b"ghp_16C7e42F292c6912E7710c838347Ae178B4_ ")),
        (
            "hits",
            filled(format!("{{\"authorization\":\"Bearer {TOKEN}\"}}").as_bytes()),
        ),
    ]
}

fn stream(list: &[Bytes]) -> Body {
    let frames: Vec<Result<_, BoxError>> = list.iter().map(|p| Ok(Frame::data(p.clone()))).collect();
    Body::wrap(StreamBody::new(futures_util::stream::iter(frames)))
}

async fn drain(mut body: Body) -> usize {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    bytes
}
