//! Logins: where tokens are kept from the agent, and where they may be used.

use super::expand::Expanded;
use super::scope::{Names, Scope, name_is_fit};
use super::slots::slot;
use crate::config::leaf::Text;
use crate::config::looks::shown;
use crate::config::model::{Capture, Inject, Place as Slot};
use crate::config::raw::{RawCapture, RawInject};
use crate::config::read::Findings;
use http::header::AUTHORIZATION;
use std::collections::HashSet;

/// What the replies of token endpoints have: RFC 6749 §5.1, OpenID Connect Core §3.1.3.3, RFC 8628 §3.2. A device code is
/// as good as the token that it is exchanged for.
const TOKENS: [&str; 4] = ["access_token", "refresh_token", "id_token", "device_code"];

/// What a request for the end of a token calls it (RFC 7009 §2.1).
const REVOKED: &str = "token";

/// The logins that rules capture.
pub(super) fn names(expanded: &[Expanded<'_>]) -> Names {
    let mut names = Names::default();
    for capture in expanded.iter().filter_map(|each| each.rule.capture.as_ref()) {
        names.add(&capture.login);
    }
    names
}

/// Checks one `capture`.
pub(super) fn check(raw: &RawCapture, found: &mut Findings<'_>) -> Option<Capture> {
    name_is_fit(&raw.login, "a login", found);
    let tokens: Vec<String> = match &raw.tokens {
        None => TOKENS.iter().map(ToString::to_string).collect(),
        Some(written) => {
            if written.0.is_empty() {
                found
                    .error(written.at, "an empty list keeps nothing from the agent")
                    .hint("name the fields that hold a token, or take the key out");
                return None;
            }
            let fit: Vec<_> = written.0.iter().filter(|name| field_is_fit(name, found)).collect();
            if fit.len() < written.0.len() {
                return None;
            }
            fit.into_iter().map(|name| name.value.clone()).collect()
        }
    };
    (!raw.bad).then(|| Capture {
        login: raw.login.as_str().into(),
        tokens,
        keep: raw.keep.as_ref().is_some_and(|keep| keep.value),
    })
}

fn field_is_fit(name: &Text, found: &mut Findings<'_>) -> bool {
    const LONGEST: usize = 64;
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_fit = !name.is_empty() && name.len() <= LONGEST && name.chars().all(fit);
    if !is_fit {
        found
            .error(
                name.at,
                format!("`{}` is no field of a token endpoint's reply", shown(name)),
            )
            .hint("write the field's name, such as `access_token`");
    }
    is_fit
}

/// Where a token endpoint takes what it has given: each in a field of its own name, or in that of a revocation.
pub(super) fn given_back(capture: &Capture) -> Inject {
    let mut seen = HashSet::new();
    let names = capture.tokens.iter().map(String::as_str).chain([REVOKED]);
    let places = names.filter(|name| seen.insert(*name));
    Inject::Login {
        login: capture.login.clone(),
        places: places.map(|name| Slot::Body(format!("/{name}"))).collect(),
    }
}

/// Reads `login` of an injection.
pub(super) fn login(raw: &RawInject, name: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Inject> {
    let known = scope.logins.find(name);
    if known.is_none() {
        let add = "a rule for the token endpoint brings it: `capture: { login: NAME }`";
        found.unknown(name.at, "login", name, scope.logins.iter(), add);
    }
    let places = match &raw.places {
        None => vec![Slot::Header(AUTHORIZATION)],
        Some(written) => {
            let places: Vec<_> = written.0.iter().filter_map(|text| place(text, found)).collect();
            if places.len() < written.0.len() || places.is_empty() {
                return None;
            }
            places
        }
    };
    known?;
    scope.used_logins.insert(name.value.clone());
    Some(Inject::Login {
        login: name.as_str().into(),
        places,
    })
}

fn place(text: &Text, found: &mut Findings<'_>) -> Option<Slot> {
    match slot(text, found)? {
        fit @ (Slot::Header(_) | Slot::Body(_)) => Some(fit),
        Slot::Query(_) | Slot::Path | Slot::WebSocket => {
            found
                .error(text.at, "the tokens of a login are swapped in headers and bodies alone")
                .hint("write `header:NAME` or `body:/POINTER`");
            None
        }
    }
}

/// Warns of logins whose tokens can be used nowhere.
pub(super) fn unused(expanded: &[Expanded<'_>], scope: &Scope<'_>, found: &mut Findings<'_>) {
    for capture in expanded.iter().filter_map(|each| each.rule.capture.as_ref()) {
        if !scope.used_logins.contains(&capture.login.value) {
            let message = format!("no rule takes the tokens of login `{}`", shown(&capture.login));
            found
                .warn(capture.login.at, message)
                .hint("add `inject: [{ login: NAME }]` to the rule for the API that they are for");
        }
    }
}
