//! What is known of the connection a request came on.

use super::fault::Fault;
use super::halfclose::Hold;
use super::live::Live;
use super::lobby::Guest;
use super::share::Taken;
use crate::audit::{Mode, Record, Way};
use crate::base::ask::Scheme;
use crate::base::host::Target;
use crate::base::ids::AgentId;
use crate::base::peer::Peer;
use crate::base::secret::IsToken;
use crate::identity::{Shown, Unknown, offered_token};
use http::{HeaderValue, StatusCode};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Who is on the other side, and what they offered to be known by.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The kernel's word.
    pub peer: Peer,
    /// The way in it took.
    pub way: Way,
    /// The certificate from the handshake of a TLS listener; nothing in it is judged yet.
    pub shown: Option<Arc<Shown>>,
    /// The address it was going to, where the firewall redirected it.
    pub original: Option<SocketAddr>,
    /// `Proxy-Authorization` as it came with the CONNECT, or what stands for it elsewhere; marked sensitive.
    pub offered: Option<HeaderValue>,
    /// Whose the listener is, where it is one agent's own.
    pub own: Option<Own>,
    /// The connection itself, which is admitted once it is known whose it is.
    pub guest: Guest,
}

/// A listener that is one agent's own: `run` knows whom it started.
#[derive(Debug, Clone)]
pub struct Own {
    /// The agent's name.
    pub agent: Arc<str>,
    /// Whether the connection is from a process of our own user, which needs to show nothing.
    pub admitted: bool,
    /// What any other process must show, for the command may have changed its user.
    pub token: IsToken,
}

/// A connection that leads to one target.
#[derive(Debug)]
pub struct Conn {
    /// Who asks.
    pub caller: Caller,
    /// Where everything on this connection goes.
    pub target: Target,
    /// In the clear or over TLS, on the agent's side and so on the upstream's.
    pub scheme: Scheme,
    /// How it came to us, for the record.
    pub mode: Mode,
    /// What the handshake named, where that was not the target.
    pub misnamed: Option<String>,
    /// Holds back the end of input while an answer is due; on intercepted HTTP/1.1 only.
    pub hold: Option<Hold>,
    /// Whether its socket carries others too, as a stream of HTTP/2 does.
    pub shares_socket: bool,
    /// Then it has a place of its own among the agent's connections.
    place: OnceLock<Taken>,
    /// The caller's address, as records have it.
    peer: Arc<str>,
    /// Agent and generation of the configuration that knew it, packed: it is asked again only after a reload.
    known: AtomicU64,
}

impl Caller {
    /// The agent, by the configuration in force.
    ///
    /// # Errors
    /// When it knows no such agent.
    pub fn agent(&self, live: &Live) -> Result<AgentId, Unknown> {
        match &self.own {
            Some(own) => own.agent(live, self.offered.as_ref()),
            None => live
                .identity
                .agent(&self.peer, self.shown.as_deref(), self.offered.as_ref()),
        }
    }
}

impl Own {
    fn agent(&self, live: &Live, offered: Option<&HeaderValue>) -> Result<AgentId, Unknown> {
        let shown = || {
            offered
                .and_then(offered_token)
                .is_some_and(|token| self.token.matches(&token))
        };
        if !self.admitted && !shown() {
            return Err(if offered.is_some() {
                Unknown::Wrong
            } else {
                Unknown::Silent
            });
        }
        live.agent_named(&self.agent).ok_or(Unknown::Silent)
    }
}

const NOBODY: u64 = u64::MAX;

impl Conn {
    /// A connection of `caller` to `target`.
    pub fn new(caller: Caller, target: Target, scheme: Scheme, mode: Mode) -> Self {
        Self {
            peer: caller.peer.to_string().into(),
            caller,
            target,
            scheme,
            mode,
            misnamed: None,
            hold: None,
            shares_socket: false,
            place: OnceLock::new(),
            known: AtomicU64::new(NOBODY),
        }
    }

    /// The agent, by the configuration in force.
    ///
    /// # Errors
    /// When it knows no such agent, the agent has too many connections, or the handshake named another host than the
    /// target.
    pub fn agent(&self, live: &Live) -> Result<AgentId, Fault> {
        if let Some(named) = &self.misnamed {
            let told = format!(
                "the TLS handshake named {named}, but this connection leads to {}",
                self.target
            );
            return Err(Fault::refused(
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected_request",
                told,
            ));
        }
        let known = self.known.load(Ordering::Relaxed);
        if known != NOBODY && known >> 32 == live.generation & 0xffff_ffff {
            return Ok(AgentId(u32::try_from(known & 0xffff_ffff).unwrap_or(0)));
        }
        let agent = self.caller.agent(live)?;
        self.take_place(live, agent)?;
        self.known
            .store(live.generation << 32 | u64::from(agent.0), Ordering::Relaxed);
        Ok(agent)
    }

    fn take_place(&self, live: &Live, agent: AgentId) -> Result<(), Fault> {
        if !self.caller.guest.is_admitted()
            && let Some(place) = live.connection_of(agent)?
        {
            self.caller.guest.admit(place);
        }
        if self.shares_socket
            && self.place.get().is_none()
            && let Some(place) = live.connection_of(agent)?
        {
            let _ = self.place.set(place);
        }
        Ok(())
    }

    /// Writes what is known here into a record.
    pub fn describe(&self, record: &mut Record) {
        record.peer = Some(Arc::clone(&self.peer));
        record.way = Some(self.caller.way);
        record.original = self.caller.original;
        record.target = Some(self.target.clone());
        record.scheme = Some(self.scheme.as_str());
        record.mode = Some(self.mode);
    }
}

/// A request's id: what the agent is told and the record holds, so that the two can be joined.
///
/// 12 random characters at start and a count: unique without a lock or a call for each.
pub fn request_id() -> Box<str> {
    use std::sync::LazyLock;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    static RUN: LazyLock<Box<str>> = LazyLock::new(|| {
        let mut bytes = [0; 8];
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        format!("{:012x}-", u64::from_ne_bytes(bytes) >> 16).into()
    });
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let digits = (count.max(1).ilog2() / 4 + 1) as usize;
    // By hand: of all that is done for a request, formatting would be a hundredth.
    let mut id = String::with_capacity(RUN.len() + digits);
    id.push_str(&RUN);
    for place in (0..digits).rev() {
        let digit = u8::try_from(count >> (4 * place) & 0xf).unwrap_or_default();
        id.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
    }
    id.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_is_that_of_this_run_and_a_count_and_no_two_are_the_same() {
        let ids: Vec<_> = std::iter::repeat_with(request_id).take(70_000).collect();
        let (run, _) = ids.first().unwrap().split_once('-').unwrap();
        assert_eq!(run.len(), 12);
        let counts = ids
            .iter()
            .map(|id| id.strip_prefix(run).unwrap().strip_prefix('-').unwrap());
        let counts: Vec<_> = counts.map(|count| u64::from_str_radix(count, 16).unwrap()).collect();
        assert!(counts.is_sorted_by(|a, b| a < b));
        assert!(ids.iter().all(|id| !id.contains("-0")));
    }
}
