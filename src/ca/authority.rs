//! The CA itself: opens or makes it, and signs leaves. The only file that the CA's key reaches.

use super::Error;
use super::certificate::{
    Issuing, Unfit, chain_from_pem, date, draft, is_root, leaf_params, root_params, short, to_pem,
};
use super::files;
use crate::base::host::Host;
use crate::config::model::CaSource;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// The key with its certificate: written as one file, so that there is never one without the other.
const KEY_FILE: &str = "ca-key.pem";
/// The certificate by itself, for clients.
const CERTIFICATE_FILE: &str = "ca.pem";

/// A CA that is ready to mint.
///
/// Its key never leaves it: there is no way to read it, and `Debug` shows only the public part.
pub struct Authority {
    key: KeyPair,
    issuing: Issuing,
    /// Sent after every leaf: what a client that trusts only the root needs to get there.
    chain: Vec<CertificateDer<'static>>,
    anchor: CertificateDer<'static>,
    path: Option<PathBuf>,
    /// One key pair for all leaves of this process, never the CA's: a new one for each would make a
    /// mint twice as slow and hide nothing, since all would lie in the same memory.
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn rustls::sign::SigningKey>,
}

/// A minted leaf and how long it holds.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The chain to send and the key to sign with.
    pub certified: Arc<CertifiedKey>,
    /// When it begins to be valid.
    pub not_before: SystemTime,
    /// When it ceases to be.
    pub not_after: SystemTime,
}

impl Authority {
    /// Opens the CA that the config names, or makes one where it says so.
    ///
    /// # Errors
    /// When a file cannot be read or written, the key is open to other users, key and certificate
    /// are no pair, the certificate may not issue leaves, or its time is over or has not come.
    pub fn open(source: &CaSource) -> Result<Self, Error> {
        let now = OffsetDateTime::now_utc();
        match source {
            CaSource::Memory => Self::in_memory(now),
            CaSource::Dir(dir) => Self::in_dir(dir, now),
            CaSource::Own { certificate, key } => Self::own(certificate, key, now),
        }
    }

    /// Whether [`open`](Self::open) would find a CA, rather than make one.
    pub fn is_made(source: &CaSource) -> bool {
        match source {
            CaSource::Memory => false,
            CaSource::Dir(dir) => dir.join(KEY_FILE).exists(),
            CaSource::Own { .. } => true,
        }
    }

    fn in_memory(now: OffsetDateTime) -> Result<Self, Error> {
        let key = new_key()?;
        let root = new_root(&key, now)?;
        Self::from_parts(key, vec![root], None, Path::new("the CA in memory"), now)
    }

    fn in_dir(dir: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        let (key_path, certificate_path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        // Asked before the key is: the key is always written first, so a certificate that is there
        // already without one was left behind, and is not another process at work.
        let shown = files::read("the CA certificate", &certificate_path)?;
        let stored = match files::read_key(&key_path, 0o077)? {
            Some(stored) => stored,
            None if shown.is_some() => {
                return Err(Error::KeyLost {
                    certificate: certificate_path,
                    key: key_path,
                });
            }
            None => make_in(dir, &key_path, now)?,
        };
        let key = key_from_pem(&key_path, &stored)?;
        let chain = chain_from_pem(&key_path, &stored)?;
        let anchor = chain.last().map(|root| to_pem(root)).unwrap_or_default();
        match shown {
            Some(shown) if chain_from_pem(&certificate_path, &shown)? != chain => {
                return Err(Error::Mismatch {
                    certificate: certificate_path,
                    key: key_path,
                    hint: "remove the certificate file and it is written again from the key's",
                });
            }
            Some(_) => {}
            None => files::replace(&certificate_path, 0o644, anchor.as_bytes())?,
        }
        Self::from_parts(key, chain, Some(certificate_path), &key_path, now)
    }

    fn own(certificate: &Path, key: &Path, now: OffsetDateTime) -> Result<Self, Error> {
        let missing = |what, path: &Path| Error::Read {
            what,
            path: path.into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let chain = files::read("the CA certificate", certificate)?
            .ok_or_else(|| missing("the CA certificate", certificate))?;
        let chain = chain_from_pem(certificate, &chain)?;
        // A group may read it: that is how orchestrators mount a key for a process that is not root.
        let pem = files::read_key(key, 0o027)?.ok_or_else(|| missing("the CA key", key))?;
        let signer = key_from_pem(key, &pem)?;
        Self::from_parts(signer, chain, Some(certificate.into()), key, now)
    }

    fn from_parts(
        key: KeyPair,
        chain: Vec<CertificateDer<'static>>,
        path: Option<PathBuf>,
        key_path: &Path,
        now: OffsetDateTime,
    ) -> Result<Self, Error> {
        let place = path.as_deref().unwrap_or(key_path);
        let issuing = Issuing::read(&chain, &key).map_err(|unfit| match unfit {
            Unfit::NotCa(why) => Error::NotCa {
                path: place.into(),
                why,
            },
            Unfit::OtherKey => Error::Mismatch {
                certificate: place.into(),
                key: key_path.into(),
                hint: "the first certificate of the file must be the one that belongs to the key",
            },
        })?;
        let leaf_key = new_key()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialized_der()));
        let leaf_signer = any_supported_type(&der).map_err(|e| refused("use a leaf key", e))?;
        let anchor = chain
            .last()
            .cloned()
            .unwrap_or_else(|| CertificateDer::from(Vec::new()));
        let authority = Self {
            key,
            issuing,
            chain: chain.into_iter().filter(|c| !is_root(c)).collect(),
            anchor,
            path,
            leaf_key,
            leaf_signer,
        };
        authority.check_time(now)?;
        Ok(authority)
    }

    fn check_time(&self, now: OffsetDateTime) -> Result<(), Error> {
        let place = || match &self.path {
            Some(path) => format!("in `{}`", path.display()),
            None => "in memory".to_owned(),
        };
        if now >= self.issuing.not_after {
            return Err(Error::Expired {
                place: place(),
                on: date(self.issuing.not_after),
                hint: "put a new one there (a folder that Keyferry keeps itself: remove both its files and a new CA is made), and have clients trust it",
            });
        }
        if now < self.issuing.not_before {
            return Err(Error::NotYet {
                place: place(),
                from: date(self.issuing.not_before),
            });
        }
        Ok(())
    }

    /// The certificate that clients have to trust: the root, or the last one of the user's chain.
    pub fn certificate_pem(&self) -> String {
        to_pem(&self.anchor)
    }

    /// The same, as DER.
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    /// The file that holds that certificate; `None` for a CA in memory.
    pub fn certificate_path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Eight hex digits that tell this CA from others, for file names.
    pub fn short_id(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.anchor);
        short(digest.as_ref())
    }

    /// When the first certificate of the chain ceases to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.issuing.not_after.into()
    }

    /// Makes a leaf for `host` that holds for a week, or until the CA ends.
    ///
    /// # Errors
    /// When the CA's time is over, or no certificate can name the host.
    pub fn mint(&self, host: &Host) -> Result<Leaf, Error> {
        self.mint_at(host, OffsetDateTime::now_utc())
    }

    pub(super) fn mint_at(&self, host: &Host, now: OffsetDateTime) -> Result<Leaf, Error> {
        self.check_time(now)?;
        let params = leaf_params(host, &self.issuing, now)?;
        let draft = draft(&params, &self.leaf_key, &self.issuing, self.key.algorithm())?;
        let signature = self
            .key
            .sign(&draft.signed)
            .map_err(|e| refused("sign a certificate", e))?;
        let mut chain = Vec::with_capacity(1 + self.chain.len());
        chain.push(draft.finish(&signature));
        chain.extend(self.chain.iter().cloned());
        Ok(Leaf {
            certified: Arc::new(CertifiedKey::new(chain, self.leaf_signer.clone())),
            not_before: params.not_before.into(),
            not_after: params.not_after.into(),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("path", &self.path)
            .field("not_after", &date(self.issuing.not_after))
            .finish_non_exhaustive()
    }
}

/// Makes a CA in the folder, or takes the one that another process made there first.
fn make_in(dir: &Path, key_path: &Path, now: OffsetDateTime) -> Result<Zeroizing<Vec<u8>>, Error> {
    files::folder(dir, 0o700)?;
    let key = new_key()?;
    let mut content = Zeroizing::new(key.serialize_pem());
    content.push_str(&to_pem(&new_root(&key, now)?));
    if files::create(key_path, 0o600, content.as_bytes())? {
        return Ok(Zeroizing::new(content.as_bytes().to_vec()));
    }
    files::read_key(key_path, 0o077)?.ok_or_else(|| Error::Read {
        what: "the CA key",
        path: key_path.into(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| refused("generate a key", e))
}

fn new_root(key: &KeyPair, now: OffsetDateTime) -> Result<CertificateDer<'static>, Error> {
    let root = root_params(key, now)?.self_signed(key);
    Ok(root.map_err(|e| refused("sign the CA certificate", e))?.into())
}

/// Reads PKCS#8, PKCS#1 or SEC1.
fn key_from_pem(path: &Path, pem: &[u8]) -> Result<KeyPair, Error> {
    let wrong = |why| Error::Pem { path: path.into(), why };
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let sealed = memchr::memmem::find(pem, b"ENCRYPTED").is_some();
        wrong(match sealed {
            true => "is encrypted with a passphrase, which Keyferry does not ask for; decrypt it with `openssl pkey -in FILE -out NEW`, keep that file at mode 600, and name it instead",
            false => "holds no private key; it must be PEM (a block headed `PRIVATE KEY`, RSA or EC)",
        })
    })?;
    KeyPair::try_from(&der).map_err(|_| {
        wrong("holds a private key of a kind that cannot sign certificates here; use RSA of 2048 bits or more, or ECDSA on P-256, P-384 or P-521")
    })
}

fn refused(what: &'static str, why: impl fmt::Display) -> Error {
    Error::Crypto {
        what,
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests;
