#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use super::*;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use http_body_util::BodyExt as _;
use tokio::io::DuplexStream;
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
