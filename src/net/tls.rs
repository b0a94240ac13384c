//! TLS towards upstreams. Every touch of rustls' client side is here; nothing here can turn
//! verification off.

use super::Error;
use super::client_certificate::{ClientCertificate, Verdict};
use crate::base::host::{Host, Target};
use crate::config::model;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The client side of TLS, with the roots of one configuration.
#[derive(Clone)]
pub(super) struct Tls {
    both: TlsConnector,
    http1: TlsConnector,
}

/// Sessions kept for resumption, over all upstreams.
const SESSIONS: usize = 1024;

impl Tls {
    pub(super) fn new(upstream: &model::Upstream) -> Result<Self, Error> {
        let roots = Arc::new(roots(upstream)?);
        Ok(Self {
            both: connector(&roots, &[b"h2", b"http/1.1"])?,
            http1: connector(&roots, &[b"http/1.1"])?,
        })
    }

    /// Shakes hands and verifies the certificate for exactly the target's host; only then is it shown ours, if it asks.
    pub(super) async fn handshake<S>(
        &self,
        target: &Target,
        stream: S,
        http1_only: bool,
        (ours, verdict): (Option<&ClientCertificate>, &Verdict),
    ) -> Result<TlsStream<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(&target.host).ok_or(Error::Request("the host cannot stand in a certificate"))?;
        let plain = if http1_only { &self.http1 } else { &self.both };
        let connecting = match ours {
            None => plain.connect(name, stream),
            Some(ours) => TlsConnector::from(Arc::new(ours.dress(plain.config()))).connect(name, stream),
        };
        connecting.await.map_err(|source| {
            verdict.hear(&source);
            Error::Tls {
                target: target.clone(),
                certificate: is_certificate(&source),
                source,
            }
        })
    }
}

/// Whether the other side chose HTTP/2 (RFC 7301; `h2` is registered by RFC 9113 §3.1).
pub(super) fn chose_h2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Whether the handshake failed because the other side does not speak HTTP/1.1 (RFC 7301 §3.2).
pub(super) fn has_no_http1(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))
    )
}

fn connector(roots: &Arc<RootCertStore>, alpn: &[&[u8]]) -> Result<TlsConnector, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| Error::Roots(format!("TLS cannot be set up: {e}")))?;
    let mut config = builder.with_root_certificates(Arc::clone(roots)).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    config.resumption = rustls::client::Resumption::in_memory_sessions(SESSIONS);
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(upstream: &model::Upstream) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    if upstream.system_roots {
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = store.add_parsable_certificates(system.certs);
        if added == 0 {
            // An image without a store: Mozilla's roots, as built in.
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    for path in &upstream.roots {
        let unreadable = |e: &dyn std::fmt::Display| {
            Error::Roots(format!(
                "cannot read the roots in {}: {e}; they are certificates in PEM",
                path.display()
            ))
        };
        let mut any = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))? {
            store
                .add(certificate.map_err(|e| unreadable(&e))?)
                .map_err(|e| unreadable(&e))?;
            any = true;
        }
        if !any {
            return Err(unreadable(&"it holds no certificate"));
        }
    }
    Ok(store)
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string()).ok(),
        Host::Ip(ip) => Some(ServerName::IpAddress((*ip).into())),
    }
}

fn is_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

/// What else may be wrong than the upstream: a certificate out of its time may be good, and the clock not.
pub(super) fn doubt(error: &io::Error) -> &'static str {
    use rustls::CertificateError as E;
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. },
        )) => "; is this machine's clock right?",
        _ => "",
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}
