//! Sends what policy permitted, over a pooled or a new connection, and hands back the response with
//! the connection's lease.

use super::awaited::Awaited;
use super::client_certificate::{ClientCertificate, Heard, Verdict};
use super::dial::Dialer;
use super::expect::Gate;
use super::http2::{self, Bounds, Place};
use super::interim::Interim;
use super::outgoing::Upload;
use super::parent::{self, Logins};
use super::pool::{Found, Key, Pool};
use super::stream::{Answered, Failed};
use super::tls::{Tls, chose_h2, has_no_http1};
use super::{Error, Line, shape};
use crate::base::ask::Scheme;
use crate::base::body::Body;
use crate::base::host::Target;
use crate::base::ids::AgentId;
use crate::base::paced::Paced;
use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use crate::config::parent::{Parent, Via};
use crate::config::{Config, model};
use crate::policy::limit::Held;
use crate::policy::{Named, Passage, Permitted};
use http::{Method, Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::either::Either;

/// Where the time of one exchange went, on the way out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Waiting for another request's dial to the same origin.
    pub queue: Duration,
    /// Resolving the name.
    pub dns: Duration,
    /// Connecting.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// Whether an open connection was used.
    pub reused: bool,
    /// Whether the upstream leg is HTTP/2.
    pub http2: bool,
}

/// A response and what must be kept until its body has ended.
#[derive(Debug)]
pub struct Answer {
    /// The response, headers as they came.
    pub response: Response<Body>,
    /// The stream that an extended CONNECT opened, if that was asked for and agreed to (RFC 8441 §5).
    pub opened: Option<Wire>,
    /// Where the time went.
    pub times: Times,
    /// The connection's lease.
    pub lease: Lease,
}

/// A connection in use. Ended by [`finish`](Self::finish) it is kept for the next request; dropped,
/// it is cancelled at once.
#[derive(Debug)]
pub struct Lease {
    kept: Option<Kept>,
    gate: Option<Gate>,
    upload: Option<Upload>,
    _held: Held,
}

#[derive(Debug)]
enum Kept {
    Http1 {
        pool: Arc<Pool>,
        key: Key,
        sender: http1::SendRequest<Body>,
    },
    Http2 {
        _place: Place,
    },
}

impl Lease {
    /// Why the request's body failed, if it did while the response was under way.
    pub fn request_failure(&self) -> Option<Error> {
        let failed = self.upload.as_ref().and_then(Upload::failure);
        failed.map(Error::RequestBody)
    }

    /// The response was read to its end: the connection may serve another request.
    pub fn finish(&mut self) {
        let withheld = self.gate.take().is_some_and(|gate| !gate.is_open());
        if let Some(Kept::Http1 { pool, key, sender }) = self.kept.take()
            && !withheld
        {
            pool.give_back(&key, sender);
        }
    }
}

/// The way out, for one configuration.
#[derive(Debug)]
pub struct Upstream {
    pool: Arc<Pool>,
    dialer: Dialer,
    tls: Tls,
    config: Arc<Config>,
    logins: Logins,
    background: Tasks,
    connect_time: Duration,
    response_time: Duration,
    stall_time: Duration,
    head_bytes: usize,
}

/// An open connection, before its first request.
enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(Place),
}

impl Upstream {
    /// Takes the way out of `config`. `own` are the addresses Keyferry listens on, `logins` what parent
    /// proxies are shown.
    ///
    /// # Errors
    /// When the configured roots cannot be read.
    pub fn new(config: &Arc<Config>, own: Vec<SocketAddr>, logins: Logins, background: Tasks) -> Result<Self, Error> {
        Ok(Self {
            pool: Arc::new(Pool::new()),
            tls: Tls::new(&config.upstream)?,
            connect_time: config.limits.connect_time,
            response_time: config.limits.response_time,
            stall_time: config.limits.stall_time,
            head_bytes: config.limits.head_bytes,
            dialer: Dialer::new(Arc::clone(config), own),
            config: Arc::clone(config),
            logins,
            background,
        })
    }

    /// The same way out that trusts the roots in this file and no others, with connections of its own.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn trusting(&self, roots: &Path) -> Result<Self, Error> {
        let trust = model::Upstream {
            system_roots: false,
            roots: vec![roots.to_owned()],
            ..model::Upstream::default()
        };
        Ok(Self {
            pool: Arc::new(Pool::new()),
            tls: Tls::new(&trust)?,
            dialer: self.dialer.clone(),
            config: Arc::clone(&self.config),
            logins: self.logins.clone(),
            background: self.background.clone(),
            ..*self
        })
    }

    /// The same way out to one address alone, whatever that is, with connections of its own: none of them is ever an agent's.
    pub(super) fn only(&self, address: IpAddr) -> Self {
        Self {
            pool: Arc::new(Pool::new()),
            tls: self.tls.clone(),
            dialer: self.dialer.only(address),
            config: Arc::clone(&self.config),
            logins: self.logins.clone(),
            background: self.background.clone(),
            ..*self
        }
    }

    /// Sends the request and waits for the head of its response. Where the upstream asks for a certificate it is shown
    /// `certificate`.
    ///
    /// # Errors
    /// When no connection can be had, or no valid response comes in time.
    pub fn forward(
        &self,
        permitted: Permitted,
        certificate: Option<Arc<ClientCertificate>>,
    ) -> impl Future<Output = Result<Answer, Error>> + Send + use<'_> {
        let rule = Arc::clone(permitted.rule());
        let agent = permitted.agent();
        let (target, scheme, request, held) = permitted.into_ask();
        self.carry((Some(agent), certificate), (target, scheme, &rule.via), request, held)
    }

    /// Sends what policy permitted to an agent, or what Keyferry asks for itself.
    pub(super) fn carry(
        &self,
        (agent, certificate): (Option<AgentId>, Option<Arc<ClientCertificate>>),
        (target, scheme, via): (Target, Scheme, &Via),
        mut request: Box<Request<Body>>,
        held: Held,
    ) -> impl Future<Output = Result<Answer, Error>> + Send + use<'_> {
        let parent = self.config.parent(via, &target).cloned();
        let awaited = Awaited::watch(&mut request);
        let mut key = Key {
            agent,
            scheme,
            target,
            parent,
            certificate,
            http1_only: awaited.gate.is_some() || shape::is_upgrade(&request),
        };
        key.http1_only = key.http1_only && !self.pool.has_no_http1(&key);
        self.deliver(key, awaited, request, held)
    }

    async fn deliver(
        &self,
        mut key: Key,
        awaited: Awaited,
        mut request: Box<Request<Body>>,
        held: Held,
    ) -> Result<Answer, Error> {
        let mut times = Times::default();
        let mut unsent = 0;
        let verdict = Verdict::default();
        let judged = |key: &Key, error| match verdict.alert() {
            Some(alert) => Error::ClientCertificate {
                target: key.target.clone(),
                shown: key.certificate.is_some(),
                alert,
            },
            None => error,
        };
        loop {
            let pooled = unsent < POOLED_TRIES;
            let connection = match self.connection(&key, pooled, &verdict, &mut times).await {
                Err(Error::Tls { source, .. }) if key.http1_only && has_no_http1(&source) => {
                    self.pool.found_no_http1(&key);
                    key.http1_only = false;
                    continue;
                }
                connection => connection.map_err(|error| judged(&key, error))?,
            };
            let sent = self.send(&key, connection, request, &awaited, &mut times).await;
            let failure = || awaited.upload.as_ref().and_then(Upload::failure);
            let sent = sent.map_err(|error| judged(&key, failure().map_or(error, Error::RequestBody)));
            match sent? {
                Ok((Answered { response, opened }, kept)) => {
                    let lease = Lease {
                        kept: Some(kept),
                        gate: awaited.gate,
                        upload: awaited.upload,
                        _held: held,
                    };
                    return Ok(Answer {
                        response,
                        opened,
                        times,
                        lease,
                    });
                }
                // The connection was closed before any of the request was written, as happens to those that
                // idled: only then may it be sent again.
                Err(back) => {
                    request = back;
                    unsent += 1;
                }
            }
        }
    }

    /// Opens a connection for an opaque tunnel.
    ///
    /// # Errors
    /// When no connection can be had.
    pub async fn tunnel(&self, passage: &Passage, times: &mut Times) -> Result<Line, Error> {
        let parent = self.config.parent(&passage.rule().via, passage.target());
        let dial = self.reach(passage.target(), parent, times);
        tokio::time::timeout(self.connect_time, dial)
            .await
            .unwrap_or_else(|_| Err(Error::ConnectTime(passage.target().clone())))
    }

    /// The addresses of a name that may be dialled, for an agent that asks for them.
    ///
    /// # Errors
    /// When it has none, or none that agents may reach.
    pub async fn look_up(&self, named: &Named) -> Result<Vec<IpAddr>, Error> {
        self.dialer.look_up(named.host()).await
    }

    /// Closes connections that idled too long, until the tasks end.
    pub async fn tend(pool_of: std::sync::Weak<Self>, tasks: Tasks) {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                _ = tick.tick() => match pool_of.upgrade() {
                    Some(upstream) => upstream.pool.sweep(),
                    None => return,
                },
            }
        }
    }

    /// A connection from the pool, if it may be one of those, or a new one.
    async fn connection(
        &self,
        key: &Key,
        pooled: bool,
        verdict: &Verdict,
        times: &mut Times,
    ) -> Result<Connection, Error> {
        let turn = match pooled.then(|| self.pooled(key, times)) {
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(turn)) => turn,
            None => None,
        };
        let start = Instant::now();
        // Boxed: the state of a dial and a handshake is long, and most requests need neither.
        let open = Box::pin(async {
            let Some(turn) = turn else {
                return self.open(key, verdict, times).await;
            };
            let held = turn.acquire_owned().await;
            times.queue = start.elapsed();
            // Whoever had the turn before may have left a connection that can be shared, or have found
            // that none can be: then nobody needs to wait for anybody.
            match self.pooled(key, times) {
                Ok(connection) => Ok(connection),
                Err(Some(_)) => self.open(key, verdict, times).await,
                Err(None) => {
                    drop(held);
                    self.open(key, verdict, times).await
                }
            }
        });
        let opened = tokio::time::timeout(self.connect_time, open).await;
        opened.unwrap_or_else(|_| Err(Error::ConnectTime(key.target.clone())))
    }

    fn pooled(&self, key: &Key, times: &mut Times) -> Result<Connection, Option<Arc<tokio::sync::Semaphore>>> {
        let connection = match self.pool.take(key) {
            Found::Http1(sender) => Connection::Http1(sender),
            Found::Http2(place) => Connection::Http2(place),
            Found::Dial(turn) => return Err(turn),
        };
        times.reused = true;
        Ok(connection)
    }

    async fn open(&self, key: &Key, verdict: &Verdict, times: &mut Times) -> Result<Connection, Error> {
        times.reused = false;
        let stream = self.reach(&key.target, key.parent.as_ref(), times).await?;
        if key.scheme == Scheme::Http {
            return self.speak_http1(key, stream).await;
        }
        let start = Instant::now();
        let ours = (key.certificate.as_deref(), verdict);
        let stream = self.tls.handshake(&key.target, stream, key.http1_only, ours).await?;
        times.tls = start.elapsed();
        if chose_h2(&stream) {
            self.speak_http2(key, Heard::new(stream, verdict)).await
        } else {
            self.speak_http1(key, Heard::new(stream, verdict)).await
        }
    }

    /// A line to the target: straight, or through the parent.
    async fn reach(&self, target: &Target, parent: Option<&Arc<Parent>>, times: &mut Times) -> Result<Line, Error> {
        let Some(parent) = parent else {
            return self.dialer.dial(target, times).await.map(Either::Left);
        };
        let way = parent::open(&self.dialer, &self.tls, &self.logins, (parent, target), times);
        way.await.map(Either::Right)
    }

    async fn speak_http1<S>(&self, key: &Key, stream: S) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.preserve_header_case(true).max_header_size(self.head_bytes);
        let stream = Paced::new(stream, self.stall_time);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|e| Error::Http(key.target.clone(), e.into()))?;
        self.background.spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        self.pool.found_http1(key);
        Ok(Connection::Http1(sender))
    }

    async fn speak_http2<S>(&self, key: &Key, stream: S) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let bounds = Bounds {
            stall_time: self.stall_time,
            head_time: self.response_time,
            head_bytes: self.head_bytes,
        };
        let begun = http2::connect(stream, shape::authority_of(key)?, bounds, &self.background).await;
        let shared = begun.map_err(|e| Error::Http(key.target.clone(), e.into()))?;
        let broken = || Error::Request("the upstream takes no stream at all");
        let place = shared.enter().ok_or_else(broken)?;
        self.pool.share(key, shared);
        Ok(Connection::Http2(place))
    }

    async fn send(
        &self,
        key: &Key,
        connection: Connection,
        mut request: Box<Request<Body>>,
        awaited: &Awaited,
        times: &mut Times,
    ) -> Result<Sent, Error> {
        let (answered, kept) = match connection {
            Connection::Http1(mut sender) => {
                times.http2 = false;
                // Given back at the end of a body, it may have a moment of work left.
                if sender.ready().await.is_err() {
                    return Ok(Err(request));
                }
                shape::for_http1(&mut request, key)?;
                let interim = Interim::count(&mut request, awaited.gate.as_ref());
                let sending = pin!(sender.try_send_request(*request));
                let answered = awaited.head(&key.target, self.response_time, Some(&interim), sending);
                let answered = answered.await?;
                let response = match answered {
                    Ok(response) => response.map(Body::from),
                    Err(mut failed) => match failed.take_message() {
                        Some(unsent) if times.reused => return Ok(Err(Box::new(unsent))),
                        _ => return Err(blame(&key.target, failed.into_error())),
                    },
                };
                let kept = Kept::Http1 {
                    pool: Arc::clone(&self.pool),
                    key: key.clone(),
                    sender,
                };
                let opened = None;
                (Answered { response, opened }, kept)
            }
            Connection::Http2(mut place) => {
                times.http2 = true;
                if shape::is_upgrade(&request) {
                    if !place.takes_extended_connect(SETTINGS_TIME).await {
                        return Err(Error::Request(
                            "the upstream speaks HTTP/2 only, and takes no WebSocket over it",
                        ));
                    }
                    shape::for_extended_connect(&mut request);
                }
                shape::for_http2(&mut request, place.authority())?;
                let sent = {
                    let sending = pin!(place.send(request));
                    awaited.head(&key.target, self.response_time, None, sending).await?
                };
                match sent {
                    Ok(answered) => (answered, Kept::Http2 { _place: place }),
                    // An extended CONNECT means nothing to the HTTP/1.1 that may be spoken next.
                    Err(Failed::Unsent(request, _)) if times.reused && request.method() != Method::CONNECT => {
                        return Ok(Err(request));
                    }
                    Err(Failed::Unsent(_, error) | Failed::Broken(error)) => {
                        return Err(Error::Http(key.target.clone(), error.into()));
                    }
                    Err(Failed::RequestBody(failure)) => return Err(Error::RequestBody(failure)),
                }
            }
        };
        let fields = answered.response.headers().len();
        if fields > shape::MOST_HEADERS {
            return Err(Error::Fields(key.target.clone(), fields));
        }
        Ok(Ok((answered, kept)))
    }
}

/// The response; or the request, of which nothing was sent.
type Sent = Result<(Answered, Kept), Box<Request<Body>>>;

/// Tells a failing request body, the agent's fault, from a failing upstream.
fn blame(target: &Target, error: hyper::Error) -> Error {
    if error.is_user() {
        return Error::RequestBody(Box::new(error));
    }
    Error::Http(target.clone(), error.into())
}

/// How many pooled connections may turn out to be closed before a new one is made for sure.
const POOLED_TRIES: u32 = 3;
/// How long an upstream may take to say, in its first SETTINGS, that it takes extended CONNECT.
const SETTINGS_TIME: Duration = Duration::from_secs(2);
