//! Signatures as AWS has them: whose, and for which region and service.

use super::inject::injected;
use super::scope::Scope;
use crate::base::aws_host;
use crate::config::leaf::{At, Many, Text};
use crate::config::model::{Inject, SigV4};
use crate::config::raw::RawSigV4;
use crate::config::read::Findings;

/// Reads the keys of one signature.
pub(super) fn keys(raw: &RawSigV4, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<SigV4> {
    let unsigned = match raw.payload.as_ref().map(|text| text.as_str()) {
        None | Some("signed") => Some(false),
        Some("unsigned") => Some(true),
        Some(_) => {
            let at = raw.payload.as_ref().map_or(raw.at, |text| text.at);
            found.error(at, "expected `signed` or `unsigned`");
            None
        }
    };
    let (region, service) = (word(raw.region.as_ref(), found), word(raw.service.as_ref(), found));
    let access_key_id = injected(&raw.access_key_id, scope, found);
    let secret_access_key = injected(&raw.secret_access_key, scope, found);
    let session_token = match &raw.session_token {
        Some(name) if !scope.does_without(name) => injected(name, scope, found).map(Some),
        _ => Some(None),
    };
    Some(SigV4 {
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token: session_token?,
        region: region?,
        service: service?,
        unsigned: unsigned?,
    })
}

/// A region or a service; the inner `None` is one that is not given.
fn word(text: Option<&Text>, found: &mut Findings<'_>) -> Option<Option<String>> {
    let Some(text) = text else { return Some(None) };
    let fit = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.is_empty() || text.len() > 64 || !text.chars().all(fit) {
        found
            .error(text.at, "expected the name of a region or service")
            .hint("write it as AWS has it, such as `eu-west-1` or `s3`");
        return None;
    }
    Some(Some(text.value.clone()))
}

/// Tells of hosts whose names say nothing of a region and service, where the rule says nothing either.
pub(super) fn placed(hosts: &At<Many<Text>>, inject: &[Inject], found: &mut Findings<'_>) {
    let open = |one: &Inject| matches!(one, Inject::SigV4(keys) if keys.region.is_none() || keys.service.is_none());
    if !inject.iter().any(open) {
        return;
    }
    for host in &hosts.0 {
        let name = host.split(':').next().unwrap_or_default();
        if !aws_host::is_known(&name.to_ascii_lowercase()) {
            found
                .error(
                    host.at,
                    "the host's name does not say for which region and service to sign",
                )
                .hint("add `region: …` and `service: …` under `sigv4`");
        }
    }
}
