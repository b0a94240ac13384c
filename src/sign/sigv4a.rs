//! AWS Signature Version 4A: as version 4, for a set of regions, signed with a key of the curve P-256 that the secret gives.

use super::sigv4::{Request, Scope, canonical, hex, sha256};
use crate::base::secret::Secret;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use zeroize::Zeroizing;

/// The algorithm's name, as it stands in a header or a query.
pub const ALGORITHM: &str = "AWS4-ECDSA-P256-SHA256";

/// A key that signs for every day, region and service. aws-lc wipes it when it is dropped.
pub struct Key {
    pair: EcdsaKeyPair,
    scope: Scope,
}

impl Key {
    /// Derives the key from the secret access key and its id; the region of `scope` is a set of them, such as `*`. `None` where
    /// aws-lc makes no key of it.
    pub fn new(id: &Secret, secret: &Secret, scope: Scope) -> Option<Self> {
        let first = secret.expose(|secret| Zeroizing::new([b"AWS4A", secret].concat()));
        let derive = hmac::Key::new(hmac::HMAC_SHA256, &first);
        let scalar = (1..=u8::MAX).find_map(|count| {
            // NIST SP 800-108 §5.1, one block: its number, the label, a zero, the context, the length in bits.
            let mut text = hmac::Context::with_key(&derive);
            text.update(&1_u32.to_be_bytes());
            text.update(ALGORITHM.as_bytes());
            text.update(&[0]);
            id.expose(|id| text.update(id));
            text.update(&[count]);
            text.update(&256_u32.to_be_bytes());
            let mut block = Zeroizing::new([0; 32]);
            block.copy_from_slice(text.sign().as_ref());
            one_more(&block)
        })?;
        let mut key = Zeroizing::new(Vec::with_capacity(PREFIX.len() + 32 + CURVE.len()));
        key.extend_from_slice(PREFIX);
        key.extend_from_slice(&*scalar);
        key.extend_from_slice(CURVE);
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &key).ok()?;
        Some(Self { pair, scope })
    }

    /// When and for whom it signs.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// `20150830/s3/aws4_request`: what stands behind the key's id.
    pub fn credential(&self) -> String {
        format!("{}/{}/aws4_request", self.scope.day(), self.scope.service)
    }

    /// The signature of a request, in hexadecimal; another one each time. `None` where there is no randomness.
    pub fn sign(&self, request: &Request<'_>) -> Option<String> {
        let canonical = sha256(canonical(request).as_slice());
        let text = format!("{ALGORITHM}\n{}\n{}\n{canonical}", self.scope.stamp, self.credential());
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
        Some(hex(signature.as_ref()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// One more than the number in a block, which is a key then; `None` for one that is too large.
fn one_more(block: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    if *block > ORDER_LESS_TWO {
        return None;
    }
    let mut scalar = Zeroizing::new(*block);
    for byte in scalar.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            break;
        }
    }
    Some(scalar)
}

/// The order of P-256 (NIST SP 800-186 §3.2.1.3), less two.
const ORDER_LESS_TWO: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];

/// What stands before the scalar and behind it in an `ECPrivateKey` (RFC 5915 §3) of P-256.
const PREFIX: &[u8] = &[0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
const CURVE: &[u8] = &[0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_scalar_is_one_more_and_below_the_order() {
        let mut block = [0; 32];
        block[31] = 0xff;
        let more = one_more(&block).unwrap();
        assert_eq!((more[30], more[31]), (1, 0));
        let last = one_more(&ORDER_LESS_TWO).unwrap();
        assert_eq!(last[31], 0x50);
        let mut over = ORDER_LESS_TWO;
        over[31] += 1;
        assert!(one_more(&over).is_none() && one_more(&[0xff; 32]).is_none());
    }
}
