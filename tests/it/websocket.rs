//! WebSocket on hosts with injection: over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441), paired either way.

use crate::fidelity::{before, before_script};
use crate::rig::agent::{Agent, Http, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::script::Script;
use crate::rig::{routes, soon};
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Opens a WebSocket through the proxy, over the agent's HTTP of choice.
pub async fn open(agent: &Agent, http2: bool, path: &str) -> Result<Socket, (StatusCode, String)> {
    let http = if http2 {
        agent.h2("api.test").await
    } else {
        agent.h1("api.test").await
    };
    over(http, &format!("https://api.test{path}")).await
}

/// Opens a WebSocket as a browser would.
pub async fn over(mut http: Http, url: &str) -> Result<Socket, (StatusCode, String)> {
    let socket = on(&mut http, url).await?;
    // An HTTP/2 connection ends when its last handle is gone.
    if let Http::Two(send) = http {
        tokio::spawn(async move {
            let _send = send;
            std::future::pending::<()>().await;
        });
    }
    Ok(socket)
}

/// The same on a connection that the caller keeps.
pub async fn on(http: &mut Http, url: &str) -> Result<Socket, (StatusCode, String)> {
    let http2 = matches!(http, Http::Two(_));
    let ask = if http2 {
        Request::connect(url).extension(Protocol::from_static("websocket"))
    } else {
        Request::get(url)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", KEY)
    };
    let ask = ask.header("sec-websocket-version", "13");
    let response = http.send(ask.body(routes::nothing()).unwrap()).await.unwrap();
    let wanted = if http2 {
        StatusCode::OK
    } else {
        StatusCode::SWITCHING_PROTOCOLS
    };
    if response.status() != wanted {
        let code = response
            .headers()
            .get("x-keyferry-error")
            .map_or("", |code| code.to_str().unwrap());
        return Err((response.status(), code.to_owned()));
    }
    if !http2 {
        assert_eq!(
            response.headers()["sec-websocket-accept"],
            routes::accept(KEY.as_bytes())
        );
    }
    let upgraded = soon("the upgrade", hyper::upgrade::on(response)).await.unwrap();
    Ok(ClientBuilder::new().take_over(TokioIo::new(upgraded)))
}

pub async fn echo(socket: &mut Socket, message: Message) {
    socket.send(message.clone()).await.unwrap();
    let back = soon("the echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(back.is_text(), message.is_text());
    assert!(
        back.as_payload()[..] == message.as_payload()[..],
        "another message came back"
    );
}

#[tokio::test]
async fn messages_go_both_ways_on_each_pairing() {
    for (http2, speaks) in crate::fidelity::PAIRS {
        let (origin, proxy) = before(speaks).await;
        let mut socket = open(&proxy.agent, http2, "/ws").await.unwrap();
        echo(&mut socket, Message::text("caf\u{e9}".to_owned())).await;
        echo(&mut socket, Message::binary(vec![7; 300_000])).await;
        echo(&mut socket, Message::text("x".repeat(70_000))).await;
        let seen = origin.only();
        assert_eq!(seen.all("x-api-key"), ["sk-live-0a1b2c3d4e5f"]);
        assert_eq!(seen.method, if speaks == Speaks::Http2 { "CONNECT" } else { "GET" });
        socket.close().await.unwrap();
        let closed = soon("the close", socket.next()).await;
        assert!(closed.is_none_or(|message| message.is_ok_and(|m| m.is_close())));
        let record = proxy.record().await;
        assert_eq!(record["outcome"], "ok", "{record:#}");
        assert!(record["bytes_in"].as_u64().unwrap() > 370_000, "{record:#}");
    }
}

#[tokio::test]
async fn a_websocket_the_origin_refuses_is_refused_in_its_words() {
    for http2 in [false, true] {
        let (_, proxy) = before(Speaks::Http1).await;
        let (status, code) = open(&proxy.agent, http2, "/status/426").await.err().unwrap();
        assert_eq!((status.as_u16(), code.as_str()), (426, ""));
    }
}

#[tokio::test]
async fn an_accept_that_does_not_fit_the_key_opens_nothing() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        line.say(format!(
            "{head}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"
        ))
        .await;
        line.gone().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    // Bridged from HTTP/2 the key is the proxy's own, so only the proxy can check it.
    let (status, code) = open(&proxy.agent, true, "/ws").await.err().unwrap();
    assert_eq!((status, code.as_str()), (StatusCode::BAD_GATEWAY, "upstream_protocol"));
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_answer() {
    let root = Root::new();
    let origin = Script::start(&root, "api.test", |mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nraw bytes")
            .await;
        line.gone().await;
    })
    .await;
    let proxy = before_script(&root, &origin).await;
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert_eq!(status(&raw.head().await), 502);
}

#[tokio::test]
async fn a_placeholder_in_a_text_message_becomes_the_credential() {
    let root = Root::new();
    for (http2, speaks) in crate::fidelity::PAIRS {
        let origin = Origin::speaking(&root, "api.test", speaks).await;
        let proxy = Rig::new(&root)
            .reach(&origin)
            .env("API_KEY", "sk-live-0a1b2c3d4e5f")
            .secret_spec("api_key", "{ env: API_KEY, placeholder: sk-live-standin00000 }")
            .rule("host: api.test, inject: [{ placeholder: api_key, in: [websocket] }]")
            .serve()
            .await;
        let auth = |key: &str| format!("{{\"auth\":\"{key}\"}}");
        // What the origin got is told by its digest alone: what it echoes passes the scrubber.
        let mut socket = open(&proxy.agent, http2, "/ws-sha256").await.unwrap();
        socket.send(Message::text(auth("sk-live-standin00000"))).await.unwrap();
        let digest = soon("the digest", socket.next()).await.unwrap().unwrap();
        let got = routes::sha256(auth("sk-live-0a1b2c3d4e5f").as_bytes());
        assert_eq!(digest.as_text(), Some(got.as_str()));
        let mut socket = open(&proxy.agent, http2, "/ws").await.unwrap();
        socket.send(Message::text(auth("sk-live-standin00000"))).await.unwrap();
        let back = soon("the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(
            back.as_text(),
            Some(auth("sk-live-standin00000").as_str()),
            "the echo was not masked"
        );
        echo(&mut socket, Message::text("after".to_owned())).await;
    }
}
