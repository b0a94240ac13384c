//! Connections that the firewall redirected here: their first bytes name the target, and only the port is that of
//! the address they were meant for. The name is resolved by Keyferry, so an agent cannot pair a name that a rule
//! allows with an address of its own choosing.

use super::connection::{Caller, Conn};
use super::fault::Fault;
use super::grant::grant;
use super::live::Proxy;
use super::recorded::Entry;
use super::{intercept, serving};
use crate::audit::{Mode, Way};
use crate::base::ask::Scheme;
use crate::base::host::{Host, Target};
use crate::base::wire::Wire;
use crate::front::first::{self, First, Version};
use crate::front::{self, named};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Clients of TLS and HTTP speak at once. Where nothing comes for so long, the server speaks first.
const QUIET: Duration = Duration::from_secs(3);

/// What the kernel tells of a redirected connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Original {
    /// Where it was going.
    To(SocketAddr),
    /// It was not redirected: it was made to the listener itself.
    Unknown,
    /// It is one of Keyferry's own, on its way out.
    Own,
}

/// How a connection will be judged.
enum Plan {
    /// As one to this target, request by request or as a tunnel.
    Target(Target, Scheme),
    /// Each request names its own host.
    EachNames,
    /// By the original address alone, and as a tunnel or not at all; the fault where no rule has one.
    TunnelOnly(Fault),
    /// Not at all.
    Refused(Fault),
    /// The agent is gone.
    Gone,
}

/// Serves one redirected connection. `default` stands in where a TLS hello names no host.
pub async fn serve(proxy: Arc<Proxy>, mut wire: Wire, mut caller: Caller, original: Original, default: Option<Target>) {
    let _active = proxy.metrics.connected();
    caller.way = Way::Transparent;
    let mut entry = Entry::begin(&proxy);
    entry.record.way = Some(caller.way);
    entry.record.peer = Some(caller.peer.to_string().into());
    let address = match original {
        Original::To(address) => address,
        Original::Unknown => return entry.faulted(&mut not_redirected()),
        Original::Own => return entry.faulted(&mut redirected_to_itself()),
    };
    entry.record.original = Some(address);
    caller.original = Some(address);
    match plan(&proxy, &mut wire, address, default).await {
        Plan::Gone => entry.discard(),
        Plan::Refused(mut fault) => entry.faulted(&mut fault),
        Plan::Target(target, scheme) => judged(&proxy, wire, caller, target, scheme, entry).await,
        Plan::TunnelOnly(fault) => tunnelled(&proxy, wire, caller, address, fault, entry).await,
        Plan::EachNames => {
            entry.discard();
            each_names(&proxy, wire, caller, address.port()).await;
        }
    }
}

/// Reads on until the first bytes decide.
async fn plan(proxy: &Proxy, wire: &mut Wire, address: SocketAddr, default: Option<Target>) -> Plan {
    let live = proxy.live();
    let limits = &live.config.limits;
    let begun = proxy.first(QUIET.min(limits.head_time), wire.look(1, |seen| seen.first().copied()));
    match begun.await {
        None if proxy.is_closing() => return Plan::Gone,
        None => return Plan::TunnelOnly(not_http("nothing was sent, as where a server speaks first")),
        Some(Ok(Some(_))) => {}
        Some(Ok(None) | Err(_)) => return Plan::Gone,
    }
    let longest = limits.head_bytes.max(first::LONGEST_HELLO);
    let unnamed = || default.unwrap_or_else(|| Target::new(Host::from(address.ip()), address.port()));
    let port = address.port();
    let mut reading = first::Reading::default();
    let whole = wire.look(longest, |seen| reading.more(seen));
    match proxy.first(limits.head_time, whole).await {
        None if proxy.is_closing() => Plan::Gone,
        None => Plan::Refused(incomplete("they did not become one in time")),
        Some(Err(_)) => Plan::Gone,
        Some(Ok(None)) => Plan::Refused(incomplete("they ended, or went on for too long, before they were one")),
        Some(Ok(Some(First::Tls(Some(name))))) => Plan::named(Host::parse(&name), port, Scheme::Https),
        Some(Ok(Some(First::Tls(None)))) => Plan::Target(unnamed(), Scheme::Https),
        Some(Ok(Some(First::Http1(Some(host))))) => Plan::named(
            Target::parse(&host, Some(port)).map(|target| target.host),
            port,
            Scheme::Http,
        ),
        Some(Ok(Some(First::Http1(None)))) => Plan::Target(unnamed(), Scheme::Http),
        Some(Ok(Some(First::Http2))) => Plan::EachNames,
        Some(Ok(Some(First::BadTls(why)))) => {
            let told = "what looks like TLS is no ClientHello";
            Plan::TunnelOnly(Fault::broken(StatusCode::BAD_REQUEST, "agent_tls_failed", told, why))
        }
        Some(Ok(Some(First::Other))) => Plan::TunnelOnly(not_http("neither TLS nor HTTP was spoken")),
    }
}

impl Plan {
    fn named(host: Result<Host, crate::base::host::BadHost>, port: u16, scheme: Scheme) -> Self {
        match host {
            Ok(host) => Self::Target(Target::new(host, port), scheme),
            Err(error) => Self::Refused(front::Error::from(error).into()),
        }
    }
}

/// Serves a connection to a target that its first bytes named. Where policy says no, that is told inside: only there
/// does the agent listen.
async fn judged(proxy: &Arc<Proxy>, wire: Wire, caller: Caller, target: Target, scheme: Scheme, mut entry: Entry) {
    let conn = || Conn::new(caller.clone(), target.clone(), scheme, Mode::Intercept);
    entry.record.method = Some("CONNECT".into());
    match grant(proxy, conn(), &mut entry).await {
        Ok(granted) => granted.with(proxy, entry).run(proxy, wire).await,
        Err(fault) if matches!(fault.code, "denied_by_policy" | "agent_unknown" | "audit_unavailable") => {
            entry.discard();
            intercept::serve(proxy, wire, conn()).await;
        }
        Err(mut fault) => entry.faulted(&mut fault),
    }
}

/// Passes what is neither TLS nor HTTP on to its original address, if a rule has a tunnel to that.
async fn tunnelled(
    proxy: &Arc<Proxy>,
    wire: Wire,
    caller: Caller,
    address: SocketAddr,
    mut otherwise: Fault,
    mut entry: Entry,
) {
    let target = Target::new(Host::from(address.ip()), address.port());
    let conn = Conn::new(caller, target, Scheme::Https, Mode::Tunnel);
    entry.record.method = Some("CONNECT".into());
    match grant(proxy, conn, &mut entry).await {
        Ok(granted) if granted.is_tunnel() => granted.with(proxy, entry).run(proxy, wire).await,
        Err(mut fault) if fault.code != "denied_by_policy" => entry.faulted(&mut fault),
        Ok(_) | Err(_) => entry.faulted(&mut otherwise),
    }
}

/// Serves HTTP/2 in the clear: every request is a connection to its own target, as in absolute-form.
async fn each_names(proxy: &Arc<Proxy>, wire: Wire, caller: Caller, port: u16) {
    let ended = serving::serve(proxy, wire, Version::Http2, |request| {
        let (proxy, caller) = (Arc::clone(proxy), caller.clone());
        async move { answer(&proxy, caller, request, port).await }
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(
            "redirected connection from {}: {}",
            caller.peer,
            super::fault::chain(&error)
        );
    }
}

async fn answer(
    proxy: &Arc<Proxy>,
    caller: Caller,
    request: Request<Incoming>,
    port: u16,
) -> Response<crate::base::body::Body> {
    let entry = Entry::begin(proxy);
    match named(&request, port) {
        Ok(target) => {
            let conn = Arc::new(Conn::new(caller, target, Scheme::Http, Mode::Plain));
            proxy.answer(&conn, request, entry).await
        }
        Err(error) => {
            let agent = super::entry::Understands::by(&request);
            super::entry::refuse(error.into(), entry, agent)
        }
    }
}

fn not_redirected() -> Fault {
    let told = "the connection was made to this listener itself and not redirected to it, so nobody knows where it \
                was meant to go";
    Fault::refused(StatusCode::BAD_REQUEST, "not_redirected", told)
}

fn redirected_to_itself() -> Fault {
    let told = "the firewall redirects Keyferry's own connections to Keyferry: let those of its user pass";
    Fault::refused(StatusCode::LOOP_DETECTED, "loop_detected", told)
}

fn not_http(what: &str) -> Fault {
    let told = format!("{what}, and no rule has a tunnel to the original address");
    Fault::broken(StatusCode::BAD_REQUEST, "not_http", &told, &told)
}

fn incomplete(what: &str) -> Fault {
    let told = format!("the first bytes are no whole ClientHello or request head: {what}");
    Fault::broken(StatusCode::BAD_REQUEST, "first_bytes_incomplete", &told, &told)
}
