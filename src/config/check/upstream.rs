//! The way out: whom to trust, fixed answers, networks that may be reached.

use super::parent;
use super::scope::Scope;
use crate::base::host::Host;
use crate::config::leaf::{Many, Text};
use crate::config::looks::shown;
use crate::config::model::{Fixed, Upstream};
use crate::config::raw::RawUpstream;
use crate::config::read::Findings;
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

/// Checks `upstream`; without it the system's roots are trusted and nothing else is special.
pub(super) fn check(raw: Option<&RawUpstream>, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Upstream> {
    let mut upstream = Upstream {
        system_roots: true,
        ..Upstream::default()
    };
    let Some(raw) = raw else { return Some(upstream) };
    let mut fit = !raw.bad;
    if let Some(roots) = &raw.roots {
        upstream.system_roots = roots.0.iter().any(|r| r.value == "system");
        let files = roots.0.iter().filter(|r| r.value != "system");
        upstream.roots = files.filter_map(|r| scope.path(r, found)).collect();
        if roots.0.is_empty() {
            found
                .error(raw.at, "with no roots no upstream could be verified")
                .hint("write `roots: [system]`, or leave it out");
            fit = false;
        }
    }
    let mut seen = HashSet::new();
    for (host, address) in raw.resolve.iter().flat_map(|named| &named.0) {
        match fixed(host, address.as_ref(), found) {
            Some((host, _)) if !seen.insert(host.clone()) => {
                found.error(
                    address.as_ref().map_or(raw.at, |a| a.at),
                    format!("two answers for `{host}`"),
                );
                fit = false;
            }
            Some(fixed) => upstream.resolve.push(fixed),
            None => fit = false,
        }
    }
    match networks(raw.allow_networks.as_ref(), found) {
        Some(networks) => upstream.allow_networks = networks,
        None => fit = false,
    }
    match parent::parent(raw.parent.as_ref(), raw.parent_auth.as_ref(), scope, found) {
        Some(parent) => upstream.parent = parent,
        None => fit = false,
    }
    match parent::except(raw.parent_except.as_ref(), raw.parent.is_some(), raw.at, found) {
        Some(except) => upstream.parent_except = except,
        None => fit = false,
    }
    fit.then_some(upstream)
}

fn fixed(host: &Text, address: Option<&Text>, found: &mut Findings<'_>) -> Option<(Host, Fixed)> {
    let name = match Host::parse(host) {
        Ok(host) => Some(host),
        Err(why) => {
            found.error(host.at, format!("`{}` is no host: {why}", shown(host)));
            None
        }
    };
    let address = address?;
    let fixed = address.parse::<IpAddr>().map(|ip| Fixed { ip, port: None });
    let fixed = fixed.ok().or_else(|| {
        let socket: SocketAddr = address.parse().ok().filter(|s: &SocketAddr| s.port() != 0)?;
        Some(Fixed {
            ip: socket.ip(),
            port: Some(socket.port()),
        })
    });
    if fixed.is_none() {
        found
            .error(address.at, format!("`{}` is no address", shown(address)))
            .hint("write it like `127.0.0.1`, `127.0.0.1:9443` or `[::1]:9443`");
    }
    Some((name?, fixed?))
}

/// Reads networks; an address alone is the network of that address.
pub(super) fn networks(raw: Option<&Many<Text>>, found: &mut Findings<'_>) -> Option<Vec<IpNet>> {
    let raw = raw.map_or(&[][..], |many| &many.0);
    let networks: Vec<IpNet> = raw.iter().filter_map(|text| network(text, found)).collect();
    (networks.len() == raw.len()).then_some(networks)
}

/// Reads one network.
pub(super) fn network(text: &Text, found: &mut Findings<'_>) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network {
        Some(network) if network.addr() == network.network() => return Some(network),
        Some(network) => {
            let whole = network.trunc();
            found
                .error(text.at, format!("`{}` has bits beyond its prefix", shown(text)))
                .hint(format!("did you mean `{whole}`?"));
        }
        None => {
            found
                .error(text.at, format!("`{}` is no network", shown(text)))
                .hint("write it like `10.0.0.0/8`, `fd00::/8` or `127.0.0.1`");
        }
    }
    None
}
