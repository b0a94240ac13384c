//! Client certificates that Keyferry shows: to nginx, which tells what it was shown, and to servers that will not have them.

mod faults;
mod page;
mod shown;

use crate::rig::root::Pem;
use crate::signing::hex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// Writes a certificate and its key, as `NAME.pem` and `NAME.key`.
pub fn write(dir: &Path, name: &str, pem: &Pem) {
    std::fs::write(dir.join(format!("{name}.pem")), &pem.chain).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), &pem.key).unwrap();
}

/// The fingerprint as nginx has it.
pub fn fingerprint(pem: &Pem) -> String {
    let der = CertificateDer::from_pem_slice(pem.chain.as_bytes()).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
    hex(hash.as_ref())
}
