//! Presets in the list of rules: each stands for its own, with the user's changes.

use super::scope::Scope;
use crate::base::ids::SecretId;
use crate::config::model::SecretSpec;
use crate::config::place::Place;
use crate::config::presets::{self, Preset};
use crate::config::raw::{RawConfig, RawRule};
use crate::config::read::{Findings, listed};
use std::borrow::Cow;

/// A rule as written, or as a preset wrote it with the user's changes.
#[derive(Debug)]
pub(super) struct Expanded<'r> {
    pub(super) rule: Cow<'r, RawRule>,
    pub(super) name: String,
    /// Where the user wrote it.
    pub(super) at: Place,
    /// The preset it came from.
    pub(super) preset: Option<&'static Preset>,
    /// The secret the preset's rule injects.
    pub(super) secret: Option<SecretId>,
}

/// Puts each preset's rules in its place, and makes its secrets known.
pub(super) fn all<'r>(
    written: &'r [RawRule],
    raw: &RawConfig,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Vec<Expanded<'r>> {
    let mut all = Vec::new();
    for (number, rule) in written.iter().enumerate() {
        let Some(named) = &rule.preset else {
            if let Some(secret) = &rule.secret {
                found
                    .error(secret.at, "`secret` goes with `preset`")
                    .hint("name the secret under `inject`");
            }
            all.push(Expanded {
                name: rule
                    .name
                    .as_ref()
                    .map_or_else(|| format!("rule {}", number + 1), |n| n.value.clone()),
                at: rule.name.as_ref().map_or(rule.at, |n| n.at),
                rule: Cow::Borrowed(rule),
                preset: None,
                secret: None,
            });
            continue;
        };
        let Some(preset) = presets::find(named) else {
            let known: Vec<&str> = presets::all().iter().map(|p| p.name).collect();
            let all = format!("the presets are {}", listed(&known));
            found.unknown(named.at, "preset", named, known.into_iter(), &all);
            continue;
        };
        only_changes(rule, found);
        let secret = match &rule.secret {
            Some(secret) if preset.env.is_empty() => {
                found
                    .error(secret.at, "this preset has no secret: the agent logs in by itself")
                    .hint("take it out");
                continue;
            }
            Some(secret) => match scope.secret(secret, found) {
                Some(id) => Some(id),
                None => continue,
            },
            None if preset.env.is_empty() => None,
            None => Some(preset_secret(preset, raw, scope)),
        };
        for more in preset.more.iter().filter(|more| !more.optional) {
            implied(more.spec(), raw, scope);
        }
        all.extend(
            preset
                .rules()
                .map(|(suffix, ready)| from_preset(rule, named.at, preset, suffix, ready, secret)),
        );
    }
    all
}

fn from_preset<'r>(
    rule: &RawRule,
    at: Place,
    preset: &'static Preset,
    suffix: &str,
    ready: &RawRule,
    secret: Option<SecretId>,
) -> Expanded<'r> {
    let base = rule.name.as_ref().map_or(preset.name, |n| n.as_str());
    Expanded {
        name: joined(base, suffix),
        at: rule.name.as_ref().map_or(at, |n| n.at),
        rule: Cow::Owned(RawRule {
            agents: rule.agents.clone(),
            allow: rule.allow.clone().or_else(|| ready.allow.clone()),
            parent: rule.parent.clone(),
            parent_auth: rule.parent_auth.clone(),
            limits: rule.limits.clone(),
            stray_placeholders: rule
                .stray_placeholders
                .clone()
                .or_else(|| ready.stray_placeholders.clone()),
            gateway: rule.gateway.clone().or_else(|| ready.gateway.clone()),
            base_url: rule.base_url.clone().or_else(|| ready.base_url.clone()),
            ..ready.clone()
        }),
        preset: Some(preset),
        secret,
    }
}

/// A preset's rules, unchanged.
pub(super) fn of_preset(preset: &'static Preset, secret: SecretId) -> impl Iterator<Item = Expanded<'static>> {
    preset.rules().map(move |(suffix, ready)| Expanded {
        name: joined(preset.name, suffix),
        at: Place::default(),
        rule: Cow::Borrowed(ready),
        preset: Some(preset),
        secret: Some(secret),
    })
}

fn joined(name: &str, suffix: &str) -> String {
    if suffix.is_empty() {
        name.to_owned()
    } else {
        format!("{name}-{suffix}")
    }
}

/// The user's secret of the preset's name, or one from the preset's usual variable.
fn preset_secret(preset: &'static Preset, raw: &RawConfig, scope: &mut Scope<'_>) -> SecretId {
    implied(preset.spec(&preset.env), raw, scope)
}

/// The user's secret of that name, or this one.
fn implied(spec: SecretSpec, raw: &RawConfig, scope: &mut Scope<'_>) -> SecretId {
    let id = scope.secrets.add(&spec.name);
    let users = raw.secrets().iter().any(|(name, _)| name.value == *spec.name);
    if !users && !scope.implicit.iter().any(|other| other.name == spec.name) {
        scope.implicit.push(spec);
    }
    SecretId(id)
}

/// A preset says what its rules do; the user may only narrow them.
fn only_changes(rule: &RawRule, found: &mut Findings<'_>) {
    let given = [
        ("host", rule.host.as_ref().map(|x| x.at)),
        ("inject", rule.inject.as_ref().map(|x| x.at)),
        ("tunnel", rule.tunnel.as_ref().map(|x| x.at)),
        ("deny", rule.deny.as_ref().map(|x| x.at)),
        ("capture", rule.capture.as_ref().map(|x| x.at)),
        ("plaintext", rule.plaintext.as_ref().map(|x| x.at)),
    ];
    for (key, place) in given {
        if let Some(place) = place {
            found
                .error(place, format!("`{key}` is the preset's to say"))
                .hint("beside `preset` stand `name`, `secret`, `agents`, `allow`, `parent`, `limits` and `stray_placeholders`; write a rule of your own for more");
        }
    }
}
