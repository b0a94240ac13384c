//! What clients are pointed at: the CA alone, the CA with all that was trusted before, and the same
//! for Java.

use super::Error;
use super::authority::Authority;
use super::certificate::{chain_from_pem, to_pem};
use super::{files, pkcs12};
use rustls::pki_types::CertificateDer;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Where distributions keep the roots that programs on them trust, the usual ones first.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// For systems with a folder of single files only.
const SYSTEM_FOLDER: &str = "/etc/ssl/certs";

/// Trust files in a folder.
#[derive(Debug, Clone)]
pub struct Bundle {
    ca: PathBuf,
    bundle: PathBuf,
    truststore: PathBuf,
    others: usize,
}

impl Bundle {
    /// Writes the trust files into `dir`, which is made if need be: each whole or not at all, readable
    /// by everyone. `callers_own` is the caller's `SSL_CERT_FILE`; what it trusts stays trusted.
    ///
    /// # Errors
    /// When a file cannot be written, or `callers_own` names one that cannot be read or holds no
    /// certificate: leaving it out in silence would break the very hosts it was set for.
    pub fn write(dir: &Path, authority: &Authority, callers_own: Option<&Path>) -> Result<Self, Error> {
        let ours = authority.certificate_der();
        let mut seen = HashSet::from([ours.clone()]);
        let mut others = match callers_own {
            Some(path) => callers(path)?,
            None => Vec::new(),
        };
        others.extend(system_roots());
        others.retain(|certificate| seen.insert(certificate.clone()));

        files::folder(dir, 0o755)?;
        let bundle = Self {
            ca: dir.join("ca.pem"),
            bundle: dir.join("bundle.pem"),
            truststore: dir.join("truststore.p12"),
            others: others.len(),
        };
        let all = || std::iter::once(ours).chain(&others);
        let alias = |at: usize| match at {
            0 => "keyferry".to_owned(),
            at => format!("root-{at}"),
        };
        let merged: String = all().map(|certificate| to_pem(certificate)).collect();
        let store = pkcs12::trust_store(all().enumerate().map(|(at, certificate)| (alias(at), certificate)));
        files::replace(&bundle.ca, 0o644, authority.certificate_pem().as_bytes())?;
        files::replace(&bundle.bundle, 0o644, merged.as_bytes())?;
        files::replace(&bundle.truststore, 0o644, &store)?;
        Ok(bundle)
    }

    /// Only this CA, PEM: for settings that add to what is trusted (`NODE_EXTRA_CA_CERTS`, `DENO_CERT`).
    pub fn ca_pem(&self) -> &Path {
        &self.ca
    }

    /// This CA, the caller's own and the system's roots, PEM: for settings that replace what is
    /// trusted (`SSL_CERT_FILE`, `CURL_CA_BUNDLE`, `GIT_SSL_CAINFO` and most others).
    pub fn bundle_pem(&self) -> &Path {
        &self.bundle
    }

    /// The same as [`bundle_pem`](Self::bundle_pem), as PKCS#12 for `-Djavax.net.ssl.trustStore`.
    pub fn truststore_p12(&self) -> &Path {
        &self.truststore
    }

    /// How many certificates besides this CA's are in it. With none, hosts that are tunnelled and
    /// not intercepted will not verify: worth a warning.
    pub fn other_roots(&self) -> usize {
        self.others
    }
}

/// A trust store with this CA alone, as PKCS#12.
pub fn p12(authority: &Authority) -> Vec<u8> {
    pkcs12::trust_store(std::iter::once(("keyferry".to_owned(), authority.certificate_der())))
}

/// This CA and the system's roots, PEM.
pub fn pem(authority: &Authority) -> String {
    let ours = authority.certificate_der();
    let others = system_roots();
    let others = others.iter().filter(|other| *other != ours);
    std::iter::once(ours).chain(others).map(|one| to_pem(one)).collect()
}

fn callers(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let what = "the trust file that SSL_CERT_FILE names (unset it, or let it name a PEM file),";
    let pem = files::read(what, path)?.ok_or_else(|| Error::Read {
        what,
        path: path.into(),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    chain_from_pem(path, &pem)
}

/// The system's roots, without those that cannot be parsed. The environment has no say here: what it
/// names was read before.
fn system_roots() -> Vec<CertificateDer<'static>> {
    let file = SYSTEM_BUNDLES.iter().map(Path::new).find(|file| file.is_file());
    let dir = file.is_none().then_some(Path::new(SYSTEM_FOLDER));
    rustls_native_certs::load_certs_from_paths(file, dir.filter(|dir| dir.is_dir())).certs
}
