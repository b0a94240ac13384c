//! What is promised of every way in.

use super::{Ground, KEY, TOKEN, Way};
use crate::rig::agent::{Reply, get, request};
use crate::rig::{routes, soon};
use crate::websocket;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

/// The table as tests, in a module for each way: straight out, and with a parent proxy behind.
macro_rules! tables {
    ($($name:ident: $way:ty),+ $(,)?) => {
        $(
            mod $name {
                use super::*;
                crate::ways::table::table!(straight: $way);
                crate::ways::table::table!(behind_a_parent: crate::ways::parented::Parented<$way>);
            }
        )+
    };
}
pub(crate) use tables;

/// The table as tests, for one way; with attributes for each, if there are any.
macro_rules! table {
    ($(#[$how:meta])* $name:ident: $way:ty) => {
        mod $name {
            use super::*;
            use crate::ways::table as row;

            #[tokio::test]
            $(#[$how])*
            async fn what_a_rule_allows_goes_through_with_its_credential() {
                row::allow::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn what_no_rule_allows_is_refused_with_a_reason_and_never_reached() {
                row::deny::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn a_request_for_another_host_than_the_connections_is_refused() {
                row::authority::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn websocket_messages_go_both_ways() {
                row::websocket::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn a_grpc_call_keeps_its_framing_and_its_trailers() {
                row::grpc::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn events_arrive_as_they_are_sent() {
                row::events::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn large_bodies_arrive_whole_both_ways() {
                row::large::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn nobody_but_the_agent_of_the_rule_comes_in() {
                row::stranger::<$way>().await;
            }

            #[tokio::test]
            $(#[$how])*
            async fn each_exchange_has_one_record_that_names_the_way() {
                row::audit::<$way>().await;
            }
        }
    };
}
pub(crate) use table;

pub async fn allow<W: Way>() {
    let ground = Ground::<W>::start().await;
    for http2 in [false, true] {
        let mut ask = request(Method::POST, &ground.url("/v1/x%2Fy?z=1"), "a body");
        ask.headers_mut()
            .insert("x-api-key", HeaderValue::from_static("the agent's own"));
        let reply = ground.http(http2).await.reply(ask).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let seen = ground.api.seen().pop().unwrap();
        assert_eq!(
            (seen.target.as_str(), seen.authority.as_str(), seen.body.as_slice()),
            ("/v1/x%2Fy?z=1", "api.test", &b"a body"[..])
        );
        assert_eq!(seen.all("x-api-key"), [KEY]);
        assert!(!reply.text().contains(KEY), "the echo was not scrubbed");
        let all = format!("{:?}", seen.headers);
        assert!(!all.contains(TOKEN), "the agent's token reached the origin: {all}");
    }
    assert_eq!(ground.api.seen().len(), 2);
}

pub async fn deny<W: Way>() {
    let ground = Ground::<W>::start().await;
    for host in ["other.test", "shut.test"] {
        assert_eq!(refusal(&ground.way, host).await, W::DENIED, "{host}");
    }
    assert_eq!(ground.other.connections(), 0);
    let records = ground.way.proxy().records(2).await;
    for record in records {
        assert_eq!(
            (&record["outcome"], &record["code"], &record["way"]),
            (&"denied".into(), &"denied_by_policy".into(), &W::NAME.into()),
            "{record:#}"
        );
    }
}

/// How the way tells that `host` may not be reached.
async fn refusal<W: Way>(way: &W, host: &str) -> String {
    match way.http(host, false).await {
        Err(refusal) => refusal,
        Ok(mut http) => told(&http.reply(get(&way.url(host, "/"))).await),
    }
}

/// Status and code of an answer.
pub fn told(reply: &Reply) -> String {
    format!("{} {}", reply.status.as_u16(), reply.code())
}

pub async fn authority<W: Way>() {
    let ground = Ground::<W>::start().await;
    for http2 in [false, true] {
        let mut http = ground.http(http2).await;
        let mut ask = get(&ground.url("/"));
        if http2 {
            let other = ground.way.elsewhere(&ask.uri().to_string());
            *ask.uri_mut() = other.parse().unwrap();
        } else {
            ask.headers_mut().insert("host", HeaderValue::from_static("other.test"));
        }
        assert_eq!(told(&http.reply(ask).await), "421 misdirected_request", "h2: {http2}");
    }
    assert_eq!((ground.api.seen().len(), ground.other.connections()), (0, 0));
}

pub async fn websocket<W: Way>() {
    let ground = Ground::<W>::start().await;
    for http2 in [false, true] {
        let opened = websocket::over(ground.http(http2).await, &ground.url("/ws")).await;
        let mut socket = opened.unwrap_or_else(|refused| panic!("no WebSocket: {refused:?}"));
        websocket::echo(&mut socket, tokio_websockets::Message::text("caf\u{e9}".to_owned())).await;
        websocket::echo(&mut socket, tokio_websockets::Message::binary(vec![7; 100_000])).await;
    }
    assert!(ground.api.seen().iter().all(|one| one.all("x-api-key") == [KEY]));
}

pub async fn grpc<W: Way>() {
    let ground = Ground::<W>::start().await;
    // One length-prefixed message, then trailers of its own.
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sent", HeaderValue::from_static("yes"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let mut ask = request(Method::POST, &ground.url("/trailers"), "").map(|_| body);
    let headers = ask.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let reply = ground.http(true).await.reply(ask).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.trailers.unwrap()["x-checksum"], "abc123");
    let seen = ground.api.only();
    assert_eq!(
        (seen.all("te"), seen.all("x-api-key")),
        (vec!["trailers".into()], vec![KEY.into()])
    );
}

pub async fn events<W: Way>() {
    let ground = Ground::<W>::start().await;
    for http2 in [false, true] {
        let mut http = ground.http(http2).await;
        let mut body = http.send(get(&ground.url("/sse?n=2"))).await.unwrap().into_body();
        for event in ["data: 0\n\n", "data: 1\n\n"] {
            // The origin sends one only now, so it cannot have been held back for the next.
            ground.api.gate.add_permits(1);
            let frame = soon("an event", body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event);
        }
        let rest = soon("the end", body.collect()).await.unwrap();
        assert_eq!(rest.to_bytes(), "");
    }
}

pub async fn large<W: Way>() {
    const SIZE: usize = 12 << 20;
    let ground = Ground::<W>::start().await;
    let sent: Vec<u8> = routes::PIECE.iter().copied().cycle().take(SIZE).collect();
    for http2 in [false, true] {
        let mut http = ground.http(http2).await;
        let reply = http
            .reply(request(Method::PUT, &ground.url("/upload"), sent.clone()))
            .await;
        assert_eq!(reply.json()["sha256"], routes::sha256(&sent));
        let url = ground.url(&format!("/download?bytes={SIZE}"));
        let reply = http.reply(get(&url)).await;
        assert!(reply.body == sent, "{} bytes came", reply.body.len());
    }
}

pub async fn stranger<W: Way>() {
    let ground = Ground::<W>::start().await;
    let told = ground.way.stranger().await;
    assert_eq!(ground.api.connections(), 0, "{told}");
    let record = ground.way.proxy().record().await;
    assert_eq!(
        (&record["outcome"], &record["code"]),
        (&"denied".into(), &"agent_unknown".into()),
        "{told}: {record:#}"
    );
    assert!(record["agent"].is_null(), "{record:#}");
}

pub async fn audit<W: Way>() {
    let ground = Ground::<W>::start().await;
    let mut http = ground.http(false).await;
    for path in ["/one?secret=1", "/two"] {
        http.reply(get(&ground.url(path))).await;
    }
    let records = ground.way.proxy().records(2).await;
    assert_eq!(records.len(), 2, "{records:#?}");
    for (record, path) in records.iter().zip(["/one?secret=***", "/two"]) {
        let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            ["way", "agent", "target", "rule", "method", "path", "outcome"].map(text),
            [W::NAME, "ci", "api.test:443", "api", "GET", path, "ok"],
            "{record:#}"
        );
        assert_eq!(record["credentials"], serde_json::json!(["api_key"]));
    }
}
