//! Inside a granted CONNECT: TLS ended with a leaf for the target, then each request judged by itself.

use super::connection::Conn;
use super::fault::chain;
use super::halfclose::{Ends, Hold, Patient};
use super::live::Proxy;
use super::recorded::Entry;
use super::serving;
use crate::audit::{Mode, Outcome};
use crate::base::ask::Scheme;
use crate::base::host::Host;
use crate::base::wire::Wire;
use crate::front::first::{self, Spoken, Version};
use http_body::Body as _;
use rustls::server::Acceptor;
use std::io;
use std::sync::Arc;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Serves what the agent sends through a granted CONNECT.
pub fn serve(proxy: &Arc<Proxy>, wire: Wire, conn: Conn) -> impl Future<Output = ()> + Send {
    // Boxed, as whatever is long and soon over: a connection holds its longest state for as long as it lives.
    let opened = Box::pin(open(proxy, wire, conn));
    async move {
        if let Some((wire, conn, version)) = opened.await {
            converse(proxy, wire, conn, version).await;
        }
    }
}

/// Finds out what is spoken, and ends TLS where it is that; `None` when it came to nothing, of which there is a record.
async fn open(proxy: &Arc<Proxy>, mut wire: Wire, mut conn: Conn) -> Option<(Wire, Arc<Conn>, Version)> {
    let head_time = proxy.live().config.limits.head_time;
    let look = wire.look(first::PREFACE.len(), first::spoken);
    let Some(Ok(Some(spoken))) = proxy.first(head_time, look).await else {
        let told = "nothing came through the granted CONNECT".to_owned();
        note(proxy, &conn, "agent_gone", told);
        return None;
    };
    match spoken {
        Spoken::Tls => {
            let shaken = proxy.first(head_time, handshake(proxy, wire, &mut conn)).await;
            let shaken = shaken.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::TimedOut)));
            match shaken {
                Ok(stream) => {
                    proxy.metrics.handshakes.inc();
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        return Some((Wire::new(stream), Arc::new(conn), Version::Http2));
                    }
                    let hold = Hold::default();
                    conn.hold = Some(hold.clone());
                    let wire = Wire::new(Patient::new(stream, hold));
                    Some((wire, Arc::new(conn), Version::Http1))
                }
                Err(error) => {
                    proxy.metrics.handshake_failures.inc();
                    let reason = format!("{}; does the agent trust the CA?", chain(&error));
                    note(proxy, &conn, "agent_tls_failed", reason);
                    None
                }
            }
        }
        Spoken::Http(version) => {
            conn.scheme = Scheme::Http;
            conn.mode = Mode::Plain;
            Some((wire, Arc::new(conn), version))
        }
        Spoken::Socks | Spoken::Other => {
            let told = "neither TLS nor HTTP was spoken where it is inspected".to_owned();
            note(proxy, &conn, "not_http", told);
            None
        }
    }
}

/// Shakes hands with a leaf for the target, whatever name the agent's hello has: a hello with
/// another name, or with none where one is due, is answered, and then each of its requests with 421.
async fn handshake(proxy: &Proxy, wire: Wire, conn: &mut Conn) -> io::Result<TlsStream<Wire>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), wire).await?;
    conn.misnamed = misnamed(start.client_hello().server_name(), &conn.target.host);
    let config = proxy
        .leaves
        .server_config(&conn.target.host)
        .await
        .map_err(io::Error::other)?;
    proxy
        .metrics
        .leaves_minted
        .set(i64::try_from(proxy.leaves.minted()).unwrap_or(i64::MAX));
    start.into_stream(config).await
}

/// What the hello named, unless that is the target. An address is never named (RFC 6066 §3).
fn misnamed(named: Option<&str>, host: &Host) -> Option<String> {
    match (named, host) {
        (None, Host::Ip(_)) => None,
        (None, Host::Name(_)) => Some("no host".to_owned()),
        (Some(named), host) if Host::parse(named).as_ref() == Ok(host) => None,
        (Some(named), _) => Some(named.chars().take(253).collect()),
    }
}

/// One record for a connection that came to nothing.
fn note(proxy: &Proxy, conn: &Conn, code: &'static str, reason: String) {
    let mut entry = Entry::begin(proxy);
    conn.describe(&mut entry.record);
    let live = proxy.live();
    let agent = conn.agent(&live).ok();
    entry.record.agent = agent.and_then(|agent| live.agent_name(agent));
    // A way in that answers inside TLS has not been told yet that it may not.
    match agent.map(|agent| live.policy.reach(agent, &conn.target)) {
        Some(Err(denied)) => entry.faulted(&mut denied.into()),
        _ => entry.failed(Outcome::Failed, code, Some(reason)),
    }
}

async fn converse(proxy: &Arc<Proxy>, wire: Wire, conn: Arc<Conn>, version: Version) {
    let ended = serving::serve(proxy, wire, version, |request| {
        let (proxy, conn) = (Arc::clone(proxy), Arc::clone(&conn));
        let mut entry = Entry::begin(&proxy);
        if let Some(hold) = &conn.hold {
            // At once: hyper looks for the end of input before it first polls what is returned here.
            entry.ends = Some(Ends::after(hold, request.body().is_end_stream()));
        }
        proxy.answer(&conn, request, entry)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!("intercepted connection to {}: {}", conn.target, chain(&error));
    }
}
