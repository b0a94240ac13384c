//! The public half of the CA's work: reading issuing certificates, and saying what a root and a
//! leaf contain. Sees keys only by their public half.

use super::Error;
use crate::base::host::Host;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

/// Clients whose clock is behind must still accept what was made this minute.
const BACKDATED: Duration = Duration::days(1);

/// A root lives five years: longer than an image or a laptop into which it was installed is likely
/// to be used, while a copy of the key that leaked from one is not good for ever.
const ROOT_LIFE: Duration = Duration::days(5 * 365);

/// A leaf is made again in 30 µs, so it need not outlive a long weekend's idle connection by much;
/// every client's cap on leaf lifetimes is far above.
pub(super) const LEAF_LIFE: Duration = Duration::days(7);

/// What minting has to know of the certificate that issues, and of those above it.
#[derive(Debug, Clone)]
pub(super) struct Issuing {
    /// The subject as it is encoded: verifiers compare it byte by byte with a leaf's issuer.
    pub(super) subject: Vec<u8>,
    /// The subject key identifier, likewise; any bytes a user's own CA may have chosen.
    pub(super) key_id: Vec<u8>,
    /// The latest beginning in the chain.
    pub(super) not_before: OffsetDateTime,
    /// The earliest end in the chain.
    pub(super) not_after: OffsetDateTime,
}

/// Why a chain cannot issue, before it is known which file it came from.
#[derive(Debug)]
pub(super) enum Unfit {
    /// What is missing.
    NotCa(String),
    /// Key and certificate are no pair.
    OtherKey,
}

impl Issuing {
    /// Checks that the first certificate is a CA with this public key, that each is issued by the
    /// one after it, and takes from them what minting needs.
    pub(super) fn read(chain: &[CertificateDer<'static>], key: &impl PublicKeyData) -> Result<Self, Unfit> {
        let parsed = chain.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let issuing = parsed.first().ok_or_else(|| Unfit::NotCa("there is none".into()))?;
        if *issuing.public_key().subject_public_key.data != *key.der_bytes() {
            return Err(Unfit::OtherKey);
        }
        for (below, certificate) in parsed.iter().enumerate() {
            check_may_issue(certificate, below)?;
        }
        for pair in parsed.windows(2) {
            if let [lower, upper] = pair {
                check_issued(lower, upper)?;
            }
        }
        let validity = |c: &X509Certificate<'_>| (c.validity().not_before, c.validity().not_after);
        let (not_before, not_after) = parsed
            .iter()
            .map(validity)
            .fold(validity(issuing), |(from, until), (f, u)| (from.max(f), until.min(u)));
        Ok(Self {
            subject: issuing.subject().as_raw().to_vec(),
            key_id: key_id(issuing).unwrap_or_else(|| made_key_id(key)),
            not_before: not_before.to_datetime(),
            not_after: not_after.to_datetime(),
        })
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Unfit> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Unfit::NotCa(format!("it is no X.509 certificate ({error})"))),
    }
}

/// RFC 5280 §4.2.1.3 and §4.2.1.9: CA, may sign certificates, and the path below is not too long.
fn check_may_issue(certificate: &X509Certificate<'_>, below: usize) -> Result<(), Unfit> {
    let lacks = |why: &str| Err(Unfit::NotCa(format!("`{}` {why}", certificate.subject())));
    let Ok(Some(constraints)) = certificate.basic_constraints() else {
        return lacks("is no CA (it has no basicConstraints)");
    };
    if !constraints.value.ca {
        return lacks("is no CA (basicConstraints says CA:FALSE)");
    }
    let longest = constraints.value.path_len_constraint;
    if longest.is_some_and(|longest| (longest as usize) < below) {
        return lacks("allows no CA certificate below it (pathLenConstraint)");
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => {
            lacks("may not sign certificates (keyUsage lacks keyCertSign)")
        }
        Ok(_) => Ok(()),
        Err(_) => lacks("has a malformed keyUsage"),
    }
}

fn check_issued(lower: &X509Certificate<'_>, upper: &X509Certificate<'_>) -> Result<(), Unfit> {
    let broken = || {
        Err(Unfit::NotCa(format!(
            "the chain is broken: `{}` was not issued by `{}`, which follows it; put the issuing certificate first, then each one's issuer",
            lower.subject(),
            upper.subject()
        )))
    };
    if lower.issuer().as_raw() != upper.subject().as_raw() {
        return broken();
    }
    match lower.verify_signature(Some(upper.public_key())) {
        Err(X509Error::SignatureVerificationError) => broken(),
        // An algorithm that cannot be checked here may well be one that clients know.
        _ => Ok(()),
    }
}

fn key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

/// The identifier of a key that has been given none (RFC 7093 §2, method 1).
fn made_key_id(key: &impl PublicKeyData) -> Vec<u8> {
    CertificateParams::default().key_identifier(key)
}

/// Whether the certificate is a root: its own issuer.
pub(super) fn is_root(der: &CertificateDer<'_>) -> bool {
    parse(der).is_ok_and(|c| c.issuer().as_raw() == c.subject().as_raw())
}

/// The certificates of a PEM file, in order; at least one.
pub(super) fn chain_from_pem(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |why| Error::Pem { path: path.into(), why };
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| wrong("is not valid PEM"))?;
    if chain.is_empty() {
        return Err(wrong(
            "holds no certificate; it must be PEM (`-----BEGIN CERTIFICATE-----`)",
        ));
    }
    Ok(chain)
}

/// PEM with lines of 64 characters (RFC 7468 §2).
pub(super) fn to_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// What a new root contains.
pub(super) fn root_params(key: &impl PublicKeyData, now: OffsetDateTime) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    let id = made_key_id(key);
    params.distinguished_name = common_name(&format!("Keyferry CA {}", short(&id)));
    params.not_before = whole_second(now - BACKDATED);
    params.not_after = whole_second(now + ROOT_LIFE);
    params.serial_number = Some(serial()?);
    // Leaves only: nobody who steals a leaf's key or tricks a mint gets a CA out of it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::PreSpecified(id);
    Ok(params)
}

/// What a leaf for `host` contains.
pub(super) fn leaf_params(host: &Host, issuing: &Issuing, now: OffsetDateTime) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    let text = match host {
        Host::Name(name) => name.to_string(),
        Host::Ip(ip) => ip.to_string(),
    };
    params.subject_alt_names = vec![match host {
        Host::Ip(ip) => SanType::IpAddress(*ip),
        Host::Name(name) => SanType::DnsName(name.as_ref().try_into().map_err(|e: rcgen::Error| Error::Host {
            host: host.clone(),
            why: e.to_string(),
        })?),
    }];
    // A common name ends at 64 characters (RFC 5280 appendix A.1, ub-common-name); without one the
    // subject is empty and the alternative name becomes critical (§4.1.2.6).
    params.distinguished_name = if text.len() <= 64 {
        common_name(&text)
    } else {
        DistinguishedName::new()
    };
    params.not_before = whole_second((now - BACKDATED).max(issuing.not_before));
    params.not_after = whole_second((now + LEAF_LIFE).min(issuing.not_after));
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A certificate as the library encodes it, less what only the CA can add: its name as it stands in
/// its own certificate, and the signature.
#[derive(Debug)]
pub(super) struct Draft {
    /// The part that is signed.
    pub(super) signed: Vec<u8>,
    /// The signature's algorithm.
    algorithm: Vec<u8>,
}

/// Encodes `params` for `subject_key`, to be signed with an `algorithm` key by `issuing`.
///
/// The library would write the issuer's name anew from what it understood of it: a name with two
/// organisational units, domain components or an old string type, as corporate CAs have, would come
/// out with other bytes, and no client would find the chain. So the name is put in as it is.
pub(super) fn draft(
    params: &CertificateParams,
    subject_key: &impl PublicKeyData,
    issuing: &Issuing,
    algorithm: &'static SignatureAlgorithm,
) -> Result<Draft, Error> {
    let refused = |why: String| Error::Crypto {
        what: "encode a certificate",
        why,
    };
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = DistinguishedName::new();
    issuer.key_identifier_method = KeyIdMethod::PreSpecified(issuing.key_id.clone());
    let issuer = Issuer::new(issuer, Unsigned { algorithm });
    let unsigned = params
        .signed_by(subject_key, &issuer)
        .map_err(|e| refused(e.to_string()))?;
    named(unsigned.der(), &issuing.subject).map_err(|e| refused(e.to_string()))
}

/// Puts the issuer's name into an encoded certificate: the fourth of eight fields (RFC 5280 §4.1).
fn named(unsigned: &[u8], issuer: &[u8]) -> yasna::ASN1Result<Draft> {
    let (mut fields, algorithm) = yasna::parse_der(unsigned, |certificate| {
        certificate.read_sequence(|certificate| {
            let fields = certificate.next().read_sequence(eight_fields)?;
            let algorithm = certificate.next().read_der()?;
            certificate.next().read_der()?;
            Ok((fields, algorithm))
        })
    })?;
    let [_, _, _, name, ..] = &mut fields;
    *name = issuer.to_vec();
    Ok(Draft {
        signed: sequence(&fields),
        algorithm,
    })
}

fn eight_fields(tbs: &mut yasna::BERReaderSeq<'_, '_>) -> yasna::ASN1Result<[Vec<u8>; 8]> {
    let mut fields = <[Vec<u8>; 8]>::default();
    for field in &mut fields {
        *field = tbs.next().read_der()?;
    }
    Ok(fields)
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| parts.iter().for_each(|part| writer.next().write_der(part)));
    })
}

impl Draft {
    /// The certificate, once the CA has signed.
    pub(super) fn finish(&self, signature: &[u8]) -> CertificateDer<'static> {
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|certificate| {
                certificate.next().write_der(&self.signed);
                certificate.next().write_der(&self.algorithm);
                certificate.next().write_bitvec_bytes(signature, signature.len() * 8);
            });
        });
        der.into()
    }
}

/// Stands where the library wants the CA's key, which it is not given.
struct Unsigned {
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for Unsigned {
    fn der_bytes(&self) -> &[u8] {
        &[]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Unsigned {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

/// A date as people and programs read it.
pub(super) fn date(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// The first four bytes as hex: enough to tell a few CAs apart by eye.
pub(super) fn short(id: &[u8]) -> String {
    id.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Certificates count whole seconds.
fn whole_second(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).unwrap_or(at)
}

/// Sixteen random bytes, positive and never shorter (RFC 5280 §4.1.2.2 wants at most twenty).
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Crypto {
        what: "draw random bytes",
        why: "the system has none to give".into(),
    })?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x3f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
