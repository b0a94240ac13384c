//! A host that echoes the credential does not get it to the agent.

use crate::fidelity::by;
use crate::rig::agent::get;
use crate::rig::origin::{Answer, Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::routes;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::io::Write;
use std::sync::Arc;

const KEY: &str = "sk-live-0a1b2c3d4e5f6a7b8c9d";

/// An origin that tells what it was given: in a header, in a trailer, and in a body that is cut
/// into pieces of `piece` bytes, perhaps gzipped.
async fn talkative(root: &Root, speaks: Speaks, gzip: bool, piece: usize) -> Origin {
    let service = move |request: http::Request<crate::rig::origin::AnyBody>, _| -> Answer {
        let key = request.headers().get("authorization").cloned().unwrap();
        Box::pin(async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-told", key.clone());
            let mut body = [
                b"You sent: ",
                key.as_bytes(),
                b" and that was it. ".repeat(50).as_slice(),
            ]
            .concat();
            if gzip {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&body).unwrap();
                body = encoder.finish().unwrap();
            }
            let pieces: Vec<_> = body
                .chunks(piece)
                .map(|one| Ok(Frame::data(Bytes::copy_from_slice(one))))
                .collect();
            let frames = pieces.into_iter().chain([Ok(Frame::trailers(trailers))]);
            let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
            response.headers_mut().insert("x-told", key);
            response
                .headers_mut()
                .insert("trailer", HeaderValue::from_static("x-told"));
            if gzip {
                response
                    .headers_mut()
                    .insert("content-encoding", HeaderValue::from_static("gzip"));
            }
            routes::with(response, "content-type", "text/plain")
        })
    };
    Origin::with(root, "api.test", speaks, Arc::new(service)).await
}

async fn before(speaks: Speaks, gzip: bool, piece: usize) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = talkative(&root, speaks, gzip, piece).await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY);
    (
        origin,
        rig.rule("host: api.test, inject: [{ bearer: api_key }]").serve().await,
    )
}

#[tokio::test]
async fn an_echoed_credential_is_removed_from_head_body_and_trailers() {
    for (http2, speaks) in crate::fidelity::PAIRS {
        for piece in [1, 17, 100_000] {
            let (_, proxy) = before(speaks, false, piece).await;
            let mut ask = get("https://api.test/");
            ask.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            let reply = by(&proxy.agent, http2).await.reply(ask).await;
            assert!(
                reply.text().starts_with("You sent: ") && reply.text().ends_with("that was it. "),
                "{}",
                reply.text()
            );
            let all = format!("{:?} {} {:?}", reply.headers, reply.text(), reply.trailers);
            assert!(!all.contains(KEY), "{all}");
            let record = proxy.record().await;
            assert!(
                record["scrubbed"].as_u64().is_some_and(|count| count >= 2),
                "{record:#}"
            );
            assert!(!record.to_string().contains(KEY));
        }
    }
}

#[tokio::test]
async fn an_echoed_credential_does_not_hide_in_a_compressed_body() {
    let (_, proxy) = before(Speaks::Both, true, 1000).await;
    let mut ask = get("https://api.test/");
    ask.headers_mut()
        .insert("accept-encoding", HeaderValue::from_static("gzip"));
    let reply = by(&proxy.agent, false).await.reply(ask).await;
    let plain = if reply.header("content-encoding") == "gzip" {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&reply.body[..]), &mut text).unwrap();
        text
    } else {
        reply.text()
    };
    assert!(
        plain.starts_with("You sent: ") && plain.ends_with("that was it. ") && !plain.contains(KEY),
        "{plain}"
    );
}
