//! TLS on both sides, from PEM files.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Trusts the certificates in `roots`; resumes sessions only where `resume` says so.
pub fn connector(roots: &[PathBuf], alpn: &[u8], resume: bool) -> io::Result<TlsConnector> {
    let mut store = RootCertStore::empty();
    for path in roots {
        for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
            store
                .add(certificate.map_err(io::Error::other)?)
                .map_err(io::Error::other)?;
        }
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    if !resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Shows one certificate whatever name is asked for, and speaks what of `alpn` comes first with the other side.
pub fn acceptor(certificate: &Path, key: &Path, alpn: &[&[u8]]) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}
