//! Requests that an agent gives up: what else it asked for goes on.

use super::Siege;
use crate::rig::agent::{Http, get};
use crate::rig::root::{Root, Validity};
use crate::rig::script::{Line, Script};
use crate::rig::soon;
use bytes::Bytes;
use h2::server;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Answers in part, then does not look at the connection until `given_up` is set, as a server does that has much to do; and
/// then answers the rest. What is asked on later connections it takes at once, and leaves unanswered.
async fn busy(line: Line, first: bool, given_up: Arc<AtomicBool>) {
    let mut connection = server::handshake(line.io).await.unwrap();
    let mut unanswered = Vec::new();
    if first {
        let (_, mut answer) = connection.accept().await.unwrap().unwrap();
        let mut body = answer.send_response(http::Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"one"), false).unwrap();
        // Polled for a while, so that this goes out.
        let _ = tokio::time::timeout(Duration::from_millis(50), connection.accept()).await;
        while !given_up.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        body.send_data(Bytes::from_static(b" two"), true).unwrap();
    }
    while let Some(Ok((_, answer))) = connection.accept().await {
        unanswered.push(answer);
    }
}

#[tokio::test]
async fn requests_that_are_given_up_by_the_dozen_end_none_of_the_agents_others() {
    let given_up = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&given_up);
    let siege = Siege::with("streams: 100", async |rig, root: &Root| {
        let tls = root.server(&["busy.test"], Validity::Now, &["h2"]);
        let first = Arc::new(AtomicBool::new(true));
        let script = Script::tls(tls, "busy.test", move |line| {
            busy(line, first.swap(false, Ordering::SeqCst), Arc::clone(&told))
        });
        rig.reach_script(&script.await).rule("host: busy.test")
    })
    .await;
    let Http::Two(send) = siege.hostile.h2("busy.test").await else {
        unreachable!("it was asked for HTTP/2")
    };
    let asked = |path: &str| {
        let (mut http, request) = (Http::Two(send.clone()), get(&format!("https://busy.test/{path}")));
        async move { http.send(request).await }
    };
    let mut long = asked("long").await.unwrap().into_body();
    let piece = soon("a piece", long.frame()).await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "one");
    for at in 0..60 {
        let answered = tokio::time::timeout(Duration::from_millis(20), asked(&at.to_string())).await;
        assert!(answered.is_err(), "{answered:?}");
    }
    given_up.store(true, Ordering::SeqCst);
    let rest = soon("the rest", long.collect()).await.unwrap().to_bytes();
    assert_eq!(rest, " two");
}
