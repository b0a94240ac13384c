//! Variables of the caller, and those of `.env` files here and above.

use super::{Around, Fate, Found, Move, Origin, Place, Use, secret, text};
use crate::config::presets;
use crate::launch::withheld::looks_like_one;
use std::ffi::OsStr;
use std::path::Path;

/// The caller's variables that hold a credential or lead to one: first those a preset knows, its usual
/// variable before the others.
pub(super) fn of_caller(around: &Around) -> Vec<Found> {
    let mut known = Vec::new();
    for preset in presets::all().iter().filter(|preset| preset.needs_nothing()) {
        let value = |name: &&String| around.vars.get(OsStr::new(name)).and_then(|value| value.to_str());
        let set: Vec<(&String, &str)> = preset
            .env
            .iter()
            .filter_map(|name| Some((name, value(&name)?)))
            .collect();
        // Variables with one value are one credential under several names.
        let mut done = Vec::new();
        for (name, value) in &set {
            if done.contains(value) {
                continue;
            }
            done.push(*value);
            let same = set
                .iter()
                .filter(|(_, other)| other == value)
                .map(|(name, _)| (*name).clone());
            let fate = moved(preset.name, value, Origin::Variable((*name).clone()), same.collect());
            let place = Place::Variable((*name).clone());
            known.extend(fate.map(|fate| Found { place, fate }));
        }
    }
    let by_preset = |name: &str| {
        presets::all()
            .iter()
            .filter(|preset| preset.needs_nothing())
            .any(|preset| preset.env.iter().any(|variable| variable == name))
    };
    let pairs = around
        .vars
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let others = pairs.filter(|(name, value)| !by_preset(name) && looks_like_one(name, value));
    let kept_back = others.map(|(name, _)| Found {
        place: Place::Variable(name.to_owned()),
        fate: Fate::Stays(KEPT_BACK),
    });
    known.into_iter().chain(kept_back).collect()
}

/// Those of `.env` files, from the current directory up to the home or the root.
pub(super) fn of_env_files(around: &Around) -> Vec<Found> {
    let below_home = around.here.starts_with(&around.home);
    let above = around
        .here
        .ancestors()
        .take_while(|dir| dir.starts_with(&around.home) || !below_home);
    let files = above.flat_map(|dir| NAMES.iter().map(move |name| dir.join(name)));
    files.flat_map(|path| of_file(&path)).collect()
}

fn of_file(path: &Path) -> Vec<Found> {
    let lines = text(path).unwrap_or_default();
    let pairs = lines.lines().filter_map(pair);
    let each = |(name, value): (&str, &str)| {
        let preset = presets::all()
            .iter()
            .filter(|preset| preset.needs_nothing())
            .find(|preset| preset.env.iter().any(|variable| variable == name));
        let fate = preset.and_then(|preset| moved(preset.name, value, Origin::Copied, vec![name.to_owned()]));
        // A reference to another variable is no credential.
        let other = || (secret(value).is_some() && looks_like_one(name, value)).then_some(Fate::Stays(IN_ENV_FILE));
        let place = Place::File {
            path: path.into(),
            entry: name.to_owned(),
        };
        Some(Found {
            place,
            fate: fate.or_else(other)?,
        })
    };
    pairs.filter_map(each).collect()
}

fn moved(preset: &str, value: &str, source: Origin, variables: Vec<String>) -> Option<Fate> {
    Some(Fate::Moves(Box::new(Move {
        name: preset.to_owned(),
        value: secret(value)?,
        source,
        rule: Use::Preset(preset.to_owned()),
        variables,
    })))
}

/// The first variable of a preset: where its tools look for the credential.
pub(super) fn of_preset(name: &str) -> Vec<String> {
    presets::find(name)
        .and_then(|preset| preset.env.first())
        .cloned()
        .into_iter()
        .collect()
}

/// `[export] NAME=VALUE`, the value perhaps in quotes or with a comment after it.
fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    let (name, value) = (name.trim(), value.trim());
    let quoted = |quote: char| {
        value
            .strip_prefix(quote)
            .and_then(|rest| rest.split_once(quote))
            .map(|(inner, _)| inner)
    };
    let plain = || value.split(" #").next().unwrap_or_default().trim();
    Some((name, quoted('"').or_else(|| quoted('\'')).unwrap_or_else(plain)))
}

const NAMES: &[&str] = &[
    ".env",
    ".env.local",
    ".env.development",
    ".env.development.local",
    ".env.test",
    ".env.staging",
    ".env.production",
    ".env.production.local",
    ".envrc",
];

const KEPT_BACK: &str =
    "`keyferry run` keeps it from the command; to have it injected, add a secret and a rule for its host";
const IN_ENV_FILE: &str =
    "no preset knows it: store it with `keyferry secret set`, add a rule for its host, and delete the line";
