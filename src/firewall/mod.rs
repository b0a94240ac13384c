//! Firewall rules that send what agents send to Keyferry, and let nothing else out: as nftables or iptables read them,
//! put in force in one step and taken out again without a trace. The rules are pure text (`nft`, `iptables`); only
//! [`force`] changes the kernel's.

pub mod force;
mod iptables;
mod nft;
mod who;

pub use force::{Backend, Tools};
pub use who::{Cgroup, Interface, Name, User, Who};

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What the rules are to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What our table is called, so that several sets of rules may stand side by side.
    pub name: Name,
    /// Whose traffic it is.
    pub who: Who,
    /// Users whose traffic passes untouched: Keyferry's own.
    pub spared: Vec<User>,
    /// A mark whose packets pass untouched.
    pub spared_mark: Option<u32>,
    /// TCP ports that are redirected.
    pub ports: Vec<u16>,
    /// The transparent listener.
    pub transparent: SocketAddr,
    /// The resolver; without one, DNS is refused as all else is.
    pub dns: Option<SocketAddr>,
    /// Keyferry's further listeners, which agents may reach by themselves.
    pub listeners: Vec<SocketAddr>,
    /// Whether loopback is left open between the programs of this network.
    pub loopback: bool,
}

/// Where DNS is asked for, over UDP and TCP (RFC 1035 §4.2).
const DNS: u16 = 53;

/// Why there are no such rules, or they cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody's traffic was named.
    #[error("whose traffic? Name it by `--uid`, `--cgroup`, `--interface`, `--netns` or `--all`")]
    Nobody,
    /// Keyferry's own traffic would be sent to itself.
    #[error(
        "all traffic of this network would be sent to Keyferry, its own too: name Keyferry's user with `--spare-uid`, \
         or the mark of its packets with `--spare-mark`"
    )]
    NotSpared,
    /// An agent's user is spared.
    #[error(
        "user {0} cannot be both an agent's and Keyferry's: run them as two users, or name the agent by `--cgroup`"
    )]
    Both(u32),
    /// A redirected connection would not be heard.
    #[error("the listener on {listener} does not hear what is redirected: {why}")]
    Deaf {
        /// The listener.
        listener: SocketAddr,
        /// Where redirected connections arrive, and what to write.
        why: &'static str,
    },
    /// The kernel does not let us.
    #[error("firewall rules need the capability CAP_NET_ADMIN: run this as root (`print` needs nothing)")]
    NotAllowed,
    /// There is no tool to put rules in force.
    #[error("{0} is not on this machine, neither on PATH nor in /usr/sbin: install {1}, or choose another `--backend`")]
    NoTool(&'static str, &'static str),
    /// The network namespace cannot be entered.
    #[error("cannot enter the network namespace {}: {cause}", path.display())]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The tool could not be started, or not be spoken with.
    #[error("cannot run {}: {cause}", tool.display())]
    Start {
        /// Which.
        tool: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The tool did not take the rules.
    #[error("{} refuses: {said}", tool.display())]
    Refused {
        /// Which.
        tool: PathBuf,
        /// What it said.
        said: String,
    },
}

impl Plan {
    /// Holds the parts against each other.
    ///
    /// # Errors
    /// When nobody is meant, Keyferry would be sent to itself, or redirected connections would not be heard.
    pub fn check(&self) -> Result<(), Error> {
        let who = &self.who;
        if who.is_nobody() {
            return Err(Error::Nobody);
        }
        if who.everybody && self.spared.is_empty() && self.spared_mark.is_none() {
            return Err(Error::NotSpared);
        }
        if let Some(both) = who.uids.iter().find(|user| self.spared.contains(user)) {
            return Err(Error::Both(both.0));
        }
        for listener in std::iter::once(self.transparent).chain(self.dns) {
            let deaf = |why| Err(Error::Deaf { listener, why });
            let ip = listener.ip();
            if !who.interfaces.is_empty() && ip.is_loopback() {
                return deaf(
                    "what comes in by an interface is redirected to the address of that interface; bind `0.0.0.0` or `[::]`",
                );
            }
            if who.is_local() && !ip.is_loopback() && !ip.is_unspecified() {
                return deaf("what this network's programs send is redirected to loopback; bind `[::]` or `127.0.0.1`");
            }
        }
        Ok(())
    }

    /// The rules as `nft -f` reads them, all in one transaction: whatever our table held is replaced.
    pub fn nft(&self) -> String {
        nft::rules(self)
    }

    /// The rules as `iptables-restore --noflush` and `ip6tables-restore --noflush` read them.
    pub fn iptables(&self) -> Vec<iptables::Part> {
        iptables::rules(self)
    }

    /// Every socket that agents may reach, and whether over UDP too.
    fn open(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let streams = std::iter::once(&self.transparent).chain(&self.listeners);
        let dns = self.dns.iter().map(|address| (*address, true));
        streams.map(|address| (*address, false)).chain(dns)
    }
}

/// Which of this machine's addresses a listener is reached by.
enum Reached {
    /// Every one, of both families.
    Any,
    /// Every one of IPv4.
    AnyV4,
    /// This one.
    At(IpAddr),
}

fn reached(listener: SocketAddr) -> Reached {
    match listener.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() => Reached::Any,
        IpAddr::V4(ip) if ip.is_unspecified() => Reached::AnyV4,
        ip => Reached::At(ip.to_canonical()),
    }
}

#[cfg(test)]
mod tests;
