//! Items of 1Password, by a Connect server or by its program.

use super::super::mint::{endpoint, uses};
use super::super::scope::Scope;
use super::Common;
use crate::config::kept::{Kept, OnePassword, OnePasswordBy, Place};
use crate::config::leaf::Text;
use crate::config::raw_kept::{RawOnePassword, RawOnePasswordItem};
use crate::config::read::Findings;

/// Reads one.
pub(super) fn item(
    raw: &RawOnePasswordItem,
    account: Option<&RawOnePassword>,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Kept> {
    let Some(account) = account else {
        found
            .error(raw.at, "nothing says how 1Password is asked")
            .hint("add `onepassword: { connect: https://connect.example.com, token: SECRET }` at the top");
        return None;
    };
    let by = by(account, scope, found);
    let (vault, item) = (title(&raw.vault, found), title(&raw.item, found));
    let section = match &raw.section {
        Some(text) => Some(title(text, found)?),
        None => None,
    };
    let field = match &raw.field {
        Some(text) => title(text, found)?,
        None => "credential".to_owned(),
    };
    let place = OnePassword {
        by: by?,
        vault: vault?,
        item: item?,
        section,
        field,
    };
    let common = Common {
        field: None,
        ttl: raw.ttl.as_ref(),
        grace: raw.grace.as_ref(),
        timeout: account.timeout.as_ref(),
    };
    common.kept(Place::OnePassword(Box::new(place)), found)
}

/// A title that stands in a filter and in a reference as it is.
fn title(text: &Text, found: &mut Findings<'_>) -> Option<String> {
    let odd = |c: char| c.is_control() || matches!(c, '"' | '\\' | '/' | '?' | '#' | '&');
    if text.is_empty() || text.len() > 256 || text.chars().any(odd) {
        found
            .error(text.at, "expected a title, or an id")
            .hint("what has quotes, slashes or other signs of a URL in its title is named by its id");
        return None;
    }
    Some(text.value.clone())
}

fn by(account: &RawOnePassword, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<OnePasswordBy> {
    match (
        &account.connect,
        &account.token,
        &account.service_account,
        &account.program,
    ) {
        (Some(at), Some(token), None, None) => {
            let (at, token) = (endpoint(at, found), uses(token, scope, found));
            Some(OnePasswordBy::Connect { at: at?, token: token? })
        }
        (None, None, Some(token), program) => {
            let program = match program.as_ref().map(|program| (program, program.contains('/'))) {
                Some((program, true)) => scope.path(program, found)?.into_os_string().into_string().ok()?,
                Some((program, false)) => super::super::mint::word(program, found)?,
                None => "op".to_owned(),
            };
            let token = uses(token, scope, found)?;
            Some(OnePasswordBy::Program { program, token })
        }
        _ if account.bad => None,
        _ => {
            found
                .error(
                    account.at,
                    "`onepassword` wants `connect` with `token`, or `service_account`",
                )
                .hint("add `service_account: SECRET` to have `op` asked");
            None
        }
    }
}
