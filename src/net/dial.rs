//! From a target to a connected socket: resolve once, guard every answer, connect to what passed.

use super::guard::{Guard, Routable, is_here};
use super::send::Times;
use super::{Error, resolve};
use crate::base::host::{Host, Target};
use crate::config::Config;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Opens connections to upstreams.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    config: std::sync::Arc<Config>,
    guard: Guard,
    own: Vec<SocketAddr>,
}

/// Between the starts of two attempts to different addresses (RFC 8305 §5, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

impl Dialer {
    /// `own` are the addresses Keyferry itself listens on, which are never dialled.
    pub(super) fn new(config: std::sync::Arc<Config>, own: Vec<SocketAddr>) -> Self {
        let guard = Guard::new(&config.upstream.allow_networks);
        Self { config, guard, own }
    }

    /// The same, to this address alone.
    pub(super) fn only(&self, address: IpAddr) -> Self {
        Self {
            guard: Guard::only(address),
            ..self.clone()
        }
    }

    /// Connects to `target`. The addresses asked for once are those judged and those dialled.
    pub(super) async fn dial(&self, target: &Target, times: &mut Times) -> Result<TcpStream, Error> {
        let found = self.found(target, times).await?;
        let routable = self.guarded(target, &found)?;
        self.connect(target, &routable, times).await
    }

    /// The addresses of `host` that may be dialled.
    pub(super) async fn look_up(&self, host: &Host) -> Result<Vec<IpAddr>, Error> {
        // The port decides nothing here, but that no listener of Keyferry's is on it.
        let target = Target::new(host.clone(), 443);
        let found = self.found(&target, &mut Times::default()).await?;
        let routable = self.guarded(&target, &found)?;
        Ok(routable.into_iter().map(|address| address.address().ip()).collect())
    }

    /// Connects to a parent proxy. The operator named it, so its address is not judged; but it must not
    /// be Keyferry itself.
    pub(super) async fn dial_parent(&self, parent: &Target, times: &mut Times) -> Result<TcpStream, Error> {
        let found = self.found(parent, times).await?;
        if found.iter().any(|address| self.is_own(*address)) {
            return Err(Error::Loop(parent.clone()));
        }
        let routable = interleave(found.into_iter().map(Routable::parent).collect());
        self.connect(parent, &routable, times).await
    }

    /// What a parent is asked for: the target, or the address that it has a fixed answer with. Where an
    /// address is known here it is judged here; every other name is the parent's to resolve, and to judge.
    pub(super) fn asked_of_parent(&self, target: &Target) -> Result<Target, Error> {
        let known = match (self.config.fixed(target), &target.host) {
            (Some(fixed), _) => fixed,
            (None, Host::Ip(ip)) => SocketAddr::new(*ip, target.port),
            // It means the parent's own machine, as ours does here (RFC 6761 §6.3).
            (None, Host::Name(name)) if &**name == "localhost" || name.ends_with(".localhost") => {
                self.guarded(target, &[SocketAddr::from(([127, 0, 0, 1], target.port))])?;
                return Ok(target.clone());
            }
            (None, Host::Name(_)) => return Ok(target.clone()),
        };
        self.guarded(target, &[known])?;
        Ok(Target::new(known.ip().into(), known.port()))
    }

    async fn found(&self, target: &Target, times: &mut Times) -> Result<Vec<SocketAddr>, Error> {
        let start = Instant::now();
        let found = match self.config.fixed(target) {
            Some(address) => vec![address],
            None => resolve::addresses(target).await?,
        };
        times.dns = start.elapsed();
        Ok(found)
    }

    async fn connect(&self, target: &Target, routable: &[Routable], times: &mut Times) -> Result<TcpStream, Error> {
        let start = Instant::now();
        let stream = race(routable).await.map_err(|e| failed(target, e))?;
        times.connect = start.elapsed();
        Ok(stream)
    }

    fn guarded(&self, target: &Target, found: &[SocketAddr]) -> Result<Vec<Routable>, Error> {
        let mut refused = None;
        let mut routable = Vec::with_capacity(found.len());
        for address in found {
            match self.guard.judge(*address) {
                Ok(address) if self.is_own(address.address()) => return Err(Error::Loop(target.clone())),
                Ok(address) => routable.push(address),
                Err(kind) => refused = Some((address.ip(), kind)),
            }
        }
        match (routable.is_empty(), refused) {
            (true, Some((ip, kind))) => Err(Error::Guarded {
                target: target.clone(),
                ip,
                kind,
            }),
            _ => Ok(interleave(routable)),
        }
    }

    /// Whether a listener of ours is there. One on a wildcard address is reached by every address of this machine.
    fn is_own(&self, address: SocketAddr) -> bool {
        // Connecting to the unspecified address leads to loopback.
        let ip = match address.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        self.own.iter().any(|own| {
            let here = own.ip().to_canonical() == ip || own.ip().is_unspecified() && is_here(ip);
            here && own.port() == address.port()
        })
    }
}

/// Whose fault it is: the upstream's, or that of this process, which may open no more descriptors.
fn failed(target: &Target, error: io::Error) -> Error {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    match error.raw_os_error() {
        Some(code) if exhausted.contains(&code) => Error::Exhausted(target.clone(), error),
        _ => Error::Connect(target.clone(), error),
    }
}

/// The first address to connect wins; each next one starts a little later, or when one fails.
async fn race(addresses: &[Routable]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    loop {
        if let Some(address) = waiting.next() {
            running.push(connect(*address));
        } else if running.is_empty() {
            return Err(last);
        }
        let more = !waiting.as_slice().is_empty();
        tokio::select! {
            Some(done) = running.next() => match done {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

async fn connect(address: Routable) -> io::Result<TcpStream> {
    #[expect(clippy::disallowed_methods, reason = "the one place that dials")]
    let stream = TcpStream::connect(address.address()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// IPv6 and IPv4 in turn, beginning with the family the resolver put first (RFC 8305 §4).
fn interleave(addresses: Vec<Routable>) -> Vec<Routable> {
    let first_v6 = addresses.first().is_some_and(|a| a.address().is_ipv6());
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|a| a.address().is_ipv6() == first_v6);
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    first.reverse();
    second.reverse();
    while let Some(address) = first.pop() {
        mixed.push(address);
        mixed.extend(second.pop());
    }
    second.reverse();
    mixed.extend(second);
    mixed
}
