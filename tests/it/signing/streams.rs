//! Bodies in signed chunks, and large ones.

use super::servers::{Server, s3s};
use super::witness::{signing, theirs};
use super::{ID, SECRET, SIGN, keys};
use crate::fidelity::PAIRS;
use crate::rig::agent::Reply;
use crate::rig::origin::{AnyBody, Speaks};
use crate::rig::proxy::Proxy;
use crate::rig::root::Root;
use crate::rig::{agent, routes};
use base64::Engine;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use std::time::Duration;

/// A body in chunks of so many bytes, as a client frames it whose signatures are worth nothing.
pub fn framed(body: &[u8], chunk: usize, trailer: Option<&str>) -> Vec<u8> {
    let theirs = "0".repeat(64);
    let mut framed = Vec::new();
    for chunk in body.chunks(chunk) {
        framed.extend_from_slice(format!("{:x};chunk-signature={theirs}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(format!("0;chunk-signature={theirs}\r\n").as_bytes());
    if let Some(trailer) = trailer {
        framed.extend_from_slice(format!("{trailer}\r\nx-amz-trailer-signature:{theirs}\r\n").as_bytes());
    }
    framed.extend_from_slice(b"\r\n");
    framed
}

/// Cut where no frame of the chunks ends.
fn in_pieces(bytes: Vec<u8>, piece: usize) -> AnyBody {
    let pieces: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    let frames = futures_util::stream::iter(pieces).map(|piece| Ok(Frame::data(piece)));
    http_body_util::BodyExt::boxed_unsync(StreamBody::new(frames))
}

fn put(target: &str, headers: &[(&'static str, &str)], body: AnyBody) -> Request<AnyBody> {
    let mut ask = theirs(Method::PUT, target, "");
    ask.headers_mut().remove("accept-encoding");
    for (name, value) in headers {
        ask.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    *ask.body_mut() = body;
    ask
}

/// A proxy before a server that checks each chunk.
async fn checked() -> (tempfile::TempDir, Server, Proxy) {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let server = s3s(&root, "api.test", ID, SECRET, dir.path()).await;
    let proxy = keys(&root, ID, SECRET)
        .reach_as("api.test", server.address)
        .rule(&format!(
            "name: s3, host: api.test, inject: [{{ {} }}]",
            SIGN.replace(" }", ", region: eu-west-1, service: s3 }")
        ))
        .serve()
        .await;
    (dir, server, proxy)
}

#[tokio::test]
async fn signed_chunks_and_trailers_are_signed_anew_for_a_server_that_checks_each() {
    let (dir, _server, proxy) = checked().await;
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
    let sum = base64::engine::general_purpose::STANDARD.encode(sum.as_ref());
    let trailer = format!("x-amz-checksum-sha256:{sum}");
    for (name, word, trailer, piece, http2) in [
        (
            "whole",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            None,
            usize::MAX >> 1,
            false,
        ),
        ("pieces", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", None, 1013, true),
        (
            "trailer",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            Some(&*trailer),
            7001,
            true,
        ),
        (
            "trailer1",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            Some(&*trailer),
            65_536,
            false,
        ),
    ] {
        let framed = framed(&body, 65_536, trailer);
        let (length, decoded) = (framed.len().to_string(), body.len().to_string());
        let mut headers = vec![
            ("x-amz-content-sha256", word),
            ("content-encoding", "aws-chunked"),
            ("content-length", &length),
            ("x-amz-decoded-content-length", &decoded),
        ];
        if trailer.is_some() {
            headers.push(("x-amz-trailer", "x-amz-checksum-sha256"));
        }
        let mut http = match http2 {
            true => proxy.agent.h2("api.test").await,
            false => proxy.agent.h1("api.test").await,
        };
        let reply = http
            .reply(put(&format!("/bucket/{name}"), &headers, in_pieces(framed, piece)))
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.text());
        assert_eq!(
            std::fs::read(dir.path().join("s3/bucket").join(name)).unwrap(),
            body,
            "{name}"
        );
    }
}

#[tokio::test]
async fn chunks_that_are_none_and_bodies_of_another_hash_never_arrive_whole() {
    const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    const TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let good = framed(b"abc", 2, None);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let cut = text(&good[..good.len() - 2]);
    let short = text(&good).replacen("2;", "1;", 1);
    let signed = text(&good).replacen("chunk-signature=0", "chunk-signature=x", 1);
    let sized = text(&good).replacen("2;", "+2;", 1);
    let large = text(&good).replacen("2;", "400001;", 1);
    let trailing = text(&framed(b"abc", 2, Some("x-amz-a:b")));
    let other = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    for (http2, speaks) in PAIRS {
        let (origin, proxy) = signing(speaks, "s3", "").await;
        for (word, body) in [
            (CHUNKS, "no chunks at all, in a line that never ends"),
            (CHUNKS, &*cut),
            (CHUNKS, &*short),
            (CHUNKS, &*signed),
            (CHUNKS, &*sized),
            (CHUNKS, &*large),
            (CHUNKS, &*trailing),
            (CHUNKS, &format!("{}x", text(&good))),
            (TRAILER, &*text(&good)),
            (other, "y"),
        ] {
            let ask = put("/x", &[("x-amz-content-sha256", word)], routes::full(body.to_owned()));
            let mut http = crate::fidelity::by(&proxy.agent, http2).await;
            let reply = http.reply(ask).await;
            assert_eq!(
                (reply.status.as_u16(), reply.code()),
                (400, "request_unsignable"),
                "{word} {body}"
            );
        }
        assert!(origin.seen().iter().all(|one| !one.whole), "{:?}", origin.seen());
        let ask = put("/x", &[("x-amz-content-sha256", CHUNKS)], routes::full(good.clone()));
        assert_eq!(
            crate::fidelity::by(&proxy.agent, http2).await.reply(ask).await.status,
            200
        );
    }
}

#[tokio::test]
async fn what_cannot_be_signed_is_refused_and_not_sent() {
    let (origin, proxy) = signing(Speaks::Both, "dynamodb", "").await;
    let events = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-EVENTS");
    let elliptic = ("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD");
    for (header, status, code) in [
        (events, 422, "request_unsignable"),
        (elliptic, 422, "request_unsignable"),
        (("x-none", "x"), 413, "body_too_large"),
    ] {
        let body = match status {
            413 => in_pieces(vec![b'x'; (16 << 20) + 1], 1 << 20),
            _ => routes::full("x"),
        };
        let mut http = proxy.agent.h2("api.test").await;
        let response = http.head(put("/", &[header], body)).await.unwrap();
        let reply = Reply::read(response).await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (status, code),
            "{}",
            reply.text()
        );
    }
    let mut twice = put("/", &[events], routes::full("x"));
    twice
        .headers_mut()
        .append("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    let reply = proxy.agent.h1("api.test").await.reply(twice).await;
    assert_eq!(reply.code(), "request_unsignable");
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn a_large_upload_whose_hash_is_stated_takes_no_memory() {
    const TOTAL: usize = 512 << 20;
    static PIECE: [u8; 1 << 20] = [7; 1 << 20];
    let (origin, proxy) = signing(Speaks::Both, "s3", "").await;
    let mut whole = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    (0..TOTAL / PIECE.len()).for_each(|_| whole.update(&PIECE));
    let hash: String = whole
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let frames =
        futures_util::stream::iter(0..TOTAL / PIECE.len()).map(|_| Ok(Frame::data(Bytes::from_static(&PIECE))));
    let body = http_body_util::BodyExt::boxed_unsync(StreamBody::new(frames));
    let mut http = proxy.agent.h2("api.test").await;
    assert_eq!(http.reply(agent::get("https://api.test/hello")).await.status, 200);
    let before = proxy.child.resident();
    let ask = put("/upload", &[("x-amz-content-sha256", &hash)], body);
    let asked = tokio::spawn(async move { Reply::read(http.head(ask).await.unwrap()).await.unwrap() });
    let mut most = before;
    while !asked.is_finished() {
        most = most.max(proxy.child.resident());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let reply = asked.await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["sha256"], hash);
    assert!(origin.seen().pop().unwrap().whole);
    assert!(most - before < 64 << 20, "{} MiB more", (most - before) >> 20);
}
