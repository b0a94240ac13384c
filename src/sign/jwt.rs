//! Signed tokens (RFC 7519) by a private key: RSA, EC P-256 or Ed25519, as PEM.

use super::said::take;
use crate::base::secret::Secret;
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value};
use std::fmt;

/// A key that signs tokens. What it holds is wiped when it is dropped.
pub struct Key(Kind);

enum Kind {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// Why a secret is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// No private key in PEM.
    #[error("it holds no private key in PEM")]
    Pem,
    /// A key of another kind.
    #[error("its key is none of RSA (2048 bits and more), EC P-256 and Ed25519")]
    Kind,
    /// The library would not sign.
    #[error("it could not sign")]
    Signing,
}

impl Key {
    /// Reads a private key: PKCS#8, PKCS#1 or SEC 1.
    ///
    /// # Errors
    /// When there is none, or one of a kind that is not known here.
    pub fn read(pem: &Secret) -> Result<Self, BadKey> {
        let der = pem.expose(PrivateKeyDer::from_pem_slice).map_err(|_| BadKey::Pem)?;
        let read = match &der {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().map(Kind::Rsa),
            PrivateKeyDer::Sec1(der) => {
                let read = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_sec1_der());
                read.ok().map(Kind::Ec)
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let rsa = RsaKeyPair::from_pkcs8(der).ok().map(Kind::Rsa);
                rsa.or_else(|| {
                    let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
                    read.ok().map(Kind::Ec)
                })
                .or_else(|| Ed25519KeyPair::from_pkcs8(der).ok().map(Kind::Ed))
            }
            _ => None,
        };
        read.filter(|kind| !matches!(kind, Kind::Rsa(key) if key.public_modulus_len() < 256))
            .map(Self)
            .ok_or(BadKey::Kind)
    }

    /// The algorithm's name (RFC 7518 §3.1, RFC 8037 §3.1).
    pub fn algorithm(&self) -> &'static str {
        match &self.0 {
            Kind::Rsa(_) => "RS256",
            Kind::Ec(_) => "ES256",
            Kind::Ed(_) => "EdDSA",
        }
    }

    /// A token with these claims. `header` is added to `alg` and `typ`.
    ///
    /// # Errors
    /// When the library will not sign.
    pub fn token(&self, header: &[(&str, &str)], claims: &Map<String, Value>) -> Result<Secret, BadKey> {
        let mut whole = Map::new();
        whole.insert("alg".to_owned(), self.algorithm().into());
        whole.insert("typ".to_owned(), "JWT".into());
        whole.extend(header.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
        let part = |map: &Map<String, Value>| serde_json::to_vec(map).map(|json| URL_SAFE_NO_PAD.encode(json));
        let (Ok(header), Ok(claims)) = (part(&whole), part(claims)) else {
            return Err(BadKey::Signing);
        };
        let mut token = format!("{header}.{claims}");
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        take(token).ok_or(BadKey::Signing)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BadKey> {
        let random = SystemRandom::new();
        match &self.0 {
            Kind::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| BadKey::Signing)
            }
            Kind::Ec(key) => {
                let signed = key.sign(&random, message);
                signed.map(|s| s.as_ref().to_vec()).map_err(|_| BadKey::Signing)
            }
            Kind::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

/// The SHA-256 of the first certificate of a PEM document, as `x5t#S256` has it (RFC 7515 §4.1.8).
pub fn thumbprint(pem: &Secret) -> Option<String> {
    let certificate = pem.expose(|bytes| CertificateDer::from_pem_slice(bytes).ok())?;
    let digest = digest::digest(&digest::SHA256, &certificate);
    Some(URL_SAFE_NO_PAD.encode(digest.as_ref()))
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
    };
    use base64::engine::general_purpose::STANDARD;

    fn pem(label: &str, der: &[u8]) -> Secret {
        let text = STANDARD.encode(der);
        Secret::document(format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()).unwrap()
    }

    fn verify(pem: &Secret, algorithm: &'static dyn VerificationAlgorithm, public: &[u8]) -> String {
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), "me".into());
        let key = Key::read(pem).unwrap();
        let token = key.token(&[("kid", "k")], &claims).unwrap();
        let text = token.expose(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(algorithm, public)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(claims).unwrap(), b"{\"iss\":\"me\"}");
        String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
    }

    #[test]
    fn each_kind_of_key_signs_a_token_that_its_public_half_confirms() {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = rsa.as_der().unwrap();
        assert_eq!(
            verify(
                &pem("PRIVATE KEY", der.as_ref()),
                &RSA_PKCS1_2048_8192_SHA256,
                rsa.public_key().as_ref()
            ),
            "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k\"}"
        );
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = ec.to_pkcs8v1().unwrap();
        let header = verify(
            &pem("PRIVATE KEY", der.as_ref()),
            &ECDSA_P256_SHA256_FIXED,
            ec.public_key().as_ref(),
        );
        assert!(header.contains("ES256"));
        let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let public = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap();
        let header = verify(&pem("PRIVATE KEY", ed.as_ref()), &ED25519, public.public_key().as_ref());
        assert!(header.contains("EdDSA"));
    }

    #[test]
    fn what_is_no_key_is_told_without_showing_it() {
        for (secret, why) in [
            (Secret::new(b"hunter2".to_vec()).unwrap(), BadKey::Pem),
            (pem("CERTIFICATE", b"x"), BadKey::Pem),
            (pem("PRIVATE KEY", b"x"), BadKey::Kind),
        ] {
            assert_eq!(Key::read(&secret).unwrap_err(), why);
        }
    }
}
