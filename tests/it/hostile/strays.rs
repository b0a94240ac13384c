//! A stand-in in what streams out, a body or a WebSocket message, is stopped before it has gone out whole, unless the
//! rule lets it pass.

use super::kept;
use crate::fidelity::by;
use crate::rig::agent::{Raw, content_length, request, status};
use crate::rig::origin::{AnyError, Origin, Service, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::soon;
use crate::websocket::open;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio_websockets::Message;

/// What the agent holds in the place of the credential.
const HELD: &str = "sk-test-00112233445566778899aabb";

async fn before(speaks: Speaks, rule: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", speaks).await;
    let proxy = behind(&root, &origin, rule).await;
    (origin, proxy)
}

async fn behind(root: &Root, origin: &Origin, rule: &str) -> Proxy {
    Rig::new(root)
        .reach(origin)
        .env("API_KEY", super::KEY)
        .secret_spec("api_key", &format!("{{ env: API_KEY, placeholder: {HELD} }}"))
        .rule(&format!("host: api.test, {rule}"))
        .serve()
        .await
}

const INJECTED: &str = "inject: [{ bearer: api_key }]";

async fn stopped(proxy: &Proxy, count: usize) {
    for record in proxy.records(count).await {
        assert_eq!(
            (&record["code"], &record["outcome"]),
            (&"placeholder_misplaced".into(), &"denied".into()),
            "{record}"
        );
    }
    kept(proxy, &[]);
}

#[tokio::test]
async fn a_stand_in_in_a_body_is_stopped_and_explained_on_every_pairing() {
    for (http2, speaks) in crate::fidelity::PAIRS {
        let (origin, proxy) = before(speaks, INJECTED).await;
        for body in [HELD.to_owned(), format!("{}{HELD}\n", "x".repeat(100_000))] {
            let mut http = by(&proxy.agent, http2).await;
            let reply = http.reply(request(Method::POST, "https://api.test/upload", body)).await;
            assert_eq!(
                (reply.status, reply.code()),
                (StatusCode::FORBIDDEN, "placeholder_misplaced")
            );
            assert!(reply.text().contains("`api_key`") && !reply.text().contains(HELD));
        }
        assert!(
            origin.seen().iter().all(|one| !one.whole),
            "an upload that was stopped looked whole"
        );
        stopped(&proxy, 2).await;
    }
}

#[tokio::test]
async fn a_stand_in_cut_into_pieces_or_in_a_trailer_is_seen_all_the_same() {
    let (origin, proxy) = before(Speaks::Http1, "allow: /**").await;
    let head = "POST /upload HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-note\r\n\r\n";
    let mut bytewise = String::new();
    for byte in HELD.chars() {
        write!(bytewise, "1\r\n{byte}\r\n").unwrap();
    }
    for rest in [
        format!("{bytewise}0\r\n\r\n"),
        format!("1\r\nx\r\n0\r\nx-note: {HELD}\r\n\r\n"),
    ] {
        let mut raw: Raw<_> = proxy.agent.raw("api.test").await;
        raw.say(format!("{head}{rest}")).await;
        let answer = raw.head().await;
        let body = raw.bytes(content_length(&answer)).await;
        let body = String::from_utf8_lossy(&body);
        assert!(
            status(&answer) == 403 && body.contains("placeholder_misplaced"),
            "{rest:?}: {answer}{body}"
        );
    }
    assert!(origin.seen().iter().all(|one| !one.whole));
    stopped(&proxy, 2).await;
}

#[tokio::test]
async fn a_rule_may_let_a_model_hear_of_a_stand_in_but_only_in_what_it_is_told() {
    let (origin, proxy) = before(Speaks::Http2, &format!("{INJECTED}, stray_placeholders: pass")).await;
    let mut http = proxy.agent.h2("api.test").await;
    let told = format!("{{\"transcript\":\"API_KEY={HELD}\"}}");
    let reply = http
        .reply(request(Method::POST, "https://api.test/upload", told.clone()))
        .await;
    assert_eq!(reply.json()["bytes"], told.len());
    let mut asked = request(Method::POST, "https://api.test/upload", told);
    asked.headers_mut().insert("x-copy", HELD.parse().unwrap());
    let reply = http.reply(asked).await;
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::FORBIDDEN, "placeholder_misplaced")
    );
    assert_eq!(origin.seen().len(), 1);
    kept(&proxy, &[]);
}

#[tokio::test]
async fn a_stand_in_in_a_message_ends_the_websocket_and_is_on_record() {
    let (origin, proxy) = before(Speaks::Both, INJECTED).await;
    for (count, http2) in [false, true].into_iter().enumerate() {
        for (at, message) in [
            Message::text(format!("key: {HELD}")),
            Message::binary(HELD.as_bytes().to_vec()),
        ]
        .into_iter()
        .enumerate()
        {
            let mut socket = open(&proxy.agent, http2, "/ws").await.unwrap();
            socket.send(Message::text("hello")).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap().as_text(), Some("hello"));
            let _ = socket.send(message).await;
            let heard = soon("the end", socket.next()).await;
            assert!(!matches!(&heard, Some(Ok(message)) if !message.is_close()), "{heard:?}");
            stopped(&proxy, count * 2 + at + 1).await;
        }
    }
    drop(origin);
}

#[tokio::test]
async fn what_only_looks_like_a_stand_in_streams_on() {
    let (_origin, proxy) = before(Speaks::Both, INJECTED).await;
    let near = HELD.get(..HELD.len() - 1).unwrap().repeat(5_000);
    for http2 in [false, true] {
        let mut http = by(&proxy.agent, http2).await;
        let reply = http
            .reply(request(Method::POST, "https://api.test/upload", near.clone()))
            .await;
        assert_eq!(reply.json()["bytes"], near.len());
    }
}

#[tokio::test]
async fn a_stand_in_after_the_answer_has_begun_ends_both_and_is_on_record() {
    for (http2, speaks) in crate::fidelity::PAIRS {
        let root = Root::new();
        let echo: Service = Arc::new(|request, _| Box::pin(async { Response::new(request.into_body()) }));
        let origin = Origin::with(&root, "api.test", speaks, echo).await;
        let proxy = behind(&root, &origin, INJECTED).await;
        let (mut say, body) = Channel::<Bytes, AnyError>::new(1);
        let mut http = by(&proxy.agent, http2).await;
        say.send_data(Bytes::from_static(b"hello")).await.unwrap();
        let asked = Request::post("https://api.test/").body(body.boxed_unsync()).unwrap();
        let response = http.send(asked).await.unwrap();
        let mut answer = response.into_body();
        let first = soon("the echo", answer.frame()).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "hello");
        say.send_data(HELD.into()).await.unwrap();
        let cut = soon("the cut", answer.collect()).await;
        assert!(cut.is_err(), "the answer looked whole");
        stopped(&proxy, 1).await;
    }
}
