//! Client certificates: what was shown in a handshake, and whose it is.
//!
//! The handshake proves only that the client holds the key. Everything else is judged here, at each connection and
//! by the configuration in force: so nothing that TLS remembers from an earlier session can stand in for it, and a
//! reload holds for connections that are already open.

use super::Error;
use crate::config::model::{CertificateName, CertificateProof};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// The certificate a client proved to hold the key of, and what it sent along. Nothing in it has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    leaf: CertificateDer<'static>,
    rest: Box<[CertificateDer<'static>]>,
}

impl Shown {
    /// Takes the chain of a handshake, the client's own certificate first; `None` when it showed none.
    pub fn new(chain: Option<&[CertificateDer<'static>]>) -> Option<Self> {
        let (leaf, rest) = chain?.split_first()?;
        Some(Self {
            leaf: leaf.clone(),
            rest: rest.into(),
        })
    }
}

/// The CAs that vouch for agents, each read once.
#[derive(Debug, Default)]
pub(super) struct Authorities(Vec<(PathBuf, Arc<dyn ClientCertVerifier>)>);

/// One way to know an agent by its certificate.
#[derive(Debug)]
pub(super) enum Wanted {
    Fingerprint([u8; 32]),
    PublicKey([u8; 32]),
    /// The position of the CA, and the name.
    Named(usize, CertificateName),
}

/// What a certificate says and who vouches for it, worked out once for all agents.
pub(super) struct Judged<'c> {
    certificate: X509Certificate<'c>,
    fingerprint: [u8; 32],
    in_time: bool,
    /// For each CA, whether it vouches, or why not.
    vouched: Vec<Result<(), rustls::Error>>,
}

impl Authorities {
    /// What `proof` asks for; its CA is read unless it has been.
    pub(super) fn wanted(&mut self, proof: &CertificateProof) -> Result<Wanted, Error> {
        Ok(match proof {
            CertificateProof::Fingerprint(hash) => Wanted::Fingerprint(*hash),
            CertificateProof::PublicKey(hash) => Wanted::PublicKey(*hash),
            CertificateProof::Named { ca, name } => Wanted::Named(self.position(ca)?, name.clone()),
        })
    }

    fn position(&mut self, ca: &Path) -> Result<usize, Error> {
        if let Some(at) = self.0.iter().position(|(path, _)| path == ca) {
            return Ok(at);
        }
        self.0.push((ca.to_owned(), verifier(ca)?));
        Ok(self.0.len() - 1)
    }

    /// Judges what was shown at this moment; `None` when it is no certificate.
    pub(super) fn judge<'c>(&self, shown: &'c Shown) -> Option<Judged<'c>> {
        let (_, certificate) = X509Certificate::from_der(&shown.leaf).ok()?;
        let now = UnixTime::now();
        let vouched = self
            .0
            .iter()
            .map(|(_, ca)| ca.verify_client_cert(&shown.leaf, &shown.rest, now).map(drop));
        Some(Judged {
            fingerprint: hashed(&shown.leaf),
            in_time: certificate.validity().is_valid_at(ASN1Time::now()),
            vouched: vouched.collect(),
            certificate,
        })
    }
}

impl Judged<'_> {
    /// Whether it is the one, or one of those, that `wanted` speaks of.
    pub(super) fn fits(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Fingerprint(hash) => self.in_time && self.fingerprint == *hash,
            Wanted::PublicKey(hash) => self.in_time && hashed(self.certificate.public_key().raw) == *hash,
            Wanted::Named(ca, name) => self.vouched.get(*ca).is_some_and(Result::is_ok) && self.has(name),
        }
    }

    fn has(&self, wanted: &CertificateName) -> bool {
        // A certificate with the extension twice has no names (RFC 5280 §4.2).
        let Ok(Some(names)) = self.certificate.subject_alternative_name() else {
            return false;
        };
        names.value.general_names.iter().any(|name| match (name, wanted) {
            (GeneralName::DNSName(name), CertificateName::Dns(wanted)) => name.eq_ignore_ascii_case(wanted),
            (GeneralName::URI(name), CertificateName::Uri(wanted)) => **name == **wanted,
            _ => false,
        })
    }

    /// Why it is no agent's, for the operator.
    pub(super) fn reason(&self) -> String {
        let hash: String = self.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        let why = if !self.in_time {
            "it is expired, or not valid yet".to_owned()
        } else if self.vouched.iter().any(Result::is_ok) {
            "its CA vouches for it, but no agent has its names".to_owned()
        } else {
            match self.vouched.first() {
                Some(Err(error)) => format!("no agent has its hash, and no agent's CA vouches for it ({error})"),
                _ => "no agent has its hash".to_owned(),
            }
        };
        format!("client certificate {hash}: {why}")
    }
}

fn hashed(der: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, der).as_ref());
    hash
}

/// Verifies a chain up to one of the certificates in the file, for client authentication (RFC 5280 §4.2.1.12).
fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let unreadable = |why: &dyn std::fmt::Display| Error {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))? {
        let certificate = certificate.map_err(|e| unreadable(&e))?;
        roots.add(certificate).map_err(|e| unreadable(&e))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it holds no certificate"));
    }
    let provider = Arc::new(provider::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.build().map_err(|e| unreadable(&e))
}
