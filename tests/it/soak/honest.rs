//! Agents that do as they should: every one of their exchanges succeeds, whatever else goes on.

use super::kinds::Kind;
use super::load::{Load, STAND_IN};
use crate::rig::agent::{Http, Raw, content_length, get, request};
use crate::rig::{routes, soon};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::time::Duration;
use tokio_websockets::Message;

/// One request after another on one connection.
pub async fn kept(load: &Load, http2: bool) {
    let mut http = load.http("api.test", http2).await;
    for _ in 0..40 {
        let reply = load.ask(&mut http, Kind::Kept, "api.test", get).await;
        load.well(Kind::Kept, reply, |reply| reply.text() == "well done");
        load.rest().await;
    }
}

/// Eight at a time on one connection.
pub async fn streams(load: &Load) {
    let Http::Two(send) = load.http("api.test", true).await else {
        unreachable!("it was asked for HTTP/2")
    };
    for _ in 0..10 {
        let eight = (0..8).map(|_| async {
            let mut http = Http::Two(send.clone());
            let reply = load.ask(&mut http, Kind::Streams, "api.test", get).await;
            load.well(Kind::Streams, reply, |reply| reply.text() == "well done");
        });
        futures_util::future::join_all(eight).await;
        load.rest().await;
    }
}

/// A connection for each request.
pub async fn fresh(load: &Load) {
    for http2 in [false, true] {
        let mut http = load.http("api.test", http2).await;
        let reply = load.ask(&mut http, Kind::Fresh, "api.test", get).await;
        load.well(Kind::Fresh, reply, |reply| reply.text() == "well done");
        load.rest().await;
    }
}

/// Plain HTTP in absolute-form, three on a connection.
pub async fn absolute(load: &Load) {
    let mut raw = load.agent.dial().await;
    let offer = load.agent.offer.as_ref().unwrap();
    for _ in 0..3 {
        let number = load.tally.begin(Kind::Absolute);
        let head = format!("GET http://plain.test/absolute/{number} HTTP/1.1\r\nHost: plain.test\r\n");
        raw.say(format!("{head}Proxy-Authorization: {offer}\r\n\r\n")).await;
        let head = raw.head().await;
        let body = raw.bytes(content_length(&head)).await;
        load.tally.saw(Kind::Absolute, number, 200, "");
        if !head.starts_with("HTTP/1.1 200") || body != b"well done" {
            load.tally.fail(format!("absolute {number}: {head}"));
        }
        load.rest().await;
    }
}

/// Messages there and back, over either protocol.
pub async fn websocket(load: &Load) {
    for http2 in [false, true] {
        let mut http = load.http("api.test", http2).await;
        let (number, url) = load.url(Kind::WebSocket, "api.test");
        let mut socket = match crate::websocket::on(&mut http, &url).await {
            Ok(socket) => socket,
            Err((status, code)) => {
                load.tally.fail(format!("websocket {number}: {status} {code}"));
                continue;
            }
        };
        for at in 0..5 {
            let text = format!("message {at} {}", "x".repeat(at * 700));
            socket.send(Message::text(text.clone())).await.unwrap();
            let back = soon("the echo", socket.next()).await.unwrap().unwrap();
            assert_eq!(back.as_text(), Some(text.as_str()));
            load.rest().await;
        }
        socket.close().await.unwrap();
        while soon("the close", socket.next())
            .await
            .is_some_and(|message| message.is_ok())
        {}
    }
}

/// Events as they come.
pub async fn events(load: &Load) {
    for http2 in [false, true] {
        let mut http = load.http("api.test", http2).await;
        let reply = load.ask(&mut http, Kind::Events, "api.test", get).await;
        load.well(Kind::Events, reply, |reply| reply.text().matches("data: ").count() == 8);
    }
}

/// Messages both ways with a status behind them.
pub async fn grpc(load: &Load) {
    let mut http = load.http("api.test", true).await;
    let reply = load
        .ask(&mut http, Kind::Grpc, "api.test", |url| {
            let messages = futures_util::stream::unfold(0_u8, |at| async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                // Not compressed, three bytes (length-prefixed, as gRPC over HTTP/2 has it).
                let message = Bytes::from(vec![0, 0, 0, 0, 3, at, at, at]);
                (at < 5).then_some((Ok(Frame::data(message)), at + 1))
            });
            Request::post(url)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(StreamBody::new(messages).boxed_unsync())
                .unwrap()
        })
        .await;
    load.well(Kind::Grpc, reply, |reply| {
        let status = reply.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        reply.body.len() == 40 && status.is_some_and(|status| status == "0")
    });
}

/// A body of some size, there.
pub async fn upload(load: &Load) {
    for http2 in [false, true] {
        let mut http = load.http("api.test", http2).await;
        let body = vec![b'u'; 200_000];
        let reply = load
            .ask(&mut http, Kind::Upload, "api.test", |url| {
                request(Method::POST, url, body)
            })
            .await;
        load.well(Kind::Upload, reply, |reply| reply.json()["bytes"] == 200_000);
        load.rest().await;
    }
}

/// A body of some size, back.
pub async fn download(load: &Load) {
    for http2 in [false, true] {
        let mut http = load.http("api.test", http2).await;
        let reply = load.ask(&mut http, Kind::Download, "api.test", get).await;
        load.well(Kind::Download, reply, |reply| reply.body.len() == 1_000_000);
        load.rest().await;
    }
}

/// A placeholder where it is swapped: in its header and in its field.
pub async fn stand_in(load: &Load) {
    let mut http = load.http("vendor.test", true).await;
    for _ in 0..10 {
        let reply = load
            .ask(&mut http, Kind::StandIn, "vendor.test", |url| {
                Request::post(url)
                    .header("x-vendor", HeaderValue::from_static(STAND_IN))
                    .header("content-type", "application/json")
                    .body(routes::full(format!("{{\"key\":\"{STAND_IN}\",\"n\":1}}")))
                    .unwrap()
            })
            .await;
        load.well(Kind::StandIn, reply, |reply| reply.text() == "well done");
        load.rest().await;
    }
}

/// A credential that a program gives.
pub async fn login(load: &Load) {
    let mut http = load.http("login.test", false).await;
    for _ in 0..20 {
        let reply = load.ask(&mut http, Kind::Login, "login.test", get).await;
        load.well(Kind::Login, reply, |reply| reply.text() == "well done");
        load.rest().await;
    }
}

/// An opaque tunnel, with TLS that only the upstream can end.
pub async fn tunnel(load: &Load) {
    let (status, head, raw) = load.pinning.connect("pinned.test:443").await;
    assert_eq!(status, 200, "{head}");
    load.tally.tunnel(&raw.io.local_addr().unwrap().to_string());
    let tls = load
        .pinning
        .handshake(raw.io, "pinned.test", &["http/1.1"])
        .await
        .unwrap();
    let mut raw = Raw::new(tls);
    raw.say("GET /hello HTTP/1.1\r\nHost: pinned.test\r\nConnection: close\r\n\r\n")
        .await;
    let (answer, _) = raw.rest().await;
    assert!(answer.ends_with(b"well done"), "{}", String::from_utf8_lossy(&answer));
}
