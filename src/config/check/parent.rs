//! Parent proxies: where they are, what they are shown, what does not go through them.

use super::scope::Scope;
use super::upstream::network;
use crate::base::glob::HostPattern;
use crate::base::host::Target;
use crate::config::leaf::{Many, Text};
use crate::config::looks::shown;
use crate::config::parent::{Except, Parent, Speaks, Via};
use crate::config::place::Place;
use crate::config::raw::RawRule;
use crate::config::read::Findings;
use std::sync::Arc;

/// What a rule says of its way out; without a word of its own, `upstream` has it.
pub(super) fn via(raw: &RawRule, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Via> {
    match &raw.parent {
        Some(none) if none.value == "none" => {
            alone(raw.parent_auth.as_ref(), found);
            Some(Via::Direct)
        }
        written => match parent(written.as_ref(), raw.parent_auth.as_ref(), scope, found)? {
            Some(parent) => Some(Via::Parent(parent)),
            None => Some(Via::Default),
        },
    }
}

/// Reads a parent and what it is shown.
#[expect(clippy::option_option, reason = "outer: fit to be used; inner: given")]
pub(super) fn parent(
    written: Option<&Text>,
    auth: Option<&Text>,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Option<Arc<Parent>>> {
    let login = match auth {
        Some(auth) => scope.secret(auth, found).map(Some),
        None => Some(None),
    };
    let Some(written) = written else {
        alone(auth, found);
        return Some(None);
    };
    let (speaks, address) = url(written, found)?;
    Some(Some(Arc::new(Parent {
        speaks,
        address,
        login: login?,
    })))
}

fn alone(auth: Option<&Text>, found: &mut Findings<'_>) {
    if let Some(auth) = auth {
        found
            .error(auth.at, "`parent_auth` goes with a `parent`")
            .hint("name the parent beside it, or take it out");
    }
}

fn url(text: &Text, found: &mut Findings<'_>) -> Option<(Speaks, Target)> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let speaks = match scheme {
        "http" => Some(Speaks::Http),
        "https" => Some(Speaks::Https),
        "socks5" | "socks5h" => Some(Speaks::Socks5),
        _ => None,
    };
    if rest.contains('@') {
        // Nothing of it is shown: it holds a password.
        found
            .error(text.at, "a parent's user and password do not belong in the config")
            .hint("put `user:password` in a secret, and name it in `parent_auth`");
        return None;
    }
    let address = Target::parse(rest.strip_suffix('/').unwrap_or(rest), None).ok();
    if let (Some(speaks), Some(address)) = (speaks, address) {
        return Some((speaks, address));
    }
    found
        .error(text.at, format!("`{}` is no parent proxy", shown(text)))
        .hint("write it with its port, like `http://proxy.example:3128`, `https://…` or `socks5://…`");
    None
}

/// Reads what does not go through the parent: host patterns and networks.
pub(super) fn except(
    raw: Option<&Many<Text>>,
    parent: bool,
    place: Place,
    found: &mut Findings<'_>,
) -> Option<Vec<Except>> {
    let raw = raw.map_or(&[][..], |many| &many.0);
    if !raw.is_empty() && !parent {
        found
            .error(place, "`parent_except` goes with `parent`")
            .hint("name the parent beside it, or take it out");
    }
    let read = |text: &Text, found: &mut Findings<'_>| {
        if text.contains('/') {
            return network(text, found).map(Except::Network);
        }
        let pattern = HostPattern::parse(text);
        if let Err(why) = &pattern {
            found
                .error(
                    text.at,
                    format!("`{}` is neither a host pattern nor a network: {why}", shown(text)),
                )
                .hint("write it like `internal.example`, `*.internal.example` or `10.0.0.0/8`");
        }
        pattern.ok().map(Except::Host)
    };
    let except: Vec<Except> = raw.iter().filter_map(|text| read(text, found)).collect();
    (except.len() == raw.len()).then_some(except)
}
