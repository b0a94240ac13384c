//! An origin that answers at once.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keyferry::base::host::Host;
use keyferry::base::tasks::Tasks;
use keyferry::ca::authority::Authority;
use keyferry::ca::leaves::Leaves;
use keyferry::config::model::CaSource;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Serves `host` until the runtime ends, under a root of its own: where it listens, and the root as PEM.
pub async fn start(host: &str, http2: bool) -> (SocketAddr, String) {
    let root = Arc::new(Authority::open(&CaSource::Memory).unwrap());
    let pem = root.certificate_pem();
    let leaves = Leaves::new(root, 1).unwrap();
    let mut config = (*leaves.server_config(&Host::parse(host).unwrap()).await.unwrap()).clone();
    config.alpn_protocols.retain(|name| http2 || name != b"h2");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(acceptor.clone(), stream));
        }
    });
    (address, pem)
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let (io, service) = (TokioIo::new(stream), service_fn(answer));
    // A client that hangs up has what it wanted.
    let _ = if http2 {
        http2::Builder::new(Tasks::new()).serve_connection(io, service).await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}

/// About a kilobyte of JSON, without the credential.
async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    const BODY: &str = r#"{"id":81723,"name":"a repository","url":"https://api.bench.test/repos/x","ok":true},"#;
    static WHOLE: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| BODY.repeat(12).into());
    let mut reply = Response::new(Full::new(WHOLE.clone()));
    let json = http::HeaderValue::from_static("application/json");
    reply.headers_mut().insert("content-type", json);
    Ok(reply)
}
