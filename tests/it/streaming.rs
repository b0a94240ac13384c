//! Bodies stream: at once, both ways, with back pressure, in flat memory, and a cut stays a cut.

use crate::fidelity::{PAIRS, before, before_script, by};
use crate::rig::agent::{Http, Reply, get, request};
use crate::rig::origin::{Answer, AnyBody, AnyError, Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::{Root, Validity};
use crate::rig::routes::PIECE;
use crate::rig::script::{Line, Script};
use crate::rig::soon;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Memory that one exchange may add, whatever its size: buffers, not bodies.
const FLAT: u64 = 48 << 20;

/// More than 32 bits can count.
const LARGE: u64 = 5 << 30;

#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent() {
    for (http2, speaks) in PAIRS {
        let (origin, proxy) = before(speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        let mut body = http.send(get("https://api.test/sse?n=4")).await.unwrap().into_body();
        for i in 0..4 {
            origin.gate.add_permits(1);
            let frame = soon("an event", body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), format!("data: {i}\n\n"));
        }
        // HTTP/2 may end with an empty frame (RFC 9113 §6.1).
        assert_eq!(soon("the end", body.collect()).await.unwrap().to_bytes(), "");
    }
}

/// Answers each request with a message and, as Node's servers do, an empty frame before the trailers.
async fn with_empty_frames(line: Line) {
    let mut connection = h2::server::handshake(line.io).await.unwrap();
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        tokio::spawn(async move {
            let mut asked = request.into_body();
            while let Some(Ok(piece)) = asked.data().await {
                let _ = asked.flow_control().release_capacity(piece.len());
            }
            let mut body = answer.send_response(http::Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"message"), false).unwrap();
            body.send_data(Bytes::new(), false).unwrap();
            body.send_trailers(http::HeaderMap::new()).unwrap();
        });
    }
}

#[tokio::test]
async fn empty_frames_both_ways_end_no_connection_however_long_it_lives() {
    let root = Root::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let (opened, tls) = (connections.clone(), root.server(&["api.test"], Validity::Now, &["h2"]));
    let script = Script::tls(tls, "api.test", move |line| {
        opened.fetch_add(1, Ordering::SeqCst);
        with_empty_frames(line)
    })
    .await;
    let proxy = Rig::new(&root)
        .reach_script(&script)
        .rule("host: api.test")
        .serve()
        .await;
    let mut http = proxy.agent.h2("api.test").await;
    for at in 0..250 {
        let frames = [Bytes::new(), Bytes::from_static(b"x"), Bytes::new()].map(|piece| Ok(Frame::data(piece)));
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let asked = Request::post("https://api.test/").body(body).unwrap();
        let reply = http.reply(asked).await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (StatusCode::OK, "message"),
            "{at}"
        );
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_large_download_takes_no_memory() {
    for (http2, speaks, total) in [(false, Speaks::Http1, LARGE), (true, Speaks::Http2, LARGE / 5)] {
        let (_, proxy) = before(speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        assert_eq!(http.reply(get("https://api.test/hello")).await.status, StatusCode::OK);
        let before = proxy.child.resident();
        let url = format!("https://api.test/download?bytes={total}&length");
        let mut body = http.send(get(&url)).await.unwrap().into_body();
        let (mut got, mut most) = (0, 0);
        while let Some(frame) = soon("a piece", body.frame()).await {
            let len = frame.unwrap().into_data().map_or(0, |piece| piece.len() as u64);
            if (got + len) >> 26 != got >> 26 {
                most = most.max(proxy.child.resident());
            }
            got += len;
        }
        assert_eq!(got, total);
        assert_eq!(proxy.records(2).await[1]["bytes_out"], total);
        assert!(most.saturating_sub(before) < FLAT, "{} MiB more", (most - before) >> 20);
    }
}

/// So many bytes, made as they are asked for.
fn pieces(count: u64) -> AnyBody {
    let frames = (0..count / PIECE.len() as u64).map(|_| Ok::<_, AnyError>(Frame::data(Bytes::from_static(&PIECE))));
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

#[tokio::test]
async fn a_large_upload_takes_no_memory() {
    for (http2, speaks, total) in [(false, Speaks::Http1, LARGE / 5), (true, Speaks::Http2, LARGE)] {
        let (origin, proxy) = before(speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        assert_eq!(http.reply(get("https://api.test/hello")).await.status, StatusCode::OK);
        let before = proxy.child.resident();
        let ask = Request::post("https://api.test/upload").body(pieces(total)).unwrap();
        let asked = tokio::spawn(async move { Reply::read(http.head(ask).await.unwrap()).await.unwrap().json() });
        let mut most = 0;
        while !asked.is_finished() {
            most = most.max(proxy.child.resident());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(asked.await.unwrap()["bytes"], total);
        assert!(origin.seen().pop().unwrap().whole);
        assert_eq!(proxy.records(2).await[1]["bytes_in"], total);
        assert!(most.saturating_sub(before) < FLAT, "{} MiB more", (most - before) >> 20);
    }
}

#[tokio::test]
async fn an_agent_that_stops_reading_stops_the_origin() {
    for (http2, speaks) in PAIRS {
        let (_, proxy) = before(speaks).await;
        let mut http = by(&proxy.agent, http2).await;
        let before = proxy.child.resident();
        let response = http
            .send(get("https://api.test/download?bytes=4000000000&length"))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        let after = proxy.child.resident();
        assert!(
            after.saturating_sub(before) < FLAT,
            "{} MiB were buffered",
            (after - before) >> 20
        );
        drop(response);
    }
}

/// Whether an answer is cut: in its body, or, if the cut was quick, before its head was written out.
async fn is_cut(http: &mut Http, url: &str) -> bool {
    match http.send(get(url)).await {
        Ok(response) => soon("the cut", response.into_body().collect()).await.is_err(),
        Err(_) => true,
    }
}

#[tokio::test]
async fn a_body_cut_short_upstream_is_cut_short_for_the_agent() {
    for (head, sent) in [
        ("Content-Length: 100", "only this"),
        ("Transfer-Encoding: chunked", "9\r\nonly this\r\n"),
        ("Transfer-Encoding: chunked", "ff\r\nonly this"),
    ] {
        let root = Root::new();
        let origin = Script::start(&root, "api.test", move |mut line| async move {
            line.head().await;
            line.say(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{sent}")).await;
            line.bye().await;
        })
        .await;
        let proxy = before_script(&root, &origin).await;
        for http2 in [false, true] {
            let mut http = by(&proxy.agent, http2).await;
            assert!(
                is_cut(&mut http, "https://api.test/").await,
                "{head}: a broken body looked whole (h2: {http2})"
            );
        }
        let records = proxy.records(2).await;
        assert!(records.iter().all(|one| one["outcome"] != "ok"), "{records:#?}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_whole_only_if_tls_says_so() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        let head = line.head().await.unwrap_or_default();
        line.say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it").await;
        if head.contains("/clean") {
            line.bye().await;
        } else {
            // Closes TCP without the TLS alert, as an attacker on the path could.
            let (mut tcp, _) = line.io.into_inner();
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut tcp).await;
        }
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let whole = proxy.agent.get("https://api.test/clean").await;
    assert_eq!(whole.text(), "all of it");
    let mut http = proxy.agent.h1("api.test").await;
    assert!(
        is_cut(&mut http, "https://api.test/cut").await,
        "a truncated body looked whole"
    );
}

#[tokio::test]
async fn an_agent_that_goes_away_ends_the_upstream_exchange_at_once() {
    for (http2, speaks) in PAIRS {
        for path in ["/never", "/gated?n=3"] {
            let (origin, proxy) = before(speaks).await;
            let mut http = by(&proxy.agent, http2).await;
            let url = format!("https://api.test{path}");
            let asked = tokio::spawn(async move {
                let response = http.send(get(&url)).await?;
                response.into_body().collect().await
            });
            origin.saw("the request", |one| one.target == path).await;
            if path != "/never" {
                origin.gate.add_permits(1);
            }
            asked.abort();
            let _ = asked.await;
            origin
                .saw("the end of the exchange", |one| one.answered == Some(false))
                .await;
            let record = proxy.record().await;
            assert_ne!(record["outcome"], "ok", "{record:#}");
        }
    }
}

#[tokio::test]
async fn an_upload_broken_off_never_looks_whole_to_the_origin() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
            let (origin, proxy) = before(speaks).await;
            let mut raw = proxy.agent.raw("api.test").await;
            raw.say(format!(
                "POST /upload HTTP/1.1\r\nHost: api.test\r\n{framing}\r\n\r\n5\r\nhello\r\n"
            ))
            .await;
            origin.saw("the first bytes", |one| one.body_bytes > 0).await;
            drop(raw);
            let ended = |one: &crate::rig::origin::Received| one.answered.is_some() || one.whole;
            assert!(
                !origin.saw("the end of the upload", ended).await.whole,
                "half an upload looked whole"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_before_the_upload_is_over_reaches_the_agent() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
            .await;
        line.bye().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    for http2 in [false, true] {
        let mut http = by(&proxy.agent, http2).await;
        let reply = http
            .reply(request(Method::POST, "https://api.test/", vec![0; 300_000]))
            .await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (413, "too big"));
    }
}

/// What the first read gets of the answer to `ask`, once it is there.
async fn first_read<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I, ask: &str) -> String {
    io.write_all(ask.as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    let mut once = vec![0; 16 * 1024];
    let read = soon("the answer", io.read(&mut once)).await.unwrap();
    String::from_utf8_lossy(&once[..read]).into_owned()
}

#[tokio::test]
async fn a_head_comes_in_one_write() {
    // Clients have been seen that take a head in pieces for an attack. Not every piece would be seen
    // by itself, so each is looked for many times.
    let (_, proxy) = before(Speaks::Http1).await;
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for _ in 0..20 {
        let mut tcp = proxy.agent.dial().await.io;
        let head = first_read(&mut tcp, "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
            "{head:?}"
        );
        let mut tls = proxy.agent.handshake(tcp, "api.test", &["http/1.1"]).await.unwrap();
        let head = first_read(&mut tls, "GET /hello HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("\r\n\r\n"),
            "{head:?}"
        );
        let ask = format!("GET /ws HTTP/1.1\r\nHost: api.test\r\n{upgrade}\r\n");
        let head = first_read(&mut proxy.agent.tls("api.test", &["http/1.1"]).await, &ask).await;
        assert!(
            head.starts_with("HTTP/1.1 101") && head.ends_with("\r\n\r\n"),
            "{head:?}"
        );
        let mut tcp = proxy.agent.dial().await.io;
        let head = first_read(&mut tcp, "CONNECT no.test:443 HTTP/1.1\r\nHost: no.test:443\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 403") && head.contains("\r\n\r\n"),
            "{head:?}"
        );
    }
}

#[tokio::test]
async fn an_agent_that_leaves_with_the_last_byte_has_had_all_of_it() {
    let root = Root::new();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        // All that was announced, and the end of the stream a good while later.
        let service = |_: Request<AnyBody>, _: Origin| -> Answer {
            let last = futures_util::stream::once(async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(Frame::data(Bytes::new()))
            });
            let first = Ok(Frame::data(Bytes::from_static(b"all of it")));
            let body = StreamBody::new(futures_util::stream::iter([first]).chain(last)).boxed_unsync();
            let response = http::Response::new(body);
            Box::pin(async { crate::rig::routes::with(response, "content-length", "9") })
        };
        let origin = Origin::with(&root, "api.test", speaks, std::sync::Arc::new(service)).await;
        let proxy = Rig::new(&root).reach(&origin).rule("host: api.test").serve().await;
        let mut raw = proxy.agent.raw("api.test").await;
        raw.say("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        raw.head().await;
        assert_eq!(raw.bytes(9).await, b"all of it");
        drop(raw);
        let record = proxy.record().await;
        assert_eq!(
            (&record["code"], &record["bytes_out"]),
            (&"ok".into(), &9.into()),
            "{record:#}"
        );
    }
}
