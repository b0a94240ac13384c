//! A private root of the test's own, and server certificates below it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// A certificate authority that only this test trusts. No key of it touches the disk.
pub struct Root {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When a certificate is good.
#[derive(Clone, Copy)]
pub enum Validity {
    Now,
    Past,
    Future,
}

/// A certificate and its key, as PEM, for servers that want files.
pub struct Pem {
    pub chain: String,
    pub key: String,
}

impl Pem {
    fn of((certificate, key): (rcgen::Certificate, KeyPair)) -> Self {
        Self {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Root {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        // No two roots share a name, or a stranger's leaf would look badly signed instead of unknown.
        let name = format!("origin test root {}", super::routes::sha256(key.public_key_raw()));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        window(&mut params, Validity::Now);
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self { issuer }
    }

    /// The root certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server's certificate and key for `names`.
    pub fn leaf(&self, names: &[&str], validity: Validity) -> Pem {
        Pem::of(self.sign(names, validity, ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// A client's certificate and key for `names`.
    pub fn client(&self, names: &[&str], validity: Validity) -> Pem {
        Pem::of(self.sign(names, validity, ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// A server's TLS settings for `names`, offering `alpn`.
    pub fn server(&self, names: &[&str], validity: Validity, alpn: &[&str]) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign(names, validity, ExtendedKeyUsagePurpose::ServerAuth);
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn sign(
        &self,
        names: &[&str],
        validity: Validity,
        usage: ExtendedKeyUsagePurpose,
    ) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "origin");
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        window(&mut params, validity);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }
}

fn window(params: &mut CertificateParams, validity: Validity) {
    let now = OffsetDateTime::now_utc();
    let (from, to) = match validity {
        Validity::Now => (-1, 30),
        Validity::Past => (-30, -1),
        Validity::Future => (10, 30),
    };
    params.not_before = now + Duration::days(from);
    params.not_after = now + Duration::days(to);
}
