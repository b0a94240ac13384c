//! Secrets: where each lives, what the agent holds instead.

use super::rules::Expanded;
use super::scope::{Scope, name_is_fit, variable_is_fit};
use crate::base::ids::SecretId;
use crate::config::leaf::{Named, Text};
use crate::config::model::{SecretSpec, Source};
use crate::config::raw::{RawConfig, RawSecret, SecretMap};
use crate::config::read::Findings;
use aho_corasick::AhoCorasick;
use std::collections::HashMap;
use std::time::Duration;

/// How long a program may take to print a secret, unless the config says otherwise.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);
/// A shorter placeholder could turn up in ordinary text.
const SHORTEST_PLACEHOLDER: usize = 8;
const LONGEST_PLACEHOLDER: usize = 4096;

/// Makes the names known before anything refers to them.
pub(super) fn names(raw: &Named<RawSecret>, scope: &mut Scope<'_>, found: &mut Findings<'_>) {
    for (name, _) in &raw.0 {
        name_is_fit(name, "a secret", found);
        scope.secrets.add(name);
    }
}

/// Checks every secret, and adds those that presets bring along. Runs last, when it is known what
/// is used.
pub(super) fn check(
    raw: &RawConfig,
    expanded: &[Expanded<'_>],
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Vec<SecretSpec>> {
    let mut specs = Vec::new();
    let mut variables: HashMap<String, String> = HashMap::new();
    for (at, (name, secret)) in raw.secrets.0.iter().enumerate() {
        let id = SecretId(u32::try_from(at).unwrap_or(u32::MAX));
        if !scope.used.contains(&id) {
            found
                .warn(name.at, format!("secret `{}` is used nowhere", name.value))
                .hint("name it in a rule, or take it out");
        }
        let Some(RawSecret(secret)) = secret else { continue };
        let preset = expanded.iter().find(|e| e.secret == Some(id)).and_then(|e| e.preset);
        let source = source(name, secret, scope, found);
        let agent_env = agent_env(secret, found).map(|written| {
            let usual = || match (preset, &source) {
                (Some(preset), _) => preset.env.clone(),
                (None, Some(Source::Env(variable))) if scope.injected.contains(&id) => vec![variable.clone()],
                _ => Vec::new(),
            };
            written.unwrap_or_else(usual)
        });
        for variable in agent_env.iter().flatten() {
            if let Some(other) = variables.insert(variable.clone(), name.value.clone()) {
                found
                    .error(
                        name.at,
                        format!("secrets `{other}` and `{}` both go into `{variable}`", name.value),
                    )
                    .hint("set `agent_env` of one of them; `agent_env: []` is none");
            }
        }
        let (Some(source), Some(agent_env)) = (source, agent_env) else {
            continue;
        };
        specs.push(SecretSpec {
            name: name.as_str().into(),
            source,
            placeholder: secret.placeholder.as_ref().map(|p| p.value.clone()),
            agent_env,
        });
    }
    placeholders(&raw.secrets, found);
    if specs.len() < raw.secrets.0.len() {
        return None;
    }
    specs.extend(scope.implicit.iter().map(|preset| preset.spec(&preset.env)));
    Some(specs)
}

fn source(name: &Text, raw: &SecretMap, scope: &Scope<'_>, found: &mut Findings<'_>) -> Option<Source> {
    if raw.exec.is_none() && !raw.bad {
        for (place, key) in [(&raw.ttl, "ttl"), (&raw.timeout, "timeout")] {
            if let Some(place) = place {
                found
                    .error(place.at, format!("`{key}` goes with `exec`"))
                    .hint("take it out");
            }
        }
    }
    match (&raw.env, &raw.file, &raw.exec, &raw.store) {
        (Some(env), None, None, None) => variable_is_fit(env, found).then(|| Source::Env(env.value.clone())),
        (None, Some(file), None, None) => scope.path(file, found).map(Source::File),
        (None, None, Some(argv), None) => exec(raw, argv, scope, found),
        (None, None, None, Some(entry)) => {
            name_is_fit(entry, "an entry of the store", found);
            Some(Source::Store(entry.value.clone()))
        }
        _ if raw.bad => None,
        (None, None, None, None) => {
            found
                .error(name.at, format!("nothing says where secret `{}` lives", name.value))
                .hint("add one of `env`, `file`, `exec` and `store`");
            None
        }
        _ => {
            found
                .error(name.at, format!("secret `{}` lives in more than one place", name.value))
                .hint("keep one of `env`, `file`, `exec` and `store`");
            None
        }
    }
}

fn exec(
    raw: &SecretMap,
    argv: &crate::config::leaf::At<Vec<Text>>,
    scope: &Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Source> {
    let Some((program, arguments)) = argv.split_first().filter(|(program, _)| !program.is_empty()) else {
        found
            .error(argv.at, "`exec` wants a program and its arguments")
            .hint("write it like `[op, read, \"op://vault/item/field\"]`");
        return None;
    };
    if let Some(argument) = argv.iter().find(|a| a.contains('\0')) {
        found.error(argument.at, "an argument cannot hold a zero byte");
        return None;
    }
    // A bare name is looked up in PATH; a path starts where every path in the config does.
    let program = match program.contains('/') {
        true => scope.path(program, found)?.into_os_string().into_string().ok()?,
        false => program.value.clone(),
    };
    let arguments = arguments.iter().map(|a| a.value.clone());
    Some(Source::Exec {
        argv: std::iter::once(program).chain(arguments).collect(),
        ttl: raw.ttl.as_ref().map(|t| t.0),
        timeout: raw.timeout.as_ref().map_or(EXEC_TIMEOUT, |t| t.0),
    })
}

/// The variables as written; `Some(None)` when none are.
#[expect(clippy::option_option, reason = "outer: readable; inner: written")]
fn agent_env(raw: &SecretMap, found: &mut Findings<'_>) -> Option<Option<Vec<String>>> {
    let Some(written) = &raw.agent_env else {
        return Some(None);
    };
    let fit = written.0.iter().filter(|v| variable_is_fit(v, found)).count() == written.0.len();
    fit.then(|| Some(written.0.iter().map(|v| v.value.clone()).collect()))
}

/// Checks that every placeholder can be told from ordinary text and from every other placeholder.
fn placeholders(raw: &Named<RawSecret>, found: &mut Findings<'_>) {
    let written = raw.0.iter().filter_map(|(name, secret)| {
        let placeholder = secret.as_ref()?.0.placeholder.as_ref()?;
        Some((name, placeholder))
    });
    let mut fit: Vec<(&Text, &Text)> = Vec::new();
    for (name, placeholder) in written {
        let length = placeholder.len();
        if !(SHORTEST_PLACEHOLDER..=LONGEST_PLACEHOLDER).contains(&length) {
            found
                .error(
                    placeholder.at,
                    format!("a placeholder has from {SHORTEST_PLACEHOLDER} to {LONGEST_PLACEHOLDER} characters"),
                )
                .hint("a shorter one could turn up in ordinary text; leave it out to have one made up");
        } else if !placeholder.bytes().all(|b| b.is_ascii_graphic()) {
            found
                .error(
                    placeholder.at,
                    "a placeholder is of visible ASCII characters, without spaces",
                )
                .hint("leave it out to have one made up");
        } else {
            fit.push((name, placeholder));
        }
    }
    let Ok(finder) = AhoCorasick::new(fit.iter().map(|(_, p)| p.as_bytes())) else {
        return;
    };
    for (at, (name, placeholder)) in fit.iter().enumerate() {
        let inside = finder
            .find_overlapping_iter(placeholder.as_bytes())
            .map(|m| m.pattern().as_usize());
        let other = inside.filter(|other| *other != at).find_map(|other| fit.get(other));
        if let Some((other, _)) = other {
            found
                .error(
                    placeholder.at,
                    format!(
                        "the placeholder of `{}` holds that of `{}`, so one could be taken for the other",
                        name.value, other.value
                    ),
                )
                .hint("give them placeholders that differ");
        }
    }
}
