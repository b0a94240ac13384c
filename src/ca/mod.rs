//! The private CA: its root, the leaves it mints for intercepted hosts, and the trust bundles that
//! make a client believe them. Knows no agent, no rule and no socket.

mod asking;
pub mod authority;
pub mod bundle;
mod certificate;
mod files;
pub mod leaves;
mod pkcs12;

use crate::base::host::Host;
use std::io;
use std::path::PathBuf;

/// Why the CA cannot be used, or a file of it not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {what} `{}`: {source}", path.display())]
    Read {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever can read the key can pose as any host to every client that trusts the CA.
    #[error("the CA key `{}` is open to other users (mode {mode:04o}); run `chmod 600 {}` and consider whether it was read", path.display(), path.display())]
    KeyOpenToOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A PEM file does not hold what it should.
    #[error("`{}` {why}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        why: &'static str,
    },
    /// The certificate and the key are not a pair.
    #[error("the certificate in `{}` is not that of the key in `{}`: {hint}", certificate.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The certificate may not issue others.
    #[error("the certificate in `{}` cannot issue leaves: {why}", path.display())]
    NotCa {
        /// The certificate's file.
        path: PathBuf,
        /// What it lacks.
        why: String,
    },
    /// A certificate of the chain is past its end.
    #[error("the CA certificate {place} expired on {on}; {hint}")]
    Expired {
        /// Which one.
        place: String,
        /// Its end.
        on: String,
        /// What to do.
        hint: &'static str,
    },
    /// A certificate of the chain has not begun: mostly a clock that is behind.
    #[error("the CA certificate {place} is not valid before {from}; is this machine's clock right?")]
    NotYet {
        /// Which one.
        place: String,
        /// Its beginning.
        from: String,
    },
    /// There is a certificate, but its key is gone.
    #[error("`{}` is there, but its key `{}` is not: put the key back, or remove the certificate to have a new CA made (clients then have to trust the new one)", certificate.display(), key.display())]
    KeyLost {
        /// The certificate's file.
        certificate: PathBuf,
        /// Where the key should be.
        key: PathBuf,
    },
    /// The cryptographic library refused.
    #[error("cannot {what}: {why}")]
    Crypto {
        /// What was tried.
        what: &'static str,
        /// What the library said.
        why: String,
    },
    /// No certificate can name this host.
    #[error("no certificate can be made for the host `{host}`: {why}")]
    Host {
        /// The host.
        host: Host,
        /// What the library said.
        why: String,
    },
}
