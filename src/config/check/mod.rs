//! As written → as meant. Each part collects its own mistakes; a config with one of them is none.

mod agents;
mod audit;
mod capture;
mod certificates;
mod expand;
mod hmac;
mod inject;
mod kept;
mod listen;
mod mint;
mod mount;
mod parent;
mod rules;
mod scope;
mod secrets;
mod session;
mod shadow;
mod sigv4;
mod slots;
mod upstream;
mod vault;

use super::model::{AuditSink, AuditSpec, Bind, CaSource, Config, Limits, WhenFull};
use super::presets::Chosen;
use super::raw::{RawCa, RawConfig, RawLimits};
use super::read::Findings;
use crate::base::glob::HostPattern;
use crate::base::ids::SecretId;
use scope::Scope;
use std::path::Path;

/// Checks a whole config; `None` when some part of it is not fit to be used.
pub(super) fn config(raw: &RawConfig, base: &Path, found: &mut Findings<'_>) -> Option<Config> {
    let mut scope = Scope::new(base);
    scope.aws_region = kept::aws_region(raw);
    secrets::names(raw.secrets(), &mut scope, found);
    agents::names(raw.agents(), &mut scope, found);
    let written = raw.rules.as_deref().unwrap_or_default();
    let expanded = expand::all(written, raw, &mut scope, found);

    let listen = listen::all(raw.listen.as_ref(), found);
    let admin = match &raw.admin {
        Some(admin) => listen::admin(&admin.0, &mut scope, found).map(Some),
        None => Some(None),
    };
    let ca = ca(raw.ca.as_ref(), &scope, raw, found);
    let upstream = upstream::check(raw.upstream.as_ref(), &mut scope, found);
    let agents = agents::check(raw.agents(), &mut scope, found);
    let rules = rules::check(&expanded, &mut scope, found);
    let audit = audit::check(raw.audit.as_ref(), &scope, raw, found);
    let limits = limits(raw.limits.as_ref(), found);
    let secrets = secrets::check(raw, &expanded, &mut scope, found);

    if written.is_empty() && !raw.bad {
        found
            .warn(raw.at, "there are no rules, so every request is denied")
            .hint("add one: `rules: [{ host: api.example.com }]`");
    }
    let config = Config {
        listen: listen?,
        admin: admin?,
        ca: ca?,
        upstream: upstream?,
        secrets: secrets?,
        agents: agents?,
        rules: rules?,
        audit: audit?,
        limits: limits?,
    };
    listen::exposure(&config, raw, found);
    Some(config)
}

/// The config of a run without a file.
pub(super) fn of_presets(chosen: &[Chosen], allow_hosts: &[HostPattern], found: &mut Findings<'_>) -> Option<Config> {
    let mut scope = Scope::new(Path::new(""));
    agents::names(&[], &mut scope, found);
    let (mut expanded, mut secrets) = (Vec::new(), Vec::new());
    for each in chosen {
        let secret = SecretId(scope.secrets.add(each.preset.name));
        secrets.push(each.preset.spec(&each.variables));
        for more in &each.more {
            scope.secrets.add(&more.name);
            secrets.push(more.spec());
        }
        expanded.extend(expand::of_preset(each.preset, secret));
    }
    let mut rules = rules::check(&expanded, &mut scope, found)?;
    if !allow_hosts.is_empty() {
        rules.push(rules::allowed(allow_hosts));
    }
    Some(Config {
        listen: vec![listen::local(0)],
        admin: None,
        ca: CaSource::Dir(super::places::data_dir()?.join("ca")),
        upstream: upstream::check(None, &mut scope, found)?,
        secrets,
        agents: agents::check(&[], &mut scope, found)?,
        rules,
        audit: AuditSpec {
            sink: AuditSink::None,
            when_full: WhenFull::Count,
        },
        limits: Limits::default(),
    })
}

fn ca(raw: Option<&RawCa>, scope: &Scope<'_>, whole: &RawConfig, found: &mut Findings<'_>) -> Option<CaSource> {
    let Some(raw) = raw else {
        return default_path("ca", "`ca: { dir: … }` or `ca: { memory: true }`", whole, found).map(CaSource::Dir);
    };
    let memory = raw.memory.as_ref().is_some_and(|m| m.value);
    match (&raw.dir, memory, &raw.certificate, &raw.key) {
        (Some(dir), false, None, None) => scope.path(dir, found).map(CaSource::Dir),
        (None, true, None, None) => Some(CaSource::Memory),
        (None, false, Some(certificate), Some(key)) => {
            let (certificate, key) = (scope.path(certificate, found), scope.path(key, found));
            Some(CaSource::Own {
                certificate: certificate?,
                key: key?,
            })
        }
        _ if raw.bad => None,
        _ => {
            found
                .error(
                    raw.at,
                    "`ca` wants one of `dir`, `memory: true`, or `certificate` with `key`",
                )
                .hint("leave `ca` out to keep a CA in Keyferry's own directory");
            None
        }
    }
}

/// A file or directory in Keyferry's own directory.
fn default_path(name: &str, instead: &str, whole: &RawConfig, found: &mut Findings<'_>) -> Option<std::path::PathBuf> {
    let dir = super::places::data_dir();
    if dir.is_none() {
        found
            .error(whole.at, format!("you have no home directory to keep `{name}` in"))
            .hint(format!("add {instead}"));
    }
    dir.map(|d| d.join(name))
}

fn limits(raw: Option<&RawLimits>, found: &mut Findings<'_>) -> Option<Limits> {
    /// A head that cannot hold a request line is no cap but an outage.
    const LEAST_HEAD: u64 = 1024;
    /// Half of it is enough for the largest body that is collected, and for the largest window of a compressed reply.
    const LEAST_BODIES: u64 = 40 * 1024 * 1024;
    let mut limits = Limits::default();
    let Some(raw) = raw else { return Some(limits) };
    let mut fit = !raw.bad;
    for (written, meant) in [
        (&raw.head_time, &mut limits.head_time),
        (&raw.idle_time, &mut limits.idle_time),
        (&raw.stall_time, &mut limits.stall_time),
        (&raw.connect_time, &mut limits.connect_time),
        (&raw.response_time, &mut limits.response_time),
        (&raw.drain_time, &mut limits.drain_time),
    ] {
        if let Some(written) = written {
            *meant = written.0;
        }
    }
    let counts = [
        (&raw.connections, &mut limits.connections),
        (&raw.agent_connections, &mut limits.agent_connections),
        (&raw.agent_requests, &mut limits.agent_requests),
        (&raw.leaves, &mut limits.leaves),
        (&raw.streams, &mut limits.streams),
    ];
    for (written, meant) in counts {
        let Some(written) = written else { continue };
        *meant = usize::try_from(written.value).unwrap_or(usize::MAX);
        if written.value == 0 {
            found.error(written.at, "expected a number above zero");
            fit = false;
        }
    }
    if let Some(bytes) = &raw.head_bytes {
        match usize::try_from(bytes.0) {
            Ok(size) if (LEAST_HEAD..=u64::from(u32::MAX)).contains(&bytes.0) => limits.head_bytes = size,
            _ => {
                found.error(bytes.at, "a request head is given from 1KiB up to 4GiB");
                fit = false;
            }
        }
    }
    if let Some(bytes) = &raw.bodies {
        limits.bodies = bytes.0;
        if bytes.0 < LEAST_BODIES {
            found.error(bytes.at, "bodies need 40MiB of memory at least");
            fit = false;
        }
    }
    fit.then_some(limits)
}

/// Whether an address is reached from this machine only.
fn is_local(bind: &Bind) -> bool {
    match bind {
        Bind::Tcp(address) => address.ip().to_canonical().is_loopback(),
        Bind::Unix(_) => true,
        // Whatever machine runs here; whatever address the service manager chose.
        Bind::Vsock(_) | Bind::Passed(_) => false,
    }
}
