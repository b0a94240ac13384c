//! Listeners: where agents connect, and where the operator does.

use super::is_local;
use super::scope::Scope;
use crate::config::leaf::{Many, Text};
use crate::config::looks::shown;
use crate::config::model::{Admin, Bind, Config, Listen, Proof, Speak};
use crate::config::raw::{AdminMap, ListenMap, RawConfig, RawListen};
use crate::config::read::Findings;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where Keyferry listens when the config does not say.
const DEFAULT_PORT: u16 = 8080;

/// Every listener; no two on one address.
pub(super) fn all(raw: Option<&Many<RawListen>>, found: &mut Findings<'_>) -> Option<Vec<Listen>> {
    let Some(raw) = raw else {
        return Some(vec![local(DEFAULT_PORT)]);
    };
    let mut listen: Vec<Listen> = Vec::new();
    let mut fit = true;
    for RawListen(raw) in &raw.0 {
        match one(raw, found) {
            Some(next) if listen.iter().any(|l| l.bind == next.bind && !is_any_port(&l.bind)) => {
                found.error(raw.bind.at, format!("two listeners on `{}`", shown(&raw.bind)));
                fit = false;
            }
            Some(next) => listen.push(next),
            None => fit = false,
        }
    }
    fit.then_some(listen)
}

/// A proxy for this machine only.
pub(super) fn local(port: u16) -> Listen {
    Listen {
        bind: Bind::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        speak: Speak::Proxy,
        tls: false,
        mode: None,
    }
}

fn one(raw: &ListenMap, found: &mut Findings<'_>) -> Option<Listen> {
    let bind = bind(&raw.bind, found);
    let speak = raw.speak.as_ref().map_or(Some(Speak::Proxy), |text| speak(text, found));
    let mode = match &raw.mode {
        Some(mode) => self::mode(mode, bind.as_ref(), found).map(Some),
        None => Some(None),
    };
    Some(Listen {
        bind: bind?,
        speak: speak?,
        tls: raw.tls.as_ref().is_some_and(|t| t.value),
        mode: mode?,
    })
}

fn speak(text: &Text, found: &mut Findings<'_>) -> Option<Speak> {
    match text.as_str() {
        "proxy" => Some(Speak::Proxy),
        "socks" => Some(Speak::Socks),
        other => {
            found
                .error(text.at, format!("a listener cannot speak `{}`", shown(other)))
                .hint("it can speak `proxy` or `socks`");
            None
        }
    }
}

fn mode(mode: &Text, bind: Option<&Bind>, found: &mut Findings<'_>) -> Option<u32> {
    if matches!(bind, Some(Bind::Tcp(_))) {
        found
            .error(mode.at, "`mode` is for unix sockets")
            .hint("take it out, or bind `unix:/path`");
        return None;
    }
    let octal = (3..=4).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| octal && *bits <= 0o777);
    if bits.is_none() {
        found
            .error(mode.at, "expected permission bits in octal, up to 0777")
            .hint("write it like `mode: \"0660\"`");
    }
    bits
}

/// Reads an address to listen on.
pub(super) fn bind(text: &Text, found: &mut Findings<'_>) -> Option<Bind> {
    /// What `sockaddr_un` holds, less the closing zero.
    const LONGEST_SOCKET: usize = 107;
    if let Some(path) = text.strip_prefix("unix:") {
        if path.starts_with('/') && path.len() <= LONGEST_SOCKET && !path.contains('\0') {
            return Some(Bind::Unix(PathBuf::from(path)));
        }
        found
            .error(text.at, "expected an absolute path of at most 107 bytes after `unix:`")
            .hint("write it like `unix:/run/keyferry/proxy.sock`");
        return None;
    }
    if let Ok(address) = text.parse() {
        return Some(Bind::Tcp(address));
    }
    let hint = match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("write `127.0.0.1:{}`", shown(port)),
        Some(("" | "*", port)) => {
            let port = shown(port);
            format!("write `127.0.0.1:{port}`, or `0.0.0.0:{port}` to listen on every address")
        }
        _ => "write it like `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/keyferry/proxy.sock`".to_owned(),
    };
    found
        .error(text.at, format!("`{}` is no address to listen on", shown(text)))
        .hint(hint);
    None
}

/// The operator's listener: a caller from another machine must show a token.
pub(super) fn admin(raw: &AdminMap, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Admin> {
    let bind = bind(&raw.bind, found);
    let token = match &raw.token {
        Some(token) => scope.secret(token, found).map(Some),
        None => Some(None),
    };
    let open = raw.token.is_none() && !raw.bad;
    if open && bind.as_ref().is_some_and(|b| !is_local(b)) {
        found
            .error(
                raw.bind.at,
                "anyone who reaches this address could read the status and the audit log",
            )
            .hint("add `token: SECRET`, or bind a loopback address");
        return None;
    }
    Some(Admin {
        bind: bind?,
        token: token?,
    })
}

fn is_any_port(bind: &Bind) -> bool {
    matches!(bind, Bind::Tcp(address) if address.port() == 0)
}

/// Warns of what the listeners make of the rest: anyone may ask, or no one can.
pub(super) fn exposure(config: &Config, raw: &RawConfig, found: &mut Findings<'_>) {
    let nameless = config.agents.iter().all(|a| a.proofs.is_empty());
    for RawListen(listen) in raw.listen.iter().flat_map(|l| &l.0) {
        let open = self::bind(&listen.bind, found).is_some_and(|b| !is_local(&b));
        if nameless && open {
            found
                .warn(
                    listen.bind.at,
                    "anyone who reaches this address may use every credential in the rules",
                )
                .hint("add `agents` with a token, or listen on a loopback address or a unix socket");
        }
    }
    let unix = config.listen.iter().any(|l| matches!(l.bind, Bind::Unix(_)));
    let tls = config.listen.iter().any(|l| l.tls);
    for (agent, (name, _)) in config.agents.iter().zip(raw.agents()) {
        let only = |kind: fn(&Proof) -> bool| !agent.proofs.is_empty() && agent.proofs.iter().all(kind);
        let (by, lacks, add) = if !unix && only(|p| matches!(p, Proof::PeerUid(_))) {
            (
                "its uid",
                "is a unix socket",
                "listen: [\"unix:/run/keyferry/proxy.sock\"]",
            )
        } else if !tls && only(|p| matches!(p, Proof::Certificate(_))) {
            (
                "a certificate",
                "is TLS",
                "listen: [{ bind: \"127.0.0.1:8443\", tls: true }]",
            )
        } else {
            continue;
        };
        let told = format!("agent `{}` is known by {by}, but no listener {lacks}", name.value);
        found.warn(name.at, told).hint(format!("add one: `{add}`"));
    }
}
