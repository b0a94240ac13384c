//! A client that knows one way to the origin.

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How to reach the origin, and whom to trust there.
pub struct Way {
    address: SocketAddr,
    host: &'static str,
    proxied: bool,
    tls: [Arc<ClientConfig>; 2],
}

/// A connection, or one of the streams on it.
pub enum Link {
    Http1(http1::SendRequest<Empty<bytes::Bytes>>, &'static str),
    Http2(http2::SendRequest<Empty<bytes::Bytes>>, &'static str),
}

impl Way {
    /// Straight to the origin, which shows a certificate under `root`.
    pub fn direct(address: SocketAddr, host: &'static str, root: &str) -> Self {
        let tls = [&b"http/1.1"[..], b"h2"].map(|alpn| config(root, alpn));
        Self {
            address,
            host,
            proxied: false,
            tls,
        }
    }

    /// Through the proxy, whose CA is `root`.
    pub fn through(proxy: SocketAddr, host: &'static str, root: &str) -> Self {
        Self {
            proxied: true,
            ..Self::direct(proxy, host, root)
        }
    }
}

/// Without resumption: every handshake is a full one.
fn config(root: &str, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

impl Link {
    /// Opens a connection.
    pub async fn open(way: &Way, http2: bool) -> Self {
        let mut stream = TcpStream::connect(way.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if way.proxied {
            connect(&mut stream, way.host).await;
        }
        let name = ServerName::try_from(way.host).unwrap();
        let tls = TlsConnector::from(Arc::clone(&way.tls[usize::from(http2)]));
        let io = TokioIo::new(tls.connect(name, stream).await.unwrap());
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Self::Http2(sender, way.host)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Self::Http1(sender, way.host)
        }
    }

    /// Another stream of an HTTP/2 connection.
    pub fn stream(&self) -> Self {
        match self {
            Self::Http1(..) => unreachable!("HTTP/1.1 has no streams"),
            Self::Http2(sender, host) => Self::Http2(sender.clone(), host),
        }
    }

    /// One request and the whole of its answer.
    pub async fn ask(&mut self) -> usize {
        let request = Request::get("/v1/models?page=2").header("accept", "application/json");
        let reply = match self {
            Self::Http1(sender, host) => {
                let request = request.header("host", *host).body(Empty::new()).unwrap();
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Self::Http2(sender, host) => {
                let uri = format!("https://{host}/v1/models?page=2");
                sender
                    .send_request(request.uri(uri).body(Empty::new()).unwrap())
                    .await
                    .unwrap()
            }
        };
        assert_eq!(reply.status(), StatusCode::OK);
        reply.into_body().collect().await.unwrap().to_bytes().len()
    }
}

async fn connect(stream: &mut TcpStream, host: &str) {
    let head = format!("CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        reply.push(stream.read_u8().await.unwrap());
    }
    assert!(
        reply.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&reply)
    );
}
