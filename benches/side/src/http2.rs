//! Streams of one HTTP/2 connection.

use crate::way::Way;
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use std::future::poll_fn;
use std::io;

/// A connection; clones are streams of it.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<Bytes>,
}

/// What came back.
pub struct Reply {
    pub status: u16,
    /// `grpc-status`, in the trailers or else in the head.
    pub grpc: Option<String>,
}

/// A request to send, ready for every time.
pub fn request(way: &Way, method: &str, path: &str, more: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://{}{path}", way.host()))
        .header("user-agent", "side/1")
        .header("accept", "*/*");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    if let Some(value) = way.authorization() {
        request = request.header("authorization", value);
    }
    request.body(()).expect("the parts are ours")
}

impl Http2 {
    pub async fn open(way: &Way) -> io::Result<Self> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(1 << 20)
            .initial_connection_window_size(8 << 20);
        let link = way.dial(way.host()).await?;
        let (sender, connection) = builder.handshake(link).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Sends `request` with `body`, if it has one, and reads the whole answer.
    pub async fn ask(&mut self, request: Request<()>, body: Option<Bytes>) -> io::Result<Reply> {
        poll_fn(|cx| self.sender.poll_ready(cx))
            .await
            .map_err(io::Error::other)?;
        let sent = self.sender.send_request(request, body.is_none());
        let (answer, mut stream) = sent.map_err(io::Error::other)?;
        if let Some(body) = body {
            stream.send_data(body, true).map_err(io::Error::other)?;
        }
        let (head, mut body) = answer.await.map_err(io::Error::other)?.into_parts();
        while let Some(piece) = body.data().await {
            let length = piece.map_err(io::Error::other)?.len();
            let _ = body.flow_control().release_capacity(length);
        }
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        let grpc = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        let grpc = grpc
            .or_else(|| head.headers.get("grpc-status"))
            .and_then(|v| v.to_str().ok());
        Ok(Reply {
            status: head.status.as_u16(),
            grpc: grpc.map(str::to_owned),
        })
    }
}
