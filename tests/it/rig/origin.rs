//! An HTTPS origin that keeps what it received: the other end of what the tests promise.

use super::eventually;
use super::root::{Root, Validity};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub type AnyError = Box<dyn std::error::Error + Send + Sync>;
pub type AnyBody = http_body_util::combinators::UnsyncBoxBody<Bytes, AnyError>;
pub type Answer = Pin<Box<dyn Future<Output = Response<AnyBody>> + Send>>;
/// What an origin does with a request.
pub type Service = Arc<dyn Fn(Request<AnyBody>, Origin) -> Answer + Send + Sync>;

/// Which protocols an origin speaks.
#[derive(Clone, Copy, PartialEq)]
pub enum Speaks {
    Http1,
    Http2,
    Both,
}

/// One request as the origin received it.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    /// Path and query, byte for byte as they came.
    pub target: String,
    pub authority: String,
    pub http2: bool,
    pub headers: HeaderMap,
    pub trailers: Option<HeaderMap>,
    pub body_bytes: u64,
    /// The first part of the body.
    pub body: Vec<u8>,
    /// Whether the request's body came to its proper end.
    pub whole: bool,
    /// Whether the answer was taken to its end; `Some(false)` is an exchange cut short.
    pub answered: Option<bool>,
}

impl Received {
    /// The values of a header, as text.
    pub fn all(&self, name: &str) -> Vec<String> {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        self.headers.get_all(name).iter().map(text).collect()
    }
}

/// A running origin. Cheap to clone; it ends with the test's runtime.
#[derive(Clone)]
pub struct Origin {
    pub name: String,
    pub address: SocketAddr,
    /// Routes that stream wait for one permit before each piece: the test says when.
    pub gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<Arc<Mutex<Received>>>>>,
    /// Whether it keeps what it received; one that serves for long must not.
    keeps: bool,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// An origin with the standard routes (see [`super::routes`]).
    pub async fn start(root: &Root, name: &str) -> Self {
        Self::with(root, name, Speaks::Both, Arc::new(super::routes::standard)).await
    }

    /// An origin with the standard routes that speaks only one protocol.
    pub async fn speaking(root: &Root, name: &str, speaks: Speaks) -> Self {
        Self::with(root, name, speaks, Arc::new(super::routes::standard)).await
    }

    /// An origin with a service of its own.
    pub async fn with(root: &Root, name: &str, speaks: Speaks, service: Service) -> Self {
        let alpn: &[&str] = match speaks {
            Speaks::Http1 => &["http/1.1"],
            Speaks::Http2 => &["h2"],
            Speaks::Both => &["h2", "http/1.1"],
        };
        let tls = TlsAcceptor::from(root.server(&[name], Validity::Now, alpn));
        let (origin, listener) = Self::bind(name).await;
        tokio::spawn(origin.clone().accept(listener, Some(tls), service));
        origin
    }

    /// An origin with the standard routes that has one certificate for several names.
    pub async fn with_names(root: &Root, names: &[&str]) -> Self {
        let tls = TlsAcceptor::from(root.server(names, Validity::Now, &["h2", "http/1.1"]));
        let (origin, listener) = Self::bind(names[0]).await;
        let service = Arc::new(super::routes::standard);
        tokio::spawn(origin.clone().accept(listener, Some(tls), service));
        origin
    }

    /// An origin with a service of its own and several names, to serve for long: it keeps nothing of what it received.
    pub async fn lasting(root: &Root, names: &[&str], service: Service) -> Self {
        let tls = TlsAcceptor::from(root.server(names, Validity::Now, &["h2", "http/1.1"]));
        Self::last(names[0], Some(tls), service).await
    }

    /// The same in plain HTTP/1.1.
    pub async fn lasting_plain(service: Service) -> Self {
        Self::last("", None, service).await
    }

    async fn last(name: &str, tls: Option<TlsAcceptor>, service: Service) -> Self {
        let (mut origin, listener) = Self::bind(name).await;
        origin.keeps = false;
        tokio::spawn(origin.clone().accept(listener, tls, service));
        origin
    }

    /// The standard routes at an address and with TLS settings of the test's choice.
    pub async fn with_tls(at: SocketAddr, tls: Arc<rustls::ServerConfig>) -> Self {
        let (origin, listener) = Self::bind_at(at, "").await;
        let (tls, service) = (TlsAcceptor::from(tls), Arc::new(super::routes::standard));
        tokio::spawn(origin.clone().accept(listener, Some(tls), service));
        origin
    }

    /// The standard routes in plain HTTP/1.1.
    pub async fn plain(name: &str) -> Self {
        let (origin, listener) = Self::bind(name).await;
        tokio::spawn(origin.clone().accept(listener, None, Arc::new(super::routes::standard)));
        origin
    }

    /// An origin with the standard routes, in the network that process `pid` is in.
    pub async fn within(root: &Root, name: &str, pid: u32, at: SocketAddr) -> Self {
        let tls = TlsAcceptor::from(root.server(&[name], Validity::Now, &["h2", "http/1.1"]));
        let listener = in_network(pid, || std::net::TcpListener::bind(at).unwrap());
        listener.set_nonblocking(true).unwrap();
        let (origin, listener) = Self::listening(name, TcpListener::from_std(listener).unwrap());
        tokio::spawn(
            origin
                .clone()
                .accept(listener, Some(tls), Arc::new(super::routes::standard)),
        );
        origin
    }

    async fn bind(name: &str) -> (Self, TcpListener) {
        Self::bind_at(SocketAddr::from(([127, 0, 0, 1], 0)), name).await
    }

    async fn bind_at(at: SocketAddr, name: &str) -> (Self, TcpListener) {
        Self::listening(name, TcpListener::bind(at).await.unwrap())
    }

    fn listening(name: &str, listener: TcpListener) -> (Self, TcpListener) {
        let origin = Self {
            name: name.to_owned(),
            address: listener.local_addr().unwrap(),
            gate: Arc::new(Semaphore::new(0)),
            seen: Arc::default(),
            keeps: true,
            connections: Arc::default(),
        };
        (origin, listener)
    }

    async fn accept(self, listener: TcpListener, tls: Option<TlsAcceptor>, service: Service) {
        let mut connections = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            connections.spawn(self.clone().greet(tcp, tls.clone(), service.clone()));
        }
    }

    async fn greet(self, tcp: TcpStream, tls: Option<TlsAcceptor>, service: Service) {
        let Some(tls) = tls else {
            return self.connection(tcp, false, service).await;
        };
        let Ok(io) = tls.accept(tcp).await else { return };
        let http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
        self.connection(io, http2, service).await;
    }

    async fn connection<I>(&self, io: I, http2: bool, service: Service)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let origin = self.clone();
        let answer = service_fn(move |request| {
            let (origin, service) = (origin.clone(), service.clone());
            async move { Ok::<_, Infallible>(origin.exchange(request, &service).await) }
        });
        let io = TokioIo::new(io);
        if http2 {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server
                .timer(TokioTimer::new())
                .enable_connect_protocol()
                .max_header_list_size(1 << 20);
            let _ = server.serve_connection(io, answer).await;
        } else {
            let mut server = hyper::server::conn::http1::Builder::new();
            server
                .timer(TokioTimer::new())
                .max_header_size(1 << 20)
                .preserve_header_case(true);
            let _ = server.serve_connection(io, answer).with_upgrades().await;
        }
    }

    async fn exchange(&self, request: Request<Incoming>, service: &Service) -> Response<AnyBody> {
        let uri = request.uri();
        let host = request
            .headers()
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok());
        let received = Arc::new(Mutex::new(Received {
            method: request.method().to_string(),
            target: uri
                .path_and_query()
                .map_or_else(|| uri.to_string(), ToString::to_string),
            authority: uri
                .authority()
                .map_or(host.unwrap_or_default(), |a| a.as_str())
                .to_owned(),
            http2: request.version() == http::Version::HTTP_2,
            headers: request.headers().clone(),
            ..Received::default()
        }));
        if self.keeps {
            self.seen.lock().unwrap().push(received.clone());
        }
        let ending = Ending(received.clone());
        let request = request.map(|body| Counted { body, received }.boxed_unsync());
        let response = service(request, self.clone()).await;
        response.map(|body| Watched { body, ending }.boxed_unsync())
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Received> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|one| one.lock().unwrap().clone())
            .collect()
    }

    /// The one request there was.
    pub fn only(&self) -> Received {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "one request was expected at {}: {seen:#?}", self.name);
        seen.remove(0)
    }

    /// How many connections were ever accepted (and got through TLS).
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits for a request that `probe` recognises.
    pub async fn saw(&self, what: &str, probe: impl Fn(&Received) -> bool) -> Received {
        eventually(what, || self.seen().into_iter().find(|one| probe(one))).await
    }
}

/// Does something in the network that process `pid` is in. A socket stays in the network it was made in, and only the
/// thread that makes it has to go there.
pub fn in_network<T: Send>(pid: u32, make: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let there = || {
        let network = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        make()
    };
    std::thread::scope(|scope| scope.spawn(there).join().unwrap())
}

/// Notes how an answer ended, however it ended.
struct Ending(Arc<Mutex<Received>>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().unwrap().answered.get_or_insert(false);
    }
}

struct Watched {
    body: AnyBody,
    ending: Ending,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || matches!(frame, Poll::Ready(Some(Ok(_))) if self.body.is_end_stream())
        {
            self.ending.0.lock().unwrap().answered = Some(true);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        let end = self.body.is_end_stream();
        if end {
            self.ending.0.lock().unwrap().answered = Some(true);
        }
        end
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Counts a request's body as the service reads it.
struct Counted {
    body: Incoming,
    received: Arc<Mutex<Received>>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut received = self.received.lock().unwrap();
        match &polled {
            Poll::Ready(None) => received.whole = true,
            Poll::Ready(Some(Ok(frame))) => received.take(frame),
            _ => {}
        }
        received.whole |= matches!(polled, Poll::Ready(Some(Ok(_)))) && self.body.is_end_stream();
        drop(received);
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        let end = self.body.is_end_stream();
        self.received.lock().unwrap().whole |= end;
        end
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Received {
    fn take(&mut self, frame: &Frame<Bytes>) {
        if let Some(piece) = frame.data_ref() {
            self.body_bytes += piece.len() as u64;
            let room = (64 * 1024_usize).saturating_sub(self.body.len()).min(piece.len());
            self.body.extend_from_slice(&piece[..room]);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }
}
