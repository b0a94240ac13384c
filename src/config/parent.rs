//! Proxies that requests go out through, as meant.

use super::model::Config;
use crate::base::glob::HostPattern;
use crate::base::host::{Host, Target};
use crate::base::ids::SecretId;
use ipnet::IpNet;
use std::fmt;
use std::sync::Arc;

/// A proxy that stands between Keyferry and the upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parent {
    /// How it is spoken to.
    pub speaks: Speaks,
    /// Where it is. The operator's own choice, so not subject to the guard.
    pub address: Target,
    /// The secret `user:password` that it is shown.
    pub login: Option<SecretId>,
}

/// How a parent is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// CONNECT in the clear (RFC 9110 §9.3.6).
    Http,
    /// CONNECT over TLS.
    Https,
    /// SOCKS version 5 (RFC 1928); the parent is given names, as by `socks5h`.
    Socks5,
}

/// Which way the requests of a rule go out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Via {
    /// As `upstream` says.
    #[default]
    Default,
    /// Straight to the upstream.
    Direct,
    /// Through this parent, whatever the exceptions.
    Parent(Arc<Parent>),
}

/// What does not go through the parent of `upstream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Except {
    /// These hosts; on every port unless the pattern names one.
    Host(HostPattern),
    /// Targets that are addresses in this network, or have a fixed answer in it.
    Network(IpNet),
}

impl Config {
    /// The parent through which requests of a rule with this `via` reach `target`, if any.
    pub fn parent<'a>(&'a self, via: &'a Via, target: &Target) -> Option<&'a Arc<Parent>> {
        match via {
            Via::Direct => None,
            Via::Parent(parent) => Some(parent),
            Via::Default => {
                let parent = self.upstream.parent.as_ref()?;
                let excepted = self.upstream.parent_except.iter().any(|e| self.excepts(e, target));
                (!excepted).then_some(parent)
            }
        }
    }

    fn excepts(&self, except: &Except, target: &Target) -> bool {
        match except {
            Except::Host(pattern) => {
                pattern.host.matches(&target.host) && pattern.port.is_none_or(|port| port == target.port)
            }
            Except::Network(network) => {
                let known = match &target.host {
                    Host::Ip(ip) => Some(*ip),
                    Host::Name(_) => self.fixed(target).map(|address| address.ip()),
                };
                known.is_some_and(|ip| network.contains(&ip.to_canonical()))
            }
        }
    }
}

/// As the config has it; the login is not shown.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.speaks {
            Speaks::Http => "http",
            Speaks::Https => "https",
            Speaks::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}
