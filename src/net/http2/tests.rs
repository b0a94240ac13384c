#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use super::*;
use futures_util::future::join_all;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

const BOUNDS: Bounds = Bounds {
    stall_time: Duration::from_secs(600),
    head_time: Duration::from_secs(600),
    head_bytes: 16 * 1024,
};

fn get() -> Box<Request<Body>> {
    Box::new(
        Request::builder()
            .uri("https://api.example/")
            .body(Body::Empty)
            .unwrap(),
    )
}

async fn connected(near: DuplexStream) -> Arc<Shared> {
    let authority = Authority::from_static("api.example");
    connect(near, authority, BOUNDS, &Tasks::new()).await.unwrap()
}

/// A server that answers each request with `answer`, and ends when the connection has.
async fn served(answer: impl Fn(SendResponse<Bytes>) + Send + 'static) -> (Arc<Shared>, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((_, respond))) = connection.accept().await {
            answer(respond);
        }
    });
    (connected(near).await, serving)
}

/// What comes of a body that has `sent` and is then reset for `reason`, where the head states a length or none.
async fn cut(stated: Option<&'static str>, sent: &'static str, reason: Reason) -> Result<Bytes, String> {
    let (shared, _serving) = served(move |mut respond| {
        let mut head = Response::new(());
        if let Some(length) = stated {
            head.headers_mut().insert("content-length", length.parse().unwrap());
        }
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(sent.as_bytes()), false).unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            body.send_reset(reason);
        });
    })
    .await;
    let mut place = shared.enter().unwrap();
    let answered = place.send(get()).await.unwrap();
    let collected = answered.response.into_body().collect().await;
    collected.map(|whole| whole.to_bytes()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_reset_ends_a_body_that_is_whole_and_cuts_one_that_is_not() {
    assert_eq!(cut(None, "all", Reason::NO_ERROR).await.unwrap(), "all");
    assert_eq!(cut(Some("3"), "all", Reason::NO_ERROR).await.unwrap(), "all");
    let early = cut(Some("5"), "all", Reason::NO_ERROR).await.unwrap_err();
    assert_eq!(early, "the stream ended 2 bytes early");
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
        assert!(cut(None, "some", reason).await.is_err(), "{reason:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_once_nobody_holds_it_and_its_last_stream_has_ended() {
    let (shared, serving) = served(|mut respond| {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            body.send_data(Bytes::from_static(b"late"), true).unwrap();
        });
    })
    .await;
    let mut place = shared.enter().unwrap();
    let answered = place.send(get()).await.unwrap();
    drop((place, shared));
    let whole = answered.response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(whole, "late");
    let ended = tokio::time::timeout(Duration::from_secs(20), serving).await;
    ended.expect("the connection ends").unwrap();
}

#[tokio::test]
async fn what_is_sent_on_a_connection_that_the_other_side_ends_comes_back_unsent() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let _serving = tokio::spawn(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        connection.graceful_shutdown();
        while connection.accept().await.is_some() {}
    });
    let shared = connected(near).await;
    // By then its GOAWAY has come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut place = shared.enter().unwrap();
    let Err(Failed::Unsent(request, _)) = place.send(get()).await else {
        panic!("it was sent");
    };
    assert_eq!(request.uri(), "https://api.example/");
    assert!(shared.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_noticed_while_somebody_waits_and_left_alone_while_nobody_does() {
    // Nobody reads or answers on the far side.
    let (near, _far) = tokio::io::duplex(64 * 1024);
    let shared = connected(near).await;
    tokio::time::sleep(PING_INTERVAL * 10).await;
    assert!(!shared.is_closed());
    let mut place = shared.enter().unwrap();
    let begun = tokio::time::Instant::now();
    assert!(matches!(place.send(get()).await, Err(Failed::Broken(_))));
    assert!(begun.elapsed() <= PING_INTERVAL + PING_TIMEOUT, "{:?}", begun.elapsed());
    assert!(shared.is_closed());
}

/// What the server sees of a body that says three bytes, sends them and does not end, once the agent let go of it: the
/// reason of a reset that came within `time`.
async fn let_go_of(has_taken: bool, time: Duration) -> Option<Reason> {
    let (told, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let (shared, _serving) = served(move |mut respond| {
        let head = Response::builder().header("content-length", "3").body(()).unwrap();
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data(Bytes::from_static(b"all"), false).unwrap();
        let told = told.clone();
        tokio::spawn(async move {
            let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
            let _ = told.send(reset.unwrap());
        });
    })
    .await;
    let mut place = shared.enter().unwrap();
    let mut body = place.send(get()).await.unwrap().response.into_body();
    if has_taken {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "all");
    }
    drop(body);
    tokio::time::timeout(time, seen.recv()).await.ok().flatten()
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_body_that_is_whole_is_waited_for_but_not_for_ever() {
    assert_eq!(let_go_of(true, Duration::from_millis(900)).await, None);
    assert_eq!(let_go_of(true, Duration::from_secs(2)).await, Some(Reason::CANCEL));
    assert_eq!(let_go_of(false, Duration::from_millis(900)).await, Some(Reason::CANCEL));
}

/// A frame of this type, flags and stream (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn what_is_under_way_on_bodies_given_up_does_not_end_their_connection() {
    const STREAMS: u32 = 90;
    let (near, mut far) = tokio::io::duplex(1 << 20);
    far.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let shared = connected(near).await;
    let mut places: Vec<_> = (0..STREAMS).map(|_| shared.enter().unwrap()).collect();
    let asked = join_all(places.iter_mut().map(|place| place.send(get())));
    let answering = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        for n in 0..STREAMS {
            // HEADERS that end, with `:status: 200`.
            far.write_all(&frame(1, 4, 2 * n + 1, &[0x88])).await.unwrap();
        }
    };
    let (answered, ()) = tokio::join!(asked, answering);
    drop(answered.into_iter().map(Result::unwrap).collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_millis(20)).await;
    for _ in 0..ERROR_RESETS / 10 {
        for n in 0..STREAMS {
            far.write_all(&frame(0, 0, 2 * n + 1, b"m")).await.unwrap();
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!shared.is_closed());
}

#[tokio::test]
async fn a_connection_on_which_many_bodies_were_given_up_takes_no_more() {
    let (shared, _serving) = served(|mut respond| {
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move { std::future::poll_fn(|cx| body.poll_reset(cx)).await });
    })
    .await;
    for _ in 0..MOST_CUT {
        assert!(!shared.is_closed());
        let mut place = shared.enter().unwrap();
        drop(place.send(get()).await.unwrap());
    }
    assert!(shared.is_closed());
}
