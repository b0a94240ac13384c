//! Presets in the list of rules: each stands for its own, with the user's changes.

use super::mint::{Written, word};
use super::scope::Scope;
use crate::base::ids::SecretId;
use crate::config::leaf::Text;
use crate::config::model::{SecretSpec, Source};
use crate::config::place::Place;
use crate::config::presets::{self, Filled, Preset};
use crate::config::raw::{RawConfig, RawRule};
use crate::config::read::{Findings, listed};
use std::borrow::Cow;
use std::collections::HashMap;

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
    /// The tokens that are made for it, by the preset's names.
    pub(super) tokens: Vec<(String, SecretId)>,
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
            if let Some(with) = &rule.with {
                found.error(with.at, "`with` goes with `preset`").hint("take it out");
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
                tokens: Vec::new(),
            });
            continue;
        };
        all.extend(of(rule, named, raw, scope, found).into_iter().flatten());
    }
    all
}

/// What one use of a preset stands for; `None` where there is a mistake in it.
fn of<'r>(
    rule: &RawRule,
    named: &Text,
    raw: &RawConfig,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Vec<Expanded<'r>>> {
    let Some(preset) = presets::find(named) else {
        let known: Vec<&str> = presets::all().iter().map(|p| p.name).collect();
        let all = format!("the presets are {}", listed(&known));
        found.unknown(named.at, "preset", named, known.into_iter(), &all);
        return None;
    };
    only_changes(rule, found);
    let secret = match &rule.secret {
        Some(secret) if preset.env.is_empty() => {
            found
                .error(secret.at, "this preset has no secret: the agent logs in by itself")
                .hint("take it out");
            return None;
        }
        Some(secret) => Some(scope.secret(secret, found)?),
        None if preset.env.is_empty() => None,
        None => Some(preset_secret(preset, raw, scope)),
    };
    for more in preset.more.iter().filter(|more| !more.optional) {
        implied(more.spec(), raw, scope);
    }
    let filled = preset.filled(&told(rule, named, preset, found)?)?;
    let base = rule.name.as_ref().map_or(preset.name, |n| n.as_str());
    let tokens = tokens(base, secret.map(|secret| (preset, secret)), &filled, scope, found)?;
    let rules = filled.rules.into_iter();
    let rules = rules.map(|ready| from_preset((rule, named.at), (preset, secret), ready, &tokens));
    Some(rules.collect())
}

/// What the user tells a preset: all that it needs, and nothing that it does not know.
fn told<'p>(
    rule: &RawRule,
    named: &Text,
    preset: &'p Preset,
    found: &mut Findings<'_>,
) -> Option<HashMap<&'p str, Text>> {
    let names = preset.with.iter().chain(&preset.defaults);
    let known = || names.clone().map(|(name, _)| name.as_str());
    let (mut told, mut fit) = (HashMap::new(), true);
    for (name, value) in rule.with.iter().flat_map(|with| &with.value.0) {
        let Some(known) = known().find(|known| *known == name.value) else {
            let names: Vec<&str> = known().collect();
            let all = match names.is_empty() {
                true => "this preset need not be told anything: take it out".to_owned(),
                false => format!("this preset is told {}", listed(&names)),
            };
            found.unknown(name.at, "entry of `with`", name, known(), &all);
            fit = false;
            continue;
        };
        match value.as_ref().and_then(|value| Some((value.at, word(value, found)?))) {
            Some((at, value)) => drop(told.insert(known, Text { value, at })),
            None => fit = false,
        }
    }
    for (name, about) in &preset.with {
        if fit && !told.contains_key(name.as_str()) {
            found
                .error(
                    named.at,
                    format!("the preset `{}` must be told `{name}`, {about}", preset.name),
                )
                .hint(format!("add `with: {{ {name}: … }}`"));
            fit = false;
        }
    }
    fit.then_some(told)
}

/// Has the tokens of a preset made with its secret; `None` where there is a mistake in what it was told.
fn tokens(
    base: &str,
    own: Option<(&'static Preset, SecretId)>,
    filled: &Filled,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Vec<(String, SecretId)>> {
    scope.preset = own;
    let mut tokens = Vec::new();
    for (name, raw) in &filled.tokens {
        let mint = Written::of_secret(raw).mint(scope, found);
        let full = format!("{base}/{name}");
        let id = SecretId(scope.secrets.add(&full));
        scope.implicit.push(SecretSpec {
            name: full.into(),
            source: Source::Minted(Box::new(mint?)),
            document: false,
            field: None,
            placeholder: None,
            agent_env: Vec::new(),
        });
        tokens.push((name.clone(), id));
    }
    scope.preset = None;
    Some(tokens)
}

fn from_preset<'r>(
    (rule, at): (&RawRule, Place),
    (preset, secret): (&'static Preset, Option<SecretId>),
    ready: RawRule,
    tokens: &[(String, SecretId)],
) -> Expanded<'r> {
    let base = rule.name.as_ref().map_or(preset.name, |n| n.as_str());
    let suffix = ready.name.as_ref().map_or("", |name| name.as_str());
    Expanded {
        name: joined(base, suffix),
        at: rule.name.as_ref().map_or(at, |n| n.at),
        rule: Cow::Owned(RawRule {
            agents: rule.agents.clone(),
            // What is read as a token endpoint's reply is the preset's to say.
            allow: match &ready.capture {
                Some(_) => ready.allow.clone(),
                None => rule.allow.clone().or_else(|| ready.allow.clone()),
            },
            parent: rule.parent.clone(),
            parent_auth: rule.parent_auth.clone(),
            limits: rule.limits.clone(),
            stray_placeholders: rule
                .stray_placeholders
                .clone()
                .or_else(|| ready.stray_placeholders.clone()),
            gateway: rule.gateway.clone().or_else(|| ready.gateway.clone()),
            base_url: rule.base_url.clone().or_else(|| ready.base_url.clone()),
            ..ready
        }),
        preset: Some(preset),
        secret,
        tokens: tokens.to_vec(),
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
        tokens: Vec::new(),
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
                .hint("beside `preset` stand `name`, `secret`, `with`, `agents`, `allow`, `parent`, `limits` and `stray_placeholders`; write a rule of your own for more");
        }
    }
}
