//! Base URLs: plain requests to this listener, each for the upstream whose prefix its path has, or which it names as
//! its `Host`. For clients that take a base URL and no proxy.

use super::connection::{Caller, Conn};
use super::counted::let_go;
use super::entry::{Understands, refuse};
use super::fault::{Fault, chain};
use super::live::{Live, Proxy};
use super::recorded::Entry;
use super::serving;
use crate::audit::{Mode, Way};
use crate::base::body::Body;
use crate::base::host::Host;
use crate::base::wire::Wire;
use crate::front::first::{self, Spoken, Version};
use crate::identity;
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::Arc;

/// What the listener says of itself.
#[derive(Debug, Clone)]
pub struct Door {
    /// Hosts it is called by, beside addresses and names of one label.
    pub names: Arc<[Host]>,
    /// Whether its clients speak TLS.
    pub secure: bool,
}

/// Serves one connection.
pub async fn serve(proxy: Arc<Proxy>, mut wire: Wire, mut caller: Caller, door: Door) {
    let _active = proxy.metrics.connected();
    caller.way = Way::Gateway;
    let head_time = proxy.live().config.limits.head_time;
    let look = wire.look(first::PREFACE.len(), first::spoken);
    let version = match proxy.first(head_time, look).await {
        Some(Ok(Some(Spoken::Http(version)))) => version,
        // Whatever else it is, HTTP/1.1 has an answer for it.
        Some(Ok(Some(_))) => Version::Http1,
        None | Some(Err(_) | Ok(None)) => return,
    };
    let ended = serving::serve(&proxy, wire, version, |request| {
        let (proxy, caller, door) = (Arc::clone(&proxy), caller.clone(), door.clone());
        async move { answer(&proxy, caller, door, request).await }
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!("gateway connection from {}: {}", caller.peer, chain(&error));
    }
}

async fn answer(proxy: &Arc<Proxy>, mut caller: Caller, door: Door, mut request: Request<Incoming>) -> Response<Body> {
    let mut entry = Entry::begin(proxy);
    let live = proxy.live();
    identify(&live, &mut caller, &mut request);
    let routed = match live.gateway.route(&door.names, &mut request) {
        Ok(routed) => routed,
        Err(error) => {
            entry.record.way = Some(caller.way);
            entry.record.peer = Some(caller.peer.to_string().into());
            entry.record.method = Some(request.method().as_str().into());
            // Who asks comes before what they may know of the rules.
            let known = caller.agent(&live);
            entry.record.agent = known.as_ref().ok().and_then(|agent| live.agent_name(*agent));
            let fault: Fault = known.map_or_else(Into::into, |_| error.into());
            let agent = Understands::by(&request);
            let_go(request, &proxy.tasks);
            return refuse(fault, entry, agent);
        }
    };
    let conn = Conn::new(caller, routed.target.clone(), routed.scheme, Mode::Intercept);
    let mut reply = proxy.answer(&Arc::new(conn), request, entry).await;
    routed.reply(reply.headers_mut(), door.secure);
    reply
}

/// Clients of a base URL can often send one credential alone, that of the upstream: where that is an agent's token, it
/// tells who asks, and goes no further.
fn identify(live: &Live, caller: &mut Caller, request: &mut Request<Incoming>) {
    caller.offered = identity::offer(request.headers());
    if caller.offered.is_none() {
        let own = caller.own.as_ref().map(|own| &own.token);
        let knows = |token: &[u8]| match own {
            Some(own) => own.matches(token),
            None => live.identity.knows(token),
        };
        caller.offered = identity::taken_from(request.headers_mut(), knows);
    }
}
