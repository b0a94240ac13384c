//! Rules: which requests they speak of, and what happens to them.

use super::expand::Expanded;
use super::scope::Scope;
use super::shadow::Shadows;
use super::{capture, inject, mount, parent, sigv4};
use crate::base::glob::{Allow, HostGlob, HostPattern};
use crate::base::ids::AgentId;
use crate::config::leaf::{At, Lasting, Many, Text};
use crate::config::looks::shown;
use crate::config::model::{Action, Rate, Rule, RuleLimits, Strays};
use crate::config::parent::Via;
use crate::config::place::Place;
use crate::config::raw::{RawDeny, RawRule, RawRuleLimits};
use crate::config::read::Findings;
use std::collections::HashSet;
use std::sync::Arc;

/// Checks every rule.
pub(super) fn check(expanded: &[Expanded<'_>], scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Vec<Rule>> {
    let mut rules = Vec::new();
    let mut names = HashSet::new();
    let mut shadows = Shadows::default();
    let mut mounts = mount::Mounts::default();
    scope.logins = capture::names(expanded);
    for each in expanded {
        if !names.insert(each.name.as_str()) {
            found
                .error(each.at, format!("two rules are named `{}`", shown(&each.name)))
                .hint("logs and denials name the rule: give it a name of its own");
        }
        scope.preset = each.preset.zip(each.secret);
        scope.tokens.clone_from(&each.tokens);
        scope.rule.clone_from(&each.name);
        let rule = rule(each, scope, found);
        scope.preset = None;
        scope.tokens.clear();
        if let Some(rule) = rule {
            shadows.add(&rule, each.at, found);
            mounts.add(&rule, each.at, found);
            rules.push(rule);
        }
    }
    capture::unused(expanded, scope, found);
    (rules.len() == expanded.len()).then_some(rules)
}

/// A rule that allows hosts without a credential.
pub(super) fn allowed(hosts: &[HostPattern]) -> Rule {
    Rule {
        name: "allowed".into(),
        hosts: hosts.to_vec(),
        agents: None,
        allow: None,
        action: Action::Intercept {
            inject: Vec::new(),
            plaintext: false,
            strays: Strays::Block,
            capture: None,
        },
        via: Via::Default,
        limits: RuleLimits::default(),
        mount: None,
    }
}

fn rule(each: &Expanded<'_>, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Rule> {
    let raw = &*each.rule;
    let name = rule_name(&each.name, each.at, found);
    let hosts = hosts(raw, each.at, found);
    let agents = match &raw.agents {
        Some(names) => agents(names, scope, found).map(Some),
        None => Some(None),
    };
    let allow = match &raw.allow {
        Some(written) => allow(written, found).map(Some),
        None => Some(None),
    };
    let action = action(raw, scope, found);
    let via = parent::via(raw, scope, found);
    let limits = limits(raw, found);
    let mount = mount::check(raw, hosts.as_deref(), action.as_ref(), found);
    if let (Some(written), Some(Action::Intercept { inject, .. })) = (&raw.host, &action) {
        sigv4::placed(written, inject, found);
    }
    if let (Some(hosts), Some(Action::Intercept { inject, .. })) = (&hosts, &action)
        && !inject.is_empty()
        && let Some(any) = hosts.iter().position(|h| h.host == HostGlob::Any)
    {
        let place = raw.host.as_ref().and_then(|h| h.0.get(any)).map_or(each.at, |h| h.at);
        found
            .error(place, "`*` would send the credential to any host the agent names")
            .hint("name the hosts the credential is for");
        return None;
    }
    Some(Rule {
        name: name?.into(),
        hosts: hosts?,
        agents: agents?,
        allow: allow?,
        action: action?,
        via: via?,
        limits: limits?,
        mount: mount?,
    })
}

fn rule_name<'n>(name: &'n str, place: Place, found: &mut Findings<'_>) -> Option<&'n str> {
    const LONGEST: usize = 100;
    if name.trim().is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        found.error(place, format!("a rule's name is one line of 1 to {LONGEST} bytes"));
        return None;
    }
    Some(name)
}

fn hosts(raw: &RawRule, place: Place, found: &mut Findings<'_>) -> Option<Vec<HostPattern>> {
    let Some(written) = &raw.host else {
        if !raw.bad {
            found
                .error(place, "a rule lacks `host`")
                .hint("add `host: api.example.com`, or `preset: NAME`");
        }
        return None;
    };
    each(written, "host", found, |text, found| match HostPattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            let hint = host_hint(text);
            let mistake = found.error(text.at, format!("`{}` is no host pattern: {why}", shown(text)));
            mistake.hint(hint);
            None
        }
    })
}

fn host_hint(text: &str) -> String {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or(bare);
    if bare != text && HostPattern::parse(bare).is_ok() {
        let path = if text.contains("://") {
            ""
        } else {
            "; paths go under `allow`"
        };
        return format!("write only the host: `{bare}`{path}");
    }
    "write it like `api.example.com`, `*.example.com` or `api.example.com:8443`".to_owned()
}

fn agents(written: &At<Many<Text>>, scope: &Scope<'_>, found: &mut Findings<'_>) -> Option<Vec<AgentId>> {
    each(written, "agent", found, |name, found| scope.agent(name, found))
}

fn allow(written: &At<Many<Text>>, found: &mut Findings<'_>) -> Option<Vec<Allow>> {
    each(written, "method and path", found, |text, found| {
        match Allow::parse(text) {
            Ok(allow) => Some(allow),
            Err(why) => {
                found
                    .error(text.at, format!("`{}` is no method and path: {why}", shown(text)))
                    .hint("write it like `GET /v1/models/**`, `* /acme/**` or `/health`");
                None
            }
        }
    })
}

/// Reads each of a list that must not be empty; `None` when one of them is wrong.
fn each<T>(
    written: &At<Many<Text>>,
    what: &str,
    found: &mut Findings<'_>,
    mut read: impl FnMut(&Text, &mut Findings<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if written.0.is_empty() {
        found
            .error(written.at, "an empty list matches nothing")
            .hint(format!("name at least one {what}, or take the key out"));
        return None;
    }
    let read: Vec<T> = written.0.iter().filter_map(|text| read(text, found)).collect();
    (read.len() == written.0.len()).then_some(read)
}

fn action(raw: &RawRule, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Action> {
    let tunnel = raw.tunnel.as_ref().filter(|t| t.value);
    let deny = raw.deny.as_ref().filter(|d| !matches!(d.value, RawDeny::Plain(false)));
    let inject = raw.inject.as_ref();
    // Checked even where it may not stand, so that its own mistakes are told too.
    let injected = inject.map_or(Some(Vec::new()), |many| inject::all(many, scope, found));
    let strays = strays(raw.stray_placeholders.as_ref(), found);
    let capture = match &raw.capture {
        Some(raw) => capture::check(raw, found).map(Some),
        None => Some(None),
    };
    match (deny, tunnel) {
        (None, None) => {
            let mut inject = injected?;
            let capture = capture?;
            inject.extend(capture.as_ref().map(capture::given_back));
            Some(Action::Intercept {
                inject,
                plaintext: raw.plaintext.as_ref().is_some_and(|p| p.value),
                strays: strays?,
                capture: capture.map(Arc::new),
            })
        }
        (None, Some(_)) => {
            opaque(raw, found);
            Some(Action::Tunnel)
        }
        (Some(deny), tunnel) => {
            let extra = [
                ("inject", inject.map(|i| i.at)),
                ("tunnel", tunnel.map(|t| t.at)),
                ("capture", raw.capture.as_ref().map(|c| c.at)),
                ("plaintext", raw.plaintext.as_ref().map(|p| p.at)),
                ("stray_placeholders", raw.stray_placeholders.as_ref().map(|s| s.at)),
                ("parent", raw.parent.as_ref().map(|p| p.at)),
                ("limits", raw.limits.as_ref().map(|l| l.at)),
            ];
            for (key, place) in extra {
                if let Some(place) = place {
                    found
                        .error(place, format!("a rule that denies has no use for `{key}`"))
                        .hint("take it out");
                }
            }
            deny_reason(deny, found).map(|reason| Action::Deny { reason })
        }
    }
}

fn strays(written: Option<&Text>, found: &mut Findings<'_>) -> Option<Strays> {
    let Some(text) = written else {
        return Some(Strays::default());
    };
    match text.as_str() {
        "block" => Some(Strays::Block),
        "pass" => Some(Strays::Pass),
        other => {
            found
                .error(text.at, format!("`stray_placeholders` cannot be `{}`", shown(other)))
                .hint("write `block` or `pass`");
            None
        }
    }
}

#[expect(clippy::option_option, reason = "outer: fit to be told; inner: given")]
fn deny_reason(deny: &At<RawDeny>, found: &mut Findings<'_>) -> Option<Option<String>> {
    const LONGEST: usize = 500;
    let RawDeny::Reason(reason) = &deny.value else {
        return Some(None);
    };
    if reason.trim().is_empty() || reason.len() > LONGEST || reason.chars().any(char::is_control) {
        found
            .error(deny.at, format!("the reason is one line of 1 to {LONGEST} bytes"))
            .hint("write `deny: true` to give none");
        return None;
    }
    Some(Some(reason.clone()))
}

/// A tunnel passes bytes unread: whatever would need reading them cannot stand beside it.
fn opaque(raw: &RawRule, found: &mut Findings<'_>) {
    let limits = raw.limits.as_ref();
    let extra = [
        (
            raw.inject.as_ref().map(|x| x.at),
            "a tunnel is not inspected, so nothing can be injected",
        ),
        (
            raw.capture.as_ref().map(|x| x.at),
            "a tunnel is not inspected, so no token in it can be kept from the agent",
        ),
        (
            raw.allow.as_ref().map(|x| x.at),
            "a tunnel is not inspected, so no method or path can be judged",
        ),
        (
            raw.plaintext.as_ref().map(|x| x.at),
            "a tunnel is not inspected, so `plaintext` says nothing",
        ),
        (
            raw.stray_placeholders.as_ref().map(|x| x.at),
            "a tunnel is not inspected, so no placeholder is seen in it",
        ),
        (
            limits.and_then(|l| l.request_body.as_ref()).map(|x| x.at),
            "a tunnel is not inspected, so no body can be measured",
        ),
        (
            limits.and_then(|l| l.response_body.as_ref()).map(|x| x.at),
            "a tunnel is not inspected, so no body can be measured",
        ),
    ];
    for (place, why) in extra {
        if let Some(place) = place {
            found.error(place, why).hint("take this out, or take `tunnel` out");
        }
    }
}

fn limits(raw: &RawRule, found: &mut Findings<'_>) -> Option<RuleLimits> {
    let Some(raw) = &raw.limits else {
        return Some(RuleLimits::default());
    };
    let mut fit = !raw.bad;
    let rate = raw.rate.as_ref().and_then(|text| {
        let rate = rate(text);
        if rate.is_none() {
            found
                .error(text.at, format!("`{}` is no rate", shown(text)))
                .hint("write it like `60/min`, `5/s` or `100/10s`; to forbid, use `deny`");
            fit = false;
        }
        rate
    });
    if let Some(none) = raw.concurrent.as_ref().filter(|n| n.value == 0) {
        found
            .error(none.at, "expected a number above zero")
            .hint("to forbid, use `deny`");
        fit = false;
    }
    fit.then(|| read_limits(raw, rate))
}

fn read_limits(raw: &RawRuleLimits, rate: Option<Rate>) -> RuleLimits {
    RuleLimits {
        rate,
        concurrent: raw.concurrent.as_ref().map(|n| n.value),
        request_body: raw.request_body.as_ref().map(|b| b.0),
        response_body: raw.response_body.as_ref().map(|b| b.0),
        time: raw.time.as_ref().map(|t| t.0),
    }
}

/// `60/min`, `100/10s`.
fn rate(text: &str) -> Option<Rate> {
    let (count, per) = text.split_once('/')?;
    let count: u32 = count.trim().parse().ok().filter(|n| *n > 0)?;
    let per = match per.trim() {
        "second" => "1s",
        "minute" => "1m",
        "hour" => "1h",
        "day" => "1d",
        per => per,
    };
    let per = Lasting::parse(per).or_else(|| Lasting::parse(&format!("1{per}")))?;
    Some(Rate { count, per: per.0 })
}
