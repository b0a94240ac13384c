//! Secrets: where each lives, what the agent holds instead.

use super::expand::Expanded;
use super::kept::Stores;
use super::mint::{Written, word};
use super::scope::{Scope, name_is_fit, variable_is_fit};
use crate::base::ids::SecretId;
use crate::config::leaf::{At, Text};
use crate::config::looks::shown;
use crate::config::model::{SecretSpec, Source};
use crate::config::presets::Preset;
use crate::config::raw::{RawConfig, RawSecret, SecretMap};
use crate::config::read::Findings;
use aho_corasick::AhoCorasick;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a program may take to print a secret, unless the config says otherwise.
pub(super) const EXEC_TIMEOUT: Duration = Duration::from_secs(10);
/// A shorter placeholder could turn up in ordinary text.
const SHORTEST_PLACEHOLDER: usize = 8;
const LONGEST_PLACEHOLDER: usize = 4096;

/// Makes the names known before anything refers to them.
pub(super) fn names(raw: &[(Text, Option<RawSecret>)], scope: &mut Scope<'_>, found: &mut Findings<'_>) {
    for (name, _) in raw {
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
    // First those that are made with others: these are then in use, and known to be documents.
    let mut made = made(raw, scope, found);
    let presets: HashMap<SecretId, &Preset> = expanded.iter().filter_map(|e| Some((e.secret?, e.preset?))).collect();
    let mut specs = Vec::new();
    let mut variables: HashMap<String, String> = HashMap::new();
    for (at, (name, secret)) in raw.secrets().iter().enumerate() {
        let id = SecretId(u32::try_from(at).unwrap_or(u32::MAX));
        if !scope.used.contains(&id) {
            found
                .warn(name.at, format!("secret `{}` is used nowhere", shown(name)))
                .hint("name it in a rule, or take it out");
        }
        let Some(RawSecret(secret)) = secret else { continue };
        let usual = presets.get(&id).map(|preset| preset.env.as_slice());
        let usual = usual.or_else(|| {
            let mut more = expanded.iter().filter_map(|e| e.preset).flat_map(|preset| &preset.more);
            let more = more.find(|more| more.name == name.value)?;
            Some(std::slice::from_ref(&more.variable))
        });
        let Some(spec) = spec((name, id), secret, usual, made.remove(&id), scope, found) else {
            continue;
        };
        for variable in &spec.agent_env {
            if let Some(other) = variables.insert(variable.clone(), name.value.clone()) {
                let message = format!(
                    "secrets `{}` and `{}` both go into `{variable}`",
                    shown(&other),
                    shown(name)
                );
                let hint = "set `agent_env` of one of them; `agent_env: []` is none";
                found.error(name.at, message).hint(hint);
            }
        }
        specs.push(spec);
    }
    placeholders(raw.secrets(), found);
    if specs.len() < raw.secrets().len() {
        return None;
    }
    for (spec, id) in scope.implicit.iter().zip(raw.secrets().len()..) {
        let id = SecretId(u32::try_from(id).unwrap_or(u32::MAX));
        let mut spec = spec.clone();
        spec.document |= scope.documents.contains(&id);
        // What only makes tokens is not the agent's to hold a placeholder of.
        if !scope.injected.contains(&id) {
            spec.agent_env.clear();
        }
        specs.push(spec);
    }
    in_no_circle(&specs, raw, found).then_some(specs)
}

/// Those that are had with others: tokens, and what stores of others keep.
fn made(raw: &RawConfig, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> HashMap<SecretId, Source> {
    let stores = Stores::read(raw, scope, found);
    let written = (0..).map(SecretId).zip(raw.secrets());
    let made = written.filter_map(|(id, (_, secret))| {
        let secret = &secret.as_ref()?.0;
        if Stores::given(secret).next().is_some() {
            return Some((id, stores.source(secret, scope, found)?));
        }
        let written = Written::of_secret(secret);
        written.given().next()?;
        Some((id, Source::Minted(Box::new(written.mint(scope, found)?))))
    });
    made.collect()
}

/// Tells of a token that is made with itself.
fn in_no_circle(specs: &[SecretSpec], raw: &RawConfig, found: &mut Findings<'_>) -> bool {
    let mut sound = true;
    for (start, (name, _)) in raw.secrets().iter().enumerate() {
        let (mut reached, mut open) = (vec![false; specs.len()], vec![start]);
        while let Some(at) = open.pop() {
            let uses = specs.get(at).map(|spec| spec.source.uses()).unwrap_or_default();
            for next in uses.into_iter().map(|uses| uses.id.index()) {
                if reached.get_mut(next).is_some_and(|seen| !std::mem::replace(seen, true)) {
                    open.push(next);
                }
            }
        }
        if reached.get(start) == Some(&true) {
            found
                .error(name.at, format!("secret `{}` is made with itself", shown(name)))
                .hint("name the secret that it is to be made with");
            sound = false;
        }
    }
    sound
}

/// One secret. Where the config does not say in which variables the agent finds its placeholder,
/// they are the preset's, or the one the value itself comes from.
fn spec(
    (name, id): (&Text, SecretId),
    raw: &SecretMap,
    usual: Option<&[String]>,
    made: Option<Source>,
    scope: &Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<SecretSpec> {
    let (injected, document) = (scope.injected.contains(&id), scope.documents.contains(&id));
    if injected && document {
        found
            .error(
                name.at,
                format!(
                    "`{}` is a key that tokens are made with or connections authenticated by, and a rule sends it",
                    shown(name)
                ),
            )
            .hint("keep it for one of the two");
        return None;
    }
    let field = field(raw, found);
    let source = source(name, raw, made, scope, found);
    let fit = raw
        .agent_env
        .iter()
        .flat_map(|many| &many.0)
        .filter(|v| !variable_is_fit(v, found))
        .count()
        == 0;
    let (source, field) = (source.filter(|_| fit)?, field?);
    let agent_env = match (&raw.agent_env, usual, &source) {
        (Some(written), _, _) => written.0.iter().map(|v| v.value.clone()).collect(),
        (None, Some(usual), _) if injected => usual.to_vec(),
        (None, None, Source::Env(variable)) if injected => vec![variable.clone()],
        _ => Vec::new(),
    };
    Some(SecretSpec {
        name: name.as_str().into(),
        source,
        document,
        field,
        placeholder: raw.placeholder.as_ref().map(|p| p.value.clone()),
        agent_env,
    })
}

/// The field of what is one text; the inner `None` is all of it.
fn field(raw: &SecretMap, found: &mut Findings<'_>) -> Option<Option<Arc<str>>> {
    let Some(field) = &raw.field else { return Some(None) };
    let texts = [&raw.env, &raw.file, &raw.credential, &raw.store];
    if raw.exec.is_none() && !raw.bad && texts.into_iter().all(Option::is_none) {
        found
            .error(
                field.at,
                "`field` goes with `env`, `file`, `credential`, `exec` and `store`",
            )
            .hint("stores of others have a `field` of their own: `{ aws_secret: { id: …, field: … } }`");
        return None;
    }
    word(field, found).map(|field| Some(field.as_str().into()))
}

fn source(
    name: &Text,
    raw: &SecretMap,
    made: Option<Source>,
    scope: &Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Source> {
    if raw.exec.is_none() && !raw.bad {
        for (place, key) in [(&raw.ttl, "ttl"), (&raw.timeout, "timeout")] {
            if let Some(place) = place {
                found
                    .error(place.at, format!("`{key}` goes with `exec`"))
                    .hint("take it out");
            }
        }
    }
    let others = Written::of_secret(raw).given().chain(Stores::given(raw)).count();
    let places = [&raw.env, &raw.file, &raw.credential, &raw.store]
        .into_iter()
        .filter(|place| place.is_some())
        .count();
    match places + others + usize::from(raw.exec.is_some()) {
        1 => {}
        _ if raw.bad => return None,
        0 => {
            found
                .error(name.at, format!("nothing says where secret `{}` lives", name.value))
                .hint(format!("add one of {PLACES}"));
            return None;
        }
        _ => {
            found
                .error(name.at, format!("secret `{}` lives in more than one place", name.value))
                .hint(format!("keep one of {PLACES}"));
            return None;
        }
    }
    if let Some(env) = &raw.env {
        return variable_is_fit(env, found).then(|| Source::Env(env.value.clone()));
    }
    if let Some(file) = &raw.file {
        return scope.path(file, found).map(Source::File);
    }
    if let Some(name) = &raw.credential {
        name_is_fit(name, "a credential of systemd's", found);
        return Some(Source::Credential(name.value.clone()));
    }
    if let Some(argv) = &raw.exec {
        return exec(raw, argv, scope, found);
    }
    if let Some(entry) = &raw.store {
        name_is_fit(entry, "an entry of the store", found);
        return Some(Source::Store(entry.value.clone()));
    }
    made
}

const PLACES: &str = "`env`, `file`, `credential`, `exec`, `store`, `vault`, `aws_secret`, `aws_parameter`, \
                      `kubernetes_secret`, `gcp_secret`, `azure_secret`, `onepassword_item`, `keyring`, `secret_service`, `oauth2`, `jwt`, `github_app`, `gcp` and `azure`";

fn exec(raw: &SecretMap, argv: &At<Vec<Text>>, scope: &Scope<'_>, found: &mut Findings<'_>) -> Option<Source> {
    let argv = command(argv, scope, found)?;
    Some(Source::Exec {
        argv,
        ttl: raw.ttl.as_ref().map(|t| t.0),
        timeout: raw.timeout.as_ref().map_or(EXEC_TIMEOUT, |t| t.0),
    })
}

/// A program and its arguments.
pub(super) fn command(argv: &At<Vec<Text>>, scope: &Scope<'_>, found: &mut Findings<'_>) -> Option<Vec<String>> {
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
    Some(std::iter::once(program).chain(arguments).collect())
}

/// Checks that every placeholder can be told from ordinary text and from every other placeholder.
fn placeholders(raw: &[(Text, Option<RawSecret>)], found: &mut Findings<'_>) {
    let written = raw.iter().filter_map(|(name, secret)| {
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
            .filter_map(|m| Some((m.pattern().as_usize(), fit.get(m.pattern().as_usize())?)));
        // Of two that are the same, the later one is told of.
        let other = inside
            .filter(|(other, (_, text))| *other != at && (*other < at || text.value != placeholder.value))
            .map(|(_, other)| other)
            .next();
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
