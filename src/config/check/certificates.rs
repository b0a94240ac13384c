//! Client certificates that prove an agent: which one, or whose.

use super::agents::sha256;
use super::scope::Scope;
use crate::base::host::Host;
use crate::config::leaf::Text;
use crate::config::looks::shown;
use crate::config::model::{CertificateName, CertificateProof};
use crate::config::raw::RawCertificate;
use crate::config::read::Findings;

/// Checks one; it names a certificate in one way only.
pub(super) fn one(raw: &RawCertificate, scope: &Scope<'_>, found: &mut Findings<'_>) -> Option<CertificateProof> {
    let ca = match &raw.ca {
        Some(ca) => Some(scope.path(ca, found)?),
        None => None,
    };
    let name = match (&raw.dns, &raw.uri, &raw.sha256, &raw.public_key_sha256) {
        (Some(name), None, None, None) => dns(name, found),
        (None, Some(name), None, None) => uri(name, found),
        (None, None, Some(hash), None) if ca.is_none() => return pin(hash, found).map(CertificateProof::Fingerprint),
        (None, None, None, Some(hash)) if ca.is_none() => return pin(hash, found).map(CertificateProof::PublicKey),
        _ if raw.bad => return None,
        _ => {
            found
                .error(
                    raw.at,
                    "a certificate is named by `ca` with one of `dns` and `uri`, or by one hash alone",
                )
                .hint("write `{ ca: agents-ca.pem, dns: ci.agents.example }` or `{ sha256: … }`");
            return None;
        }
    };
    let Some(ca) = ca else {
        if !raw.bad {
            found
                .error(
                    raw.at,
                    "anyone can make a certificate with that name: it lacks the `ca` that vouches for it",
                )
                .hint("add `ca: agents-ca.pem`");
        }
        return None;
    };
    Some(CertificateProof::Named { ca, name: name? })
}

fn pin(text: &Text, found: &mut Findings<'_>) -> Option<[u8; 32]> {
    let hash = sha256(text);
    if hash.is_none() {
        found
            .error(text.at, "expected 64 hexadecimal digits, with or without colons")
            .hint("`openssl x509 -in cert.pem -noout -fingerprint -sha256` prints those of a certificate");
    }
    hash
}

fn dns(text: &Text, found: &mut Findings<'_>) -> Option<CertificateName> {
    match Host::parse(text) {
        Ok(Host::Name(name)) if !name.contains('*') => Some(CertificateName::Dns(name.to_string().into())),
        _ => {
            found
                .error(text.at, format!("`{}` is no DNS name of one agent", shown(text)))
                .hint("write the whole name, such as `ci.agents.example`");
            None
        }
    }
}

fn uri(text: &Text, found: &mut Findings<'_>) -> Option<CertificateName> {
    /// As long as a SPIFFE ID may be.
    const LONGEST: usize = 2048;
    let visible = text.bytes().all(|b| b.is_ascii_graphic());
    let parted = text
        .split_once(':')
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    if visible && parted && text.len() <= LONGEST {
        return Some(CertificateName::Uri(text.as_str().into()));
    }
    found
        .error(text.at, format!("`{}` is no URI", shown(text)))
        .hint("write it as the certificate has it, such as `spiffe://example.org/agent/ci`");
    None
}
