//! Signatures as AWS has them: whose, and for which region and service.

use super::inject::injected;
use super::scope::Scope;
use super::session::{Whose, parts};
use crate::base::aws_host;
use crate::base::ids::SecretId;
use crate::config::aws::AwsKeys;
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
    // A set of regions has commas and stars: then the signature is of version 4A.
    let (region, service) = (
        word(raw.region.as_ref(), "-*,", found),
        word(raw.service.as_ref(), "-", found),
    );
    let (access_key_id, secret_access_key, session_token) = whose(raw, scope, found)?;
    Some(SigV4 {
        access_key_id,
        secret_access_key,
        session_token,
        region: region?,
        service: service?,
        unsigned: unsigned?,
    })
}

/// The secrets that are the key's id, the key, and the token.
fn whose(
    raw: &RawSigV4,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<(SecretId, SecretId, Option<SecretId>)> {
    let whose = Whose {
        section: "`sigv4`",
        at: raw.at,
        bad: raw.bad,
        from: raw.from.as_ref(),
        id: raw.access_key_id.as_ref(),
        secret: raw.secret_access_key.as_ref(),
        token: raw.session_token.as_ref(),
        role: raw.assume_role.as_ref(),
        external_id: raw.external_id.as_ref(),
        timeout: None,
    };
    if whose.is_session() {
        let AwsKeys::Session(whole) = whose.keys(scope, found)? else {
            return None;
        };
        let [id, secret, token] = parts(&whole, scope);
        return Some((id.id, secret.id, Some(token.id)));
    }
    let (Some(id), Some(secret)) = (&raw.access_key_id, &raw.secret_access_key) else {
        if !raw.bad {
            found
                .error(
                    raw.at,
                    "`sigv4` wants `access_key_id` and `secret_access_key`, or `from`",
                )
                .hint("name a secret under each; `from: instance` takes the credentials of this machine's role");
        }
        return None;
    };
    let (id, secret) = (injected(id, scope, found), injected(secret, scope, found));
    let token = match &raw.session_token {
        Some(name) if !scope.does_without(name) => Some(injected(name, scope, found)?),
        _ => None,
    };
    Some((id?, secret?, token))
}

/// A region or a service; the inner `None` is one that is not given.
fn word(text: Option<&Text>, signs: &str, found: &mut Findings<'_>) -> Option<Option<String>> {
    let Some(text) = text else { return Some(None) };
    let fit = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
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
