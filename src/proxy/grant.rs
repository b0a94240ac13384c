//! From a target that an agent named to what may happen on the connection: where every way in meets.

use super::connection::Conn;
use super::entry::ready;
use super::fault::Fault;
use super::live::Proxy;
use super::recorded::Entry;
use super::{intercept, tunnel};
use crate::audit::{Mode, Outcome};
use crate::base::wire::Wire;
use crate::net::Line;
use crate::policy::{Passage, Reach};
use std::pin::Pin;
use std::sync::Arc;

/// A connection that may be.
#[derive(Debug)]
pub enum Granted {
    /// Its requests will be judged one by one.
    Intercept(Conn),
    /// Its bytes may pass unread; the upstream is connected.
    Tunnel(Conn, Line, Passage),
}

/// What follows once the agent was told so.
#[derive(Debug)]
pub struct Onward {
    granted: Granted,
    /// A tunnel's record; what is intercepted has one for each request.
    entry: Option<Entry>,
}

/// Asks identity and policy whether the agent may reach the target at all, and connects a tunnel, so that a
/// failure is an answer and not a broken connection.
///
/// # Errors
/// When nobody is known by this connection, no rule lets them reach the target, or no connection can be had.
pub async fn grant(proxy: &Proxy, mut conn: Conn, entry: &mut Entry) -> Result<Granted, Fault> {
    conn.describe(&mut entry.record);
    ready(proxy)?;
    let live = proxy.live();
    let agent = conn.agent(&live)?;
    entry.record.agent = live.agent_name(agent);
    match live.policy.reach(agent, &conn.target)? {
        Reach::Intercept => Ok(Granted::Intercept(conn)),
        Reach::Tunnel(passage) => {
            conn.mode = Mode::Tunnel;
            entry.place = live.request_of(agent)?;
            conn.describe(&mut entry.record);
            entry.record.rule = Some(Arc::clone(&passage.rule().name));
            let stream = tunnel::dial(&live, &passage, &mut entry.record).await?;
            Ok(Granted::Tunnel(conn, stream, passage))
        }
    }
}

impl Granted {
    /// Whether bytes pass unread.
    pub fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel(..))
    }

    /// Takes the record along where there will be one for the whole connection.
    pub fn with(self, proxy: &Proxy, mut entry: Entry) -> Onward {
        let entry = match &self {
            Self::Intercept(_) => {
                entry.discard();
                None
            }
            Self::Tunnel(_, _, passage) => {
                entry.record.status = Some(200);
                entry.rule = Some(proxy.metrics.for_rule(&passage.rule().name));
                Some(entry)
            }
        };
        Onward { granted: self, entry }
    }
}

impl Onward {
    /// Serves the connection to its end. Boxed: what was granted is not to be held beside what follows.
    pub fn run(self, proxy: &Arc<Proxy>, wire: Wire) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        match (self.granted, self.entry) {
            (Granted::Intercept(conn), _) => Box::pin(intercept::serve(proxy, wire, conn)),
            (Granted::Tunnel(conn, stream, passage), Some(entry)) => {
                Box::pin(async move { tunnel::run(proxy, wire, &conn, stream, passage, entry).await })
            }
            (Granted::Tunnel(..), None) => Box::pin(async {}),
        }
    }

    /// Notes that the agent left before it could begin.
    pub fn abandoned(self) {
        if let Some(mut entry) = self.entry {
            let told = "the agent closed before its tunnel".to_owned();
            entry.failed(Outcome::Failed, "agent_gone", Some(told));
        }
    }
}
