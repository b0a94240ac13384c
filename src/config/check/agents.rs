//! Agents and what proves them.

use super::certificates;
use super::scope::{Scope, name_is_fit};
use super::upstream::networks;
use crate::config::leaf::{At, Text};
use crate::config::model::{AgentSpec, Proof};
use crate::config::raw::RawAgent;
use crate::config::read::Findings;
use std::collections::HashMap;
use std::sync::Arc;

/// The one agent there is when none is configured.
const DEFAULT: &str = "default";

/// Makes the names known before anything refers to them.
pub(super) fn names(raw: &[(Text, Option<RawAgent>)], scope: &mut Scope<'_>, found: &mut Findings<'_>) {
    for (name, _) in raw {
        name_is_fit(name, "an agent", found);
        scope.agents.add(name);
    }
    if raw.is_empty() {
        scope.agents.add(DEFAULT);
    }
}

/// Checks every agent; no two may have the same proof, or an ask could be either's.
pub(super) fn check(
    raw: &[(Text, Option<RawAgent>)],
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Vec<AgentSpec>> {
    if raw.is_empty() {
        return Some(vec![AgentSpec {
            name: DEFAULT.into(),
            proofs: Vec::new(),
        }]);
    }
    let mut owners: HashMap<String, Arc<str>> = HashMap::new();
    let mut agents = Vec::new();
    for (name, agent) in raw {
        let Some(proofs) = agent.as_ref().and_then(|a| proofs(name, a, scope, found)) else {
            continue;
        };
        for proof in &proofs {
            let owner = owners
                .entry(format!("{proof:?}"))
                .or_insert_with(|| name.as_str().into());
            if **owner != *name.value {
                found
                    .error(
                        name.at,
                        format!("agents `{owner}` and `{}` show the same proof", name.value),
                    )
                    .hint("give each agent a proof of its own");
            }
        }
        agents.push(AgentSpec {
            name: name.as_str().into(),
            proofs,
        });
    }
    (agents.len() == raw.len()).then_some(agents)
}

fn proofs(name: &Text, raw: &RawAgent, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Vec<Proof>> {
    let mut proofs = Vec::new();
    let mut fit = !raw.bad;
    if let Some(token) = &raw.token {
        match scope.secret(token, found) {
            Some(id) => proofs.push(Proof::Token(id)),
            None => fit = false,
        }
    }
    if let Some(hash) = &raw.token_sha256 {
        match sha256(hash) {
            Some(hash) => proofs.push(Proof::TokenHash(hash)),
            None => {
                found
                    .error(hash.at, "expected 64 hexadecimal digits")
                    .hint("`printf %s TOKEN | sha256sum` prints them");
                fit = false;
            }
        }
    }
    proofs.extend(raw.peer_uid.as_ref().map(|uid| Proof::PeerUid(uid.value)));
    match raw.vsock_cid.as_ref().map(|cid| vsock_cid(cid, found)) {
        Some(None) => fit = false,
        cid => proofs.extend(cid.flatten().map(Proof::VsockCid)),
    }
    match networks(raw.address.as_ref(), found) {
        Some(networks) => proofs.extend(networks.into_iter().map(Proof::Address)),
        None => fit = false,
    }
    for certificate in raw.client_certificate.iter().flat_map(|many| &many.0) {
        match certificates::one(certificate, scope, found) {
            Some(proof) => proofs.push(Proof::Certificate(proof)),
            None => fit = false,
        }
    }
    if proofs.is_empty() && fit {
        found
            .error(name.at, format!("nothing proves that an agent is `{}`", name.value))
            .hint("add `token`, `token_sha256`, `peer_uid`, `vsock_cid`, `address` or `client_certificate`");
        fit = false;
    }
    fit.then_some(proofs)
}

/// Below 3 and at the top stand ids that are no machine's own (vsock(7)).
fn vsock_cid(cid: &At<u32>, found: &mut Findings<'_>) -> Option<u32> {
    let whose = match cid.value {
        0 => "CID 0 is the hypervisor itself",
        1 => "CID 1 is loopback: every program on this machine has it",
        2 => "CID 2 is the host: every program on it has it",
        u32::MAX => "CID 4294967295 stands for any",
        own => return Some(own),
    };
    found
        .error(cid.at, format!("{whose}, not one virtual machine"))
        .hint("use the CID that the virtual machine was started with, 3 or above");
    None
}

/// 64 hexadecimal digits; `openssl` parts them by colons.
pub(super) fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let text = text.replace(':', "");
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}
