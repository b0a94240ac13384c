//! Base URLs: where the upstream of a rule is found on gateway listeners.

use crate::base::ask::Scheme;
use crate::base::glob::{HostGlob, HostPattern};
use crate::base::host::Target;
use crate::config::leaf::Text;
use crate::config::looks::shown;
use crate::config::model::{Action, Mount, Rule};
use crate::config::place::Place;
use crate::config::raw::RawRule;
use crate::config::read::Findings;
use std::collections::HashMap;
use std::sync::Arc;

/// The rule's base URL; the outer `None` where what is written makes none.
#[expect(clippy::option_option, reason = "outer: fit to be used; inner: given")]
pub(super) fn check(
    raw: &RawRule,
    hosts: Option<&[HostPattern]>,
    action: Option<&Action>,
    found: &mut Findings<'_>,
) -> Option<Option<Mount>> {
    let variables = raw.base_url.as_ref().map_or(&[][..], |many| &many.0);
    let Some(prefix) = &raw.gateway else {
        let Some(first) = variables.first() else {
            return Some(None);
        };
        found
            .error(first.at, "`base_url` goes with `gateway`")
            .hint("add `gateway: /PREFIX`");
        return None;
    };
    if !is_prefix(prefix) {
        found
            .error(prefix.at, format!("`{}` is no path for a base URL", shown(prefix)))
            .hint("write it like `/anthropic`: letters, digits, `-`, `_`, `.` and `~`, without a slash at the end");
        return None;
    }
    if matches!(action, Some(Action::Deny { .. } | Action::Tunnel)) {
        found
            .error(prefix.at, "only what is inspected has a base URL")
            .hint("take `gateway` out, or `deny` and `tunnel`");
        return None;
    }
    let (target, scheme) = upstream(hosts?, prefix, found)?;
    let variables: Vec<_> = variables.iter().filter_map(|text| variable(text, found)).collect();
    let whole = variables.len() == raw.base_url.as_ref().map_or(0, |many| many.0.len());
    whole.then(|| {
        Some(Mount {
            prefix: prefix.as_str().into(),
            target,
            scheme,
            variables,
        })
    })
}

/// The base URLs so far.
#[derive(Debug, Default)]
pub(super) struct Mounts(HashMap<Arc<str>, Target>);

impl Mounts {
    /// Several rules may stand for one upstream there, but not for two.
    pub(super) fn add(&mut self, rule: &Rule, place: Place, found: &mut Findings<'_>) {
        let Some(mount) = &rule.mount else { return };
        let first = self
            .0
            .entry(Arc::clone(&mount.prefix))
            .or_insert_with(|| mount.target.clone());
        if *first != mount.target {
            let told = format!(
                "`gateway: {}` leads to {first} already, by a rule before this one",
                mount.prefix
            );
            found.error(place, told).hint("give this rule a path of its own");
        }
    }
}

/// Segments that mean the same to everybody.
fn is_prefix(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let segment = |segment: &str| !segment.is_empty() && segment.bytes().all(plain) && !matches!(segment, "." | "..");
    text.len() <= 100 && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment))
}

fn upstream(hosts: &[HostPattern], at: &Text, found: &mut Findings<'_>) -> Option<(Target, Scheme)> {
    let [
        HostPattern {
            host: HostGlob::Exact(host),
            port,
        },
    ] = hosts
    else {
        found
            .error(at.at, "a base URL leads to one host")
            .hint("give the rule one `host` without `*`, and the others a rule of their own");
        return None;
    };
    let scheme = if *port == Some(80) { Scheme::Http } else { Scheme::Https };
    Some((Target::new(host.clone(), port.unwrap_or(443)), scheme))
}

/// `NAME`, or `NAME=/path`.
fn variable(text: &Text, found: &mut Findings<'_>) -> Option<(String, String)> {
    let (name, path) = text.split_once('=').unwrap_or((text.as_str(), ""));
    let named = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if named && (path.is_empty() || is_prefix(path)) {
        return Some((name.to_owned(), path.to_owned()));
    }
    found
        .error(text.at, format!("`{}` is no variable for a base URL", shown(text)))
        .hint("write it like `MY_BASE_URL`, or `MY_BASE_URL=/v1`");
    None
}
