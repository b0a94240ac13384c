//! SOCKS5 (RFC 1928): greeting, login where one is due, CONNECT; then the same path as for any other way in.

use super::connection::{Caller, Conn};
use super::fault::Fault;
use super::grant::{Granted, grant};
use super::live::Proxy;
use super::recorded::Entry;
use crate::audit::{Mode, Way};
use crate::base::ask::Scheme;
use crate::base::host::Target;
use crate::base::wire::Wire;
use crate::front::socks::{self, Methods};
use crate::identity;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Why there will be no connection.
enum Ended {
    /// The client is gone, or broke off.
    Gone,
    /// It is told so in these bytes.
    Refused(Box<Fault>, Vec<u8>),
}

/// Serves one connection on a port that speaks SOCKS5 alone.
pub async fn serve(proxy: Arc<Proxy>, wire: Wire, caller: Caller) {
    let _active = proxy.metrics.connected();
    converse(&proxy, wire, caller).await;
}

/// Serves one connection that begins with SOCKS.
pub async fn converse(proxy: &Arc<Proxy>, mut wire: Wire, mut caller: Caller) {
    caller.way = Way::Socks;
    let mut entry = Entry::begin(proxy);
    entry.record.method = Some("CONNECT".into());
    entry.record.way = Some(caller.way);
    entry.record.peer = Some(caller.peer.to_string().into());
    match open(proxy, &mut wire, caller, &mut entry).await {
        Ok(granted) => {
            let onward = granted.with(proxy, entry);
            match say(&mut wire, &reply(SUCCEEDED)).await {
                Ok(()) => onward.run(proxy, wire).await,
                Err(_) => onward.abandoned(),
            }
        }
        Err(Ended::Gone) => entry.discard(),
        Err(Ended::Refused(mut fault, told)) => {
            entry.faulted(&mut fault);
            drop(entry);
            let _ = say(&mut wire, &told).await;
            let _ = wire.shutdown().await;
        }
    }
}

async fn open(proxy: &Proxy, wire: &mut Wire, caller: Caller, entry: &mut Entry) -> Result<Granted, Ended> {
    let head_time = proxy.live().config.limits.head_time;
    let asked = proxy.first(head_time, ask(proxy, wire, caller)).await;
    let (caller, target) = asked.ok_or(Ended::Gone)??;
    let conn = Conn::new(caller, target, Scheme::Https, Mode::Intercept);
    grant(proxy, conn, entry).await.map_err(|fault| {
        let told = reply(code(&fault));
        Ended::Refused(Box::new(fault), told)
    })
}

/// Hears the client out, as far as the target it names.
async fn ask(proxy: &Proxy, wire: &mut Wire, mut caller: Caller) -> Result<(Caller, Target), Ended> {
    let methods = wire.message(socks::LONGEST, socks::methods).await?;
    let methods = hear(methods, |error| match error {
        socks::Error::Version4 => vec![0, REJECTED_4, 0, 0, 0, 0, 0, 0],
        _ => vec![socks::VERSION, NO_METHOD],
    })?;
    log_in(proxy, wire, &mut caller, methods).await?;
    let target = wire.message(socks::LONGEST, socks::connect).await?;
    let target = hear(target, |error| {
        reply(match error {
            socks::Error::Command(_) => NO_COMMAND,
            socks::Error::AddressType => NO_ADDRESS_TYPE,
            _ => FAILED,
        })
    })?;
    Ok((caller, target))
}

/// Has the client log in if it can, for a token tells more than an address; otherwise the connection itself must
/// prove the agent.
async fn log_in(proxy: &Proxy, wire: &mut Wire, caller: &mut Caller, methods: Methods) -> Result<(), Ended> {
    let refused = |fault: Fault, told: &[u8]| Ended::Refused(Box::new(fault), told.to_vec());
    if !methods.password {
        let known = caller.agent(&proxy.live());
        if let Err(unknown) = known {
            return Err(refused(unknown.into(), &[socks::VERSION, NO_METHOD]));
        }
        if !methods.nothing {
            let told = "the SOCKS client offers neither a login nor to go without";
            let fault = Fault::from(socks::Error::Malformed(told));
            return Err(refused(fault, &[socks::VERSION, NO_METHOD]));
        }
        return Ok(say(wire, &[socks::VERSION, 0]).await?);
    }
    say(wire, &[socks::VERSION, 2]).await?;
    let password = wire.message(socks::LONGEST, socks::password).await?;
    let password = hear(password, |_| vec![1, 1])?;
    caller.offered = identity::offer_of(&password);
    match caller.agent(&proxy.live()) {
        Ok(_) => Ok(say(wire, &[1, 0]).await?),
        Err(unknown) => Err(refused(unknown.into(), &[1, 1])),
    }
}

/// A message, or how its absence is told.
fn hear<T>(message: Result<Option<T>, socks::Error>, told: impl Fn(&socks::Error) -> Vec<u8>) -> Result<T, Ended> {
    match message {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Ended::Gone),
        Err(error) => {
            let told = told(&error);
            Err(Ended::Refused(Box::new(error.into()), told))
        }
    }
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

async fn say(wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
    wire.write_all(bytes).await?;
    wire.flush().await
}

/// The reply codes of RFC 1928 §6.
const SUCCEEDED: u8 = 0;
const FAILED: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const HOST_UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const NO_COMMAND: u8 = 7;
const NO_ADDRESS_TYPE: u8 = 8;
/// RFC 1928 §3: none of the methods is acceptable.
const NO_METHOD: u8 = 0xff;
/// SOCKS4's own word for no.
const REJECTED_4: u8 = 91;

/// What a SOCKS client can be told of a fault.
fn code(fault: &Fault) -> u8 {
    match fault.code {
        "upstream_unresolved" | "upstream_timeout" => HOST_UNREACHABLE,
        "upstream_unreachable" => REFUSED,
        _ if fault.status.is_client_error() || fault.code == "loop_detected" => NOT_ALLOWED,
        _ => FAILED,
    }
}

/// A reply. The address we are bound to is nobody's concern.
fn reply(code: u8) -> Vec<u8> {
    vec![socks::VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]
}
