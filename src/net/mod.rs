//! The way out: resolve once, guard what was resolved, dial what was guarded, verify TLS, send.
//! Takes nothing but what policy permitted, and treats every upstream as hostile.

mod awaited;
mod client_certificate;
pub mod dial;
pub mod errand;
mod expect;
pub mod guard;
mod http2;
mod interim;
mod outgoing;
pub mod parent;
pub mod pool;
pub mod resolve;
pub mod send;
mod shape;
mod stream;
pub mod tls;

pub use client_certificate::{ClientCertificate, Unfit as UnfitCertificate};
pub use send::{Answer, Lease, Times, Upstream};
pub use shape::MOST_HEADERS;

use crate::base::ask::Scheme;
use crate::base::host::Target;
use crate::base::wire::Wire;
use crate::config::parent::Parent;
use http::uri::PathAndQuery;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_util::either::Either;

/// A connection that leads to a target: a socket of our own, or what a parent proxy passes on.
pub type Line = Either<TcpStream, Wire>;

/// The target as the request will name it, in `Host` or `:authority`: who signs a request must know.
pub fn authority(target: &Target, scheme: Scheme) -> String {
    shape::authority(target, scheme)
}

/// Path and query as they will go out; `None` for what cannot.
pub fn path_sent(path: &PathAndQuery) -> Option<PathAndQuery> {
    shape::in_ascii(path)
}

/// Why an upstream could not be asked. The text is for the log; the agent is told a code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address.
    #[error("cannot resolve {0}: {1}")]
    Resolve(Target, #[source] io::Error),
    /// Every address is one that may not be dialled.
    #[error("{target} resolves to {ip}, which is {kind}; add it to `upstream.allow_networks` if agents may reach it")]
    Guarded {
        /// Where the agent wanted to go.
        target: Target,
        /// The address it resolved to.
        ip: IpAddr,
        /// What kind of address that is.
        kind: &'static str,
    },
    /// It leads back to Keyferry itself.
    #[error("{0} is Keyferry itself")]
    Loop(Target),
    /// The parent proxy gave no way to the target.
    #[error("{target} through the parent {parent}: {fault}")]
    Parent {
        /// The parent.
        parent: Arc<Parent>,
        /// Where the agent wanted to go.
        target: Target,
        /// What came between.
        #[source]
        fault: parent::Fault,
    },
    /// This process may open no more sockets.
    #[error("cannot connect to {0}: {1}; raise the limit (`ulimit -n`, `LimitNOFILE`)")]
    Exhausted(Target, #[source] io::Error),
    /// No address accepted a connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(Target, #[source] io::Error),
    /// Resolving, connecting and shaking hands took too long.
    #[error("no connection to {0} in time")]
    ConnectTime(Target),
    /// The certificate does not verify, or TLS failed otherwise.
    #[error("TLS with {target}: {source}{}", tls::doubt(source))]
    Tls {
        /// The upstream.
        target: Target,
        /// Whether it is the certificate that does not verify.
        certificate: bool,
        /// What rustls says.
        #[source]
        source: io::Error,
    },
    /// The upstream wants another client certificate than the one it was shown, or one at all.
    #[error("{target} {} ({alert:?})", if *shown { "does not take the client certificate of the rule" }
        else { "wants a client certificate, and the rule has none (`mtls`)" })]
    ClientCertificate {
        /// The upstream.
        target: Target,
        /// Whether it was shown one.
        shown: bool,
        /// What it said.
        alert: rustls::AlertDescription,
    },
    /// No response head in time.
    #[error("{0} sent no response in time")]
    ResponseTime(Target),
    /// The upstream closed, or broke the protocol, before a whole response head.
    #[error("{0} broke off or sent no valid HTTP: {1}")]
    Http(Target, #[source] crate::base::body::BoxError),
    /// More interim responses than anybody has a use for.
    #[error("{0} sent one interim response after another, and none that is final")]
    Interim(Target),
    /// More header fields than are taken.
    #[error("{0} sent {1} header fields; at most {most} are taken", most = shape::MOST_HEADERS)]
    Fields(Target, usize),
    /// An answer to a request of Keyferry's own is longer than any should be.
    #[error("{0} sent more than {1} bytes")]
    Long(Target, usize),
    /// The agent began to send a request body and stopped.
    #[error("the agent sent nothing of its request body for {0:?}")]
    Stalled(std::time::Duration),
    /// The request's own body failed: the agent went away or sent garbage.
    #[error("the request body failed: {0}")]
    RequestBody(#[source] crate::base::body::BoxError),
    /// What policy permitted cannot be written as a request.
    #[error("the request cannot be sent: {0}")]
    Request(&'static str),
    /// The configured roots cannot be read.
    #[error("{0}")]
    Roots(String),
}
