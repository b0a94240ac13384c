//! An agent from below: CONNECT by hand, TLS that trusts only Keyferry's CA, HTTP/1.1 and HTTP/2.

use super::origin::AnyBody;
use super::routes;
use super::soon;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::WantsClientCert;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Who asks, and through which proxy.
#[derive(Clone)]
pub struct Agent {
    pub proxy: SocketAddr,
    pub trust: Arc<RootCertStore>,
    /// The value of `Proxy-Authorization`, if it offers one.
    pub offer: Option<String>,
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    /// Collects an answer; the error is that of a body cut short.
    pub async fn read(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let body = soon("the body's end", body.collect()).await?;
        Ok(Self {
            status: head.status,
            version: head.version,
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text()))
    }

    /// Keyferry's own word for what went wrong.
    pub fn code(&self) -> &str {
        self.headers
            .get("x-keyferry-error")
            .map_or("", |value| value.to_str().unwrap())
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// One HTTP connection inside a tunnel.
pub enum Http {
    One(http1::SendRequest<AnyBody>),
    Two(http2::SendRequest<AnyBody>),
}

impl Agent {
    /// An agent that trusts the certificates in `pem` and nothing else.
    pub fn new(proxy: SocketAddr, pem: &str) -> Self {
        let mut trust = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            trust.add(certificate.unwrap()).unwrap();
        }
        assert!(!trust.is_empty(), "no certificate in Keyferry's CA file");
        Self {
            proxy,
            trust: Arc::new(trust),
            offer: None,
        }
    }

    /// A TCP connection to the proxy, nothing said yet.
    pub async fn dial(&self) -> Raw<TcpStream> {
        Raw::new(TcpStream::connect(self.proxy).await.unwrap())
    }

    /// Asks for a tunnel; the proxy's answer, and the line.
    pub async fn connect(&self, target: &str) -> (u16, String, Raw<TcpStream>) {
        let mut raw = self.dial().await;
        let offer = self
            .offer
            .as_ref()
            .map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
        raw.say(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{offer}\r\n"))
            .await;
        let head = raw.head().await;
        (status(&head), head, raw)
    }

    /// A tunnel with TLS in it, by default to port 443.
    pub async fn tls(&self, host: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let target = if has_port {
            host.to_owned()
        } else {
            format!("{host}:443")
        };
        let (status, head, raw) = self.connect(&target).await;
        assert_eq!(status, 200, "no tunnel to {target}: {head}");
        let name = target.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned();
        self.handshake(raw.io, &name, alpn)
            .await
            .unwrap_or_else(|error| panic!("no TLS for {name}: {error}"))
    }

    /// TLS settings that trust what this agent trusts.
    pub fn trusting(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.trust.clone())
    }

    /// TLS for `name` over any line.
    pub async fn handshake<I>(&self, io: I, name: &str, alpn: &[&str]) -> std::io::Result<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = self.trusting().with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        soon(
            "the TLS handshake",
            TlsConnector::from(Arc::new(config)).connect(name, io),
        )
        .await
    }

    /// HTTP/1.1 by hand, inside a tunnel.
    pub async fn raw(&self, host: &str) -> Raw<TlsStream<TcpStream>> {
        Raw::new(self.tls(host, &["http/1.1"]).await)
    }

    /// HTTP/1.1 inside a tunnel.
    pub async fn h1(&self, host: &str) -> Http {
        Http::one(self.tls(host, &["http/1.1"]).await).await
    }

    /// HTTP/2 inside a tunnel.
    pub async fn h2(&self, host: &str) -> Http {
        let io = self.tls(host, &["h2"]).await;
        assert_eq!(
            io.get_ref().1.alpn_protocol(),
            Some(&b"h2"[..]),
            "the proxy offers no h2 for {host}"
        );
        Http::two(io).await
    }

    /// HTTP over TLS for `host`, on any line that leads there.
    pub async fn http_over<I>(&self, io: I, host: &str, http2: bool) -> Http
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let alpn: &[&str] = if http2 { &["h2"] } else { &["http/1.1"] };
        let io = self.handshake(io, host, alpn).await;
        let io = io.unwrap_or_else(|error| panic!("no TLS for {host}: {error}"));
        if http2 {
            Http::two(io).await
        } else {
            Http::one(io).await
        }
    }

    /// One GET over HTTP/1.1.
    pub async fn get(&self, url: &str) -> Reply {
        let host = host(url);
        self.h1(host).await.reply(get(url)).await
    }

    /// One GET over HTTP/2.
    pub async fn get2(&self, url: &str) -> Reply {
        let host = host(url);
        self.h2(host).await.reply(get(url)).await
    }
}

impl Http {
    /// HTTP/1.1 on any line.
    pub async fn one(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let mut client = http1::Builder::new();
        let client = client.preserve_header_case(true).handshake(TokioIo::new(io));
        let (send, connection) = client.await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self::One(send)
    }

    /// HTTP/2 on any line.
    pub async fn two(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let mut client = http2::Builder::new(TokioExecutor::new());
        let client = client.max_header_list_size(1 << 20).handshake(TokioIo::new(io));
        let (send, connection) = client.await.unwrap();
        tokio::spawn(connection);
        Self::Two(send)
    }

    /// Sends a request; give it the whole `https://` URL, whichever the protocol.
    pub async fn send(&mut self, request: Request<AnyBody>) -> Result<Response<Incoming>, hyper::Error> {
        soon("an answer's head", self.head(request)).await
    }

    /// The same, however long it takes: an upload's answer comes after its last byte.
    pub async fn head(&mut self, mut request: Request<AnyBody>) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::One(send) => {
                let uri = request.uri().clone();
                if let Some(authority) = uri.authority().filter(|_| !request.headers().contains_key("host")) {
                    request
                        .headers_mut()
                        .insert("host", authority.as_str().parse().unwrap());
                }
                *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse().unwrap();
                send.ready().await?;
                send.send_request(request).await
            }
            Self::Two(send) => {
                *request.version_mut() = Version::HTTP_2;
                send.ready().await?;
                send.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn reply(&mut self, request: Request<AnyBody>) -> Reply {
        let response = self
            .send(request)
            .await
            .unwrap_or_else(|error| panic!("no answer: {error:?}"));
        Reply::read(response)
            .await
            .unwrap_or_else(|error| panic!("a body cut short: {error:?}"))
    }
}

/// A GET without a body.
pub fn get(url: &str) -> Request<AnyBody> {
    Request::get(url).body(routes::nothing()).unwrap()
}

/// A request with a whole body.
pub fn request(method: Method, url: &str, body: impl Into<Bytes>) -> Request<AnyBody> {
    Request::builder()
        .method(method)
        .uri(url)
        .body(routes::full(body))
        .unwrap()
}

fn host(url: &str) -> &str {
    let rest = url
        .strip_prefix("https://")
        .unwrap_or_else(|| panic!("not https: {url}"));
    rest.split('/').next().unwrap_or(rest)
}

/// The status in a raw head.
pub fn status(head: &str) -> u16 {
    head.split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no status line: {head:?}"))
}

/// The `Content-Length` in a raw head.
pub fn content_length(head: &str) -> usize {
    let lower = head.to_lowercase();
    let value = lower
        .split("\r\ncontent-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next());
    value
        .and_then(|length| length.parse().ok())
        .unwrap_or_else(|| panic!("no length in {head:?}"))
}

/// A line spoken by hand.
pub struct Raw<I> {
    pub io: I,
    buffer: Vec<u8>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Raw<I> {
    pub fn new(io: I) -> Self {
        Self { io, buffer: Vec::new() }
    }

    /// Sends bytes at once.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Reads one head, up to and with its empty line; what there was when the line ended before.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8_lossy(&self.buffer.drain(..at + 4).collect::<Vec<u8>>()).into_owned();
            }
            if !soon("a head", self.more()).await {
                return String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned();
            }
        }
    }

    /// Reads so many bytes; fewer when the line ended before.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && soon("more bytes", self.more()).await {}
        let end = count.min(self.buffer.len());
        self.buffer.drain(..end).collect()
    }

    /// Reads to the end; whether it was a clean one.
    pub async fn rest(&mut self) -> (Vec<u8>, bool) {
        loop {
            match soon("the end", self.io.read_buf(&mut self.buffer)).await {
                Ok(0) => return (std::mem::take(&mut self.buffer), true),
                Ok(_) => {}
                Err(_) => return (std::mem::take(&mut self.buffer), false),
            }
        }
    }

    async fn more(&mut self) -> bool {
        self.io.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0)
    }
}
