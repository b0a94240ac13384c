//! Listeners: where agents connect, and where the operator does.

use super::is_local;
use super::scope::Scope;
use crate::base::host::{Host, Target};
use crate::config::leaf::{Many, Text};
use crate::config::looks::shown;
use crate::config::model::{Admin, Bind, Config, Listen, Proof, Redirect, Speak};
use crate::config::raw::{AdminMap, ListenMap, RawConfig, RawListen};
use crate::config::read::Findings;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

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
        proxy_protocol: Vec::new(),
    }
}

fn one(raw: &ListenMap, found: &mut Findings<'_>) -> Option<Listen> {
    let bind = bind(&raw.bind, found);
    let speak = speak(raw, bind.as_ref(), found);
    let mode = match &raw.mode {
        Some(mode) => self::mode(mode, bind.as_ref(), found).map(Some),
        None => Some(None),
    };
    let proxy_protocol = balancers(raw, bind.as_ref(), speak.as_ref(), found);
    Some(Listen {
        proxy_protocol: proxy_protocol?,
        bind: bind?,
        speak: speak?,
        tls: raw.tls.as_ref().is_some_and(|t| t.value),
        mode: mode?,
    })
}

fn speak(raw: &ListenMap, bind: Option<&Bind>, found: &mut Findings<'_>) -> Option<Speak> {
    let spoken = raw.speak.as_ref().map_or("proxy", |text| text.as_str());
    let speak = match (spoken, &raw.speak) {
        ("transparent", _) => return transparent(raw, bind, found),
        ("dns", _) => dns(raw, bind, found),
        ("gateway", _) => names(raw, found).map(|names| Speak::Gateway { names }),
        ("proxy", _) => Some(Speak::Proxy),
        ("socks", _) => Some(Speak::Socks),
        (other, text) => {
            found
                .error(
                    text.as_ref().map_or(raw.at, |text| text.at),
                    format!("a listener cannot speak `{}`", shown(other)),
                )
                .hint("it can speak `proxy`, `socks`, `transparent`, `gateway` or `dns`");
            None
        }
    };
    let names = raw.names.as_ref().and_then(|names| names.0.first());
    let answer = raw.answer.as_ref().and_then(|answer| answer.0.first());
    let extra = [
        ("default", "transparent", raw.default.as_ref().map(|text| text.at)),
        ("tproxy", "transparent", raw.tproxy.as_ref().map(|flag| flag.at)),
        (
            "names",
            "gateway",
            names.map(|name| name.at).filter(|_| spoken != "gateway"),
        ),
        ("answer", "dns", answer.map(|ip| ip.at).filter(|_| spoken != "dns")),
    ];
    let mut fit = true;
    for (key, whose, place) in extra {
        if let Some(place) = place {
            found
                .error(place, format!("`{key}` is for listeners that speak `{whose}`"))
                .hint(format!("take it out, or add `speak: {whose}`"));
            fit = false;
        }
    }
    speak.filter(|_| fit)
}

/// The names of a gateway.
fn names(raw: &ListenMap, found: &mut Findings<'_>) -> Option<Arc<[Host]>> {
    let written = raw.names.as_ref().map_or(&[][..], |names| &names.0);
    let read = written.iter().filter_map(|name| match Host::parse(name) {
        Ok(host) => Some(host),
        Err(why) => {
            found.error(name.at, format!("`{}` is no host: {why}", shown(name)));
            None
        }
    });
    let read: Vec<Host> = read.collect();
    (read.len() == written.len()).then(|| read.into())
}

/// A resolver, and what it answers.
fn dns(raw: &ListenMap, bind: Option<&Bind>, found: &mut Findings<'_>) -> Option<Speak> {
    let mut fit = true;
    if matches!(bind, Some(Bind::Unix(_) | Bind::Vsock(_) | Bind::Passed(_))) {
        found
            .error(raw.bind.at, "names are asked for at an address and a port")
            .hint("write it like `bind: 0.0.0.0:15053`");
        fit = false;
    }
    if let Some(tls) = raw.tls.as_ref().filter(|tls| tls.value) {
        found
            .error(tls.at, "DNS is spoken in the clear here")
            .hint("take `tls` out");
        fit = false;
    }
    let written = raw.answer.as_ref().map_or(&[][..], |answer| &answer.0);
    let read = written.iter().filter_map(|text| match text.parse() {
        Ok(ip) => Some(ip),
        Err(_) => {
            found
                .error(text.at, format!("`{}` is no address", shown(text)))
                .hint("write it like `answer: [10.77.0.1, \"fd77::1\"]`");
            None
        }
    });
    let answer: Vec<IpAddr> = read.collect();
    let whole = answer.len() == written.len();
    (fit && whole).then(|| Speak::Dns { answer: answer.into() })
}

/// The networks of load balancers.
fn balancers(
    raw: &ListenMap,
    bind: Option<&Bind>,
    speak: Option<&Speak>,
    found: &mut Findings<'_>,
) -> Option<Vec<IpNet>> {
    let written = raw.proxy_protocol.as_ref();
    let why = match (bind, speak) {
        (Some(Bind::Tcp(_) | Bind::Passed(_)) | None, Some(Speak::Transparent { .. })) => {
            "no balancer stands before a redirected connection"
        }
        (Some(Bind::Tcp(_)) | None, Some(Speak::Dns { .. })) => "a question has no PROXY header before it",
        (Some(Bind::Tcp(_) | Bind::Passed(_)) | None, _) => return super::upstream::networks(written, found),
        (Some(_), _) => "`proxy_protocol` is for listeners on a TCP address",
    };
    let Some(first) = written.and_then(|written| written.0.first()) else {
        return Some(Vec::new());
    };
    found.error(first.at, why).hint("take `proxy_protocol` out");
    None
}

fn transparent(raw: &ListenMap, bind: Option<&Bind>, found: &mut Findings<'_>) -> Option<Speak> {
    let mut fit = true;
    if matches!(bind, Some(Bind::Unix(_) | Bind::Vsock(_) | Bind::Passed(_))) {
        found
            .error(
                raw.bind.at,
                "the firewall redirects TCP connections to an address, not to a socket of another kind",
            )
            .hint("write it like `bind: 0.0.0.0:15001`");
        fit = false;
    }
    if let Some(tls) = raw.tls.as_ref().filter(|tls| tls.value) {
        found
            .error(tls.at, "what is redirected is not wrapped in TLS for Keyferry")
            .hint("take `tls` out");
        fit = false;
    }
    let default = raw.default.as_ref().map(|text| {
        let target = Target::parse(text, None);
        if let Err(why) = &target {
            found
                .error(text.at, format!("`{}` is no host and port: {why}", shown(text)))
                .hint("write it like `default: api.example.com:443`");
        }
        target.ok()
    });
    let redirect = if raw.tproxy.as_ref().is_some_and(|flag| flag.value) {
        Redirect::Tproxy
    } else {
        Redirect::Nat
    };
    let default = match default {
        Some(None) => return None,
        Some(target) => target,
        None => None,
    };
    fit.then_some(Speak::Transparent { redirect, default })
}

fn mode(mode: &Text, bind: Option<&Bind>, found: &mut Findings<'_>) -> Option<u32> {
    if matches!(bind, Some(Bind::Passed(_))) {
        found
            .error(mode.at, "who passes a socket says who may connect to it")
            .hint("take `mode` out, and write `SocketMode=` in the .socket unit");
        return None;
    }
    if matches!(bind, Some(Bind::Tcp(_) | Bind::Vsock(_))) {
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
    if let Some(port) = text.strip_prefix("vsock:") {
        // The last port stands for any (vsock(7)).
        let port = port.parse().ok().filter(|port| (1..u32::MAX).contains(port));
        if port.is_none() {
            found
                .error(text.at, "expected a port from 1 to 4294967294 after `vsock:`")
                .hint("write it like `vsock:8080`");
        }
        return port.map(Bind::Vsock);
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        // What systemd takes for `FileDescriptorName=` (systemd.socket(5)).
        let fit = (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !fit {
            found
                .error(
                    text.at,
                    "expected the name of a socket after `systemd:`: up to 255 letters, without a colon",
                )
                .hint("write it as `FileDescriptorName=` in the .socket unit has it: `systemd:proxy`");
        }
        return fit.then(|| Bind::Passed(name.to_owned()));
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
        _ => "write it like `127.0.0.1:8080`, `unix:/run/keyferry/proxy.sock` or `vsock:8080`".to_owned(),
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
        // A resolver has no credential to give.
        let gives = listen.speak.as_ref().is_none_or(|speak| speak.as_str() != "dns");
        if nameless && open && gives {
            found
                .warn(
                    listen.bind.at,
                    "anyone who reaches this address may use every credential in the rules",
                )
                .hint("add `agents` with a token, or listen on a loopback address or a unix socket");
        }
    }
    let unix = config
        .listen
        .iter()
        .any(|l| matches!(l.bind, Bind::Unix(_) | Bind::Passed(_)));
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
