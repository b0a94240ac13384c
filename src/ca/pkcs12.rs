//! Writes a PKCS#12 trust store (RFC 7292) for Java: certificates only, in the clear, without a MAC.
//! Java reads it with any password or none; what it protects is public, and its folder is not shared.

use rustls::pki_types::CertificateDer;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag, construct_der};

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const CERT_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
/// Oracle's own: without it Java takes a certificate for part of a key's chain, not for an anchor.
const TRUSTED_KEY_USAGE: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];
const ANY_EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37, 0];

/// Encodes a trust store of these certificates, each under its alias.
pub(super) fn trust_store<'a>(anchors: impl Iterator<Item = (String, &'a CertificateDer<'a>)>) -> Vec<u8> {
    let bags = construct_der(|writer| {
        writer.write_sequence(|bags| {
            for (alias, certificate) in anchors {
                write_bag(bags.next(), &alias, certificate);
            }
        });
    });
    let safes = construct_der(|writer| writer.write_sequence(|safes| write_content(safes.next(), &bags)));
    construct_der(|writer| {
        writer.write_sequence(|pfx| {
            pfx.next().write_u8(3);
            write_content(pfx.next(), &safes);
        });
    })
}

fn write_content(writer: DERWriter<'_>, content: &[u8]) {
    writer.write_sequence(|info| {
        write_oid(info.next(), DATA);
        info.next()
            .write_tagged(Tag::context(0), |writer| writer.write_bytes(content));
    });
}

fn write_bag(writer: DERWriter<'_>, alias: &str, certificate: &CertificateDer<'_>) {
    writer.write_sequence(|bag| {
        write_oid(bag.next(), CERT_BAG);
        bag.next().write_tagged(Tag::context(0), |writer| {
            writer.write_sequence(|value| {
                write_oid(value.next(), X509_CERTIFICATE);
                value
                    .next()
                    .write_tagged(Tag::context(0), |writer| writer.write_bytes(certificate));
            });
        });
        bag.next().write_set_of(|attributes| {
            write_attribute(attributes.next(), FRIENDLY_NAME, |value| value.write_bmp_string(alias));
            write_attribute(attributes.next(), TRUSTED_KEY_USAGE, |value| {
                write_oid(value, ANY_EXTENDED_KEY_USAGE);
            });
        });
    });
}

fn write_attribute(writer: DERWriter<'_>, id: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|attribute| {
        write_oid(attribute.next(), id);
        attribute.next().write_set_of(|values| value(values.next()));
    });
}

fn write_oid(writer: DERWriter<'_>, id: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(id));
}
