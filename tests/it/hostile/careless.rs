//! An agent that verifies nothing and names what it likes in its handshake.

use crate::rig::agent::{Agent, Raw};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A tunnel to `connect` in which the handshake names `sni`, if anything.
pub async fn tls(agent: &Agent, connect: &str, sni: Option<&str>, alpn: &str) -> Result<TlsStream<TcpStream>, String> {
    let (status, head, raw): (_, _, Raw<TcpStream>) = agent.connect(connect).await;
    if status != 200 {
        return Err(head);
    }
    handshake(raw.io, sni, alpn).await.map_err(|error| error.to_string())
}

/// TLS over any line, verifying nothing.
pub async fn handshake<I>(io: I, sni: Option<&str>, alpn: &str) -> std::io::Result<TlsStream<I>>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.enable_sni = sni.is_some();
    // An address is never named, so it stands for no name at all.
    let name = ServerName::try_from(sni.unwrap_or("192.0.2.1").to_owned()).unwrap();
    crate::rig::soon(
        "the TLS handshake",
        TlsConnector::from(Arc::new(config)).connect(name, io),
    )
    .await
}

#[derive(Debug)]
struct Careless(Arc<CryptoProvider>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
