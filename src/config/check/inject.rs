//! Injections: one credential each, and no two in one place.

use super::capture;
use super::mint::{Written, document};
use super::scope::Scope;
use super::sigv4;
use super::slots::{cookie, header, query, slot};
use super::{hmac, secrets};
use crate::base::ids::SecretId;
use crate::base::template::{BadTemplate, Template};
use crate::config::leaf::{At, Many, Text};
use crate::config::looks::looks_secret;
use crate::config::mint::Mint;
use crate::config::model::{Inject, Mtls, Place as Slot, SecretSpec, Source};
use crate::config::program::Program;
use crate::config::raw::{RawBasic, RawInject, RawMtls, RawProgram};
use crate::config::read::Findings;
use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Checks a rule's injections.
pub(super) fn all(many: &At<Many<RawInject>>, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Vec<Inject>> {
    let mut taken: HashMap<String, Vec<Option<Sharer>>> = HashMap::new();
    let mut injected = Vec::new();
    for raw in &many.0 {
        let Some(inject) = one(raw, scope, found) else { continue };
        for (place, shared_by) in written_places(&inject) {
            let there = taken.entry(place.clone()).or_default();
            if there
                .iter()
                .any(|other| shared_by.is_none() || other.is_none() || *other == shared_by)
            {
                found
                    .error(raw.at, format!("two injections into {place} on one rule"))
                    .hint("keep one of them");
            }
            there.push(shared_by);
        }
        injected.push(inject);
    }
    let whole = |one: &Inject| matches!(one, Inject::Header { name, .. } if *name == COOKIE);
    if injected.iter().any(whole) && injected.iter().any(|one| matches!(one, Inject::Cookie { .. })) {
        found
            .error(many.at, "`header: cookie` is all cookies, and a `cookie` one of them")
            .hint("write each as a `cookie`");
    }
    (injected.len() == many.0.len()).then_some(injected)
}

fn one(raw: &RawInject, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Inject> {
    strays(raw, found);
    let minted = Written::of_inject(raw);
    let given = [
        raw.bearer.is_some(),
        raw.basic.is_some(),
        raw.header.is_some(),
        raw.query.is_some(),
        raw.cookie.is_some(),
        raw.hmac.is_some(),
        raw.sigv4.is_some(),
        raw.mtls.is_some(),
        raw.exec.is_some(),
        raw.placeholder.is_some(),
        raw.login.is_some(),
    ];
    match given.iter().filter(|given| **given).count() + minted.given().count() {
        1 => {}
        _ if raw.bad => return None,
        0 => {
            found
                .error(raw.at, "nothing says what to inject")
                .hint("add one of `bearer`, `basic`, `header`, `query`, `cookie`, `hmac`, `sigv4`, `mtls`, `exec`, `placeholder`, `login`, `oauth2`, `jwt`, `github_app`, `gcp` and `azure`");
            return None;
        }
        _ => {
            found
                .error(raw.at, "one injection puts one credential in one place")
                .hint("begin another item with `- ` for the other");
            return None;
        }
    }
    chosen(raw, minted, scope, found)
}

/// The one that is given.
fn chosen(raw: &RawInject, minted: Written<'_>, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Inject> {
    if let Some(kind) = minted.given().next() {
        return minted.mint(scope, found).map(|mint| implied(kind, mint, scope));
    }
    if let Some(secret) = &raw.bearer {
        return injected(secret, scope, found).map(Inject::Bearer);
    }
    if let Some(raw) = &raw.basic {
        return basic(raw, scope, found);
    }
    if let Some(raw) = &raw.sigv4 {
        return sigv4::keys(raw, scope, found).map(|keys| Inject::SigV4(Box::new(keys)));
    }
    if let Some(raw) = &raw.exec {
        return program(raw, scope, found);
    }
    if let Some(raw) = &raw.mtls {
        return mtls(raw, scope, found);
    }
    if let Some(name) = &raw.header {
        let (name, value) = (header(name, name, found), value(raw, name, scope, found));
        return Some(Inject::Header {
            name: name?,
            value: value?,
        });
    }
    if let Some(name) = &raw.query {
        let (name, value) = (query(name, name, found), value(raw, name, scope, found));
        return Some(Inject::Query {
            name: name?,
            value: value?,
        });
    }
    if let Some(name) = &raw.cookie {
        let (name, value) = (cookie(name, found), value(raw, name, scope, found));
        return Some(Inject::Cookie {
            name: name?,
            value: value?,
        });
    }
    if let Some(raw) = &raw.hmac {
        return hmac::check(raw, scope, found).map(|spec| Inject::Hmac(Box::new(spec)));
    }
    if let Some(name) = &raw.login {
        return capture::login(raw, name, scope, found);
    }
    placeholder(raw, raw.placeholder.as_ref()?, scope, found)
}

/// A token that a rule has minted for itself: a secret that no other can name.
fn implied(kind: &str, mint: Mint, scope: &mut Scope<'_>) -> Inject {
    let name = format!("{}/{kind}", scope.rule);
    let id = SecretId(scope.secrets.add(&name));
    scope.used.insert(id);
    scope.injected.insert(id);
    scope.implicit.push(SecretSpec {
        name: name.into(),
        source: Source::Minted(Box::new(mint)),
        document: false,
        field: None,
        placeholder: None,
        agent_env: Vec::new(),
    });
    Inject::Bearer(id)
}

/// `value` and `in` where they mean nothing.
fn strays(raw: &RawInject, found: &mut Findings<'_>) {
    if raw.bad {
        return;
    }
    if let Some(value) = raw
        .value
        .as_ref()
        .filter(|_| raw.header.is_none() && raw.query.is_none() && raw.cookie.is_none())
    {
        found
            .error(value.at, "`value` goes with `header`, `query` or `cookie`")
            .hint("take it out");
    }
    if let Some(places) = raw
        .places
        .as_ref()
        .filter(|_| raw.placeholder.is_none() && raw.login.is_none())
    {
        found
            .error(places.at, "`in` goes with `placeholder` or `login`")
            .hint("take it out");
    }
}

/// The secret of that name, which is then given to a host.
pub(super) fn injected(name: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<SecretId> {
    let id = scope.secret(name, found)?;
    scope.injected.insert(id);
    Some(id)
}

fn basic(raw: &RawBasic, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Inject> {
    let mut fit = true;
    // RFC 7617 §2: the first colon ends the user name.
    if raw.user.contains(':') || raw.user.chars().any(char::is_control) {
        found
            .error(raw.user.at, "a user name holds no colon and no control character")
            .hint("the password goes under `password`, as a secret's name");
        fit = false;
    } else if looks_secret(&raw.user) {
        literal(&raw.user, found);
        fit = false;
    }
    let password = injected(&raw.password, scope, found)?;
    fit.then(|| Inject::Basic {
        user: raw.user.value.clone(),
        password,
    })
}

fn program(raw: &RawProgram, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Inject> {
    let argv = secrets::command(&raw.command, scope, found);
    let concurrent = raw.concurrent.as_ref().map_or(4, |number| number.value);
    if !(1..=64).contains(&concurrent) {
        let at = raw.concurrent.as_ref().map_or(raw.at, |number| number.at);
        found.error(at, "from 1 to 64 may run at one time");
        return None;
    }
    Some(Inject::Program(Program {
        argv: argv?,
        timeout: raw.timeout.as_ref().map_or(secrets::EXEC_TIMEOUT, |time| time.0),
        concurrent: usize::try_from(concurrent).ok()?,
    }))
}

fn mtls(raw: &RawMtls, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Inject> {
    let certificate = document(&raw.certificate, scope, found);
    let key = raw.private_key.as_ref().unwrap_or(&raw.certificate);
    let private_key = document(key, scope, found)?.id;
    Some(Inject::Mtls(Mtls {
        certificate: certificate?.id,
        private_key,
    }))
}

fn placeholder(raw: &RawInject, secret: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Inject> {
    let id = injected(secret, scope, found);
    let Some(written) = raw.places.as_ref().filter(|p| !p.0.is_empty()) else {
        if !raw.bad {
            found
                .error(raw.at, "`placeholder` needs `in`: where it may stand")
                .hint("add `in: [\"header:authorization\"]`");
        }
        return None;
    };
    let places: Vec<Slot> = written.0.iter().filter_map(|text| slot(text, found)).collect();
    let fit = places.len() == written.0.len();
    let secret = id?;
    fit.then_some(Inject::Placeholder { secret, places })
}

fn value(raw: &RawInject, name: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Template> {
    let Some(text) = &raw.value else {
        if !raw.bad {
            found
                .error(name.at, format!("nothing says what goes into `{}`", name.value))
                .hint("add `value: \"${SECRET}\"`");
        }
        return None;
    };
    if looks_secret(text) {
        literal(text, found);
        return None;
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        found
            .error(text.at, "expected one line of text")
            .hint("write it like `value: \"${SECRET}\"`");
        return None;
    }
    template(text, scope, found)
}

/// A credential written out: it would be in every copy of the file, so it is refused.
pub(super) fn literal(text: &Text, found: &mut Findings<'_>) {
    found
        .error(
            text.at,
            "this looks like a credential, and none is ever written in the config",
        )
        .hint("move it to the environment, a file or the store, name it under `secrets`, and write `${NAME}` here");
}

fn template(text: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Template> {
    let cell = RefCell::new(scope);
    let parsed = Template::parse(text, |name| cell.borrow_mut().find_secret(name));
    let scope = cell.into_inner();
    match parsed {
        Ok(template) => {
            scope.injected.extend(template.secrets());
            Some(template)
        }
        Err(BadTemplate::Unknown(name)) => {
            let place = text
                .at
                .narrowed(found.text, &format!("${{{name}}}"))
                .narrowed(found.text, &name);
            scope.unknown_secret(place, &name, found);
            None
        }
        Err(why @ BadTemplate::Open) => {
            let place = text.at.narrowed(found.text, "${");
            found
                .error(place, why.to_string())
                .hint("write `${NAME}`, or `$$` for a dollar sign");
            None
        }
    }
}

/// What may share a place with others of its kind, but not with itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sharer {
    Secret(SecretId),
    Login(Arc<str>),
}

/// What an injection writes to, in words. A placeholder's place may be shared, but not by the same
/// secret again: the header that carries a user name may carry a password too.
fn written_places(inject: &Inject) -> Vec<(String, Option<Sharer>)> {
    let header = |name: &HeaderName| format!("header `{name}`");
    let cookie = |name: &String| format!("cookie `{name}`");
    let query = |name: &String| format!("query parameter `{name}`");
    let place = |place: &Slot| match place {
        Slot::Header(name) => header(name),
        Slot::Query(name) => query(name),
        Slot::Path => "the path".to_owned(),
        Slot::Body(pointer) => format!("body field `{pointer}`"),
        Slot::WebSocket => "WebSocket messages".to_owned(),
    };
    match inject {
        Inject::Bearer(_) | Inject::Basic { .. } | Inject::SigV4(_) => vec![(header(&AUTHORIZATION), None)],
        Inject::Program(_) => vec![("whatever a program answers".to_owned(), None)],
        Inject::Mtls(_) => vec![("the TLS handshake".to_owned(), None)],
        Inject::Header { name, .. } => vec![(header(name), None)],
        Inject::Query { name, .. } => vec![(query(name), None)],
        Inject::Cookie { name, .. } => vec![(cookie(name), None)],
        Inject::Hmac(spec) => spec.headers.iter().map(|(name, _)| (header(name), None)).collect(),
        Inject::Placeholder { secret, places } => {
            let sharer = Sharer::Secret(*secret);
            places.iter().map(|at| (place(at), Some(sharer.clone()))).collect()
        }
        Inject::Login { login, places } => {
            let sharer = Sharer::Login(Arc::clone(login));
            places.iter().map(|at| (place(at), Some(sharer.clone()))).collect()
        }
    }
}
