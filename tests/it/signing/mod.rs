//! Requests signed for AWS and its kin: by the published vectors, by botocore's own sums over what arrived, and by
//! servers that check every signature.

mod clients;
mod faults;
mod names;
mod page;
pub mod servers;
mod streams;
mod vectors;
mod witness;

use crate::rig::proxy::Rig;
use crate::rig::root::Root;

/// What the agent signs with is worth nothing.
pub const ID: &str = "AKIAJ7QX2M4T6V9BN3WZ";
pub const SECRET: &str = "f8Zk+3QmV1xT7rLwPq0yBn5HcJ2sDgA9/eUiKoXt";

/// The rule's injection with the keys of [`keys`].
pub const SIGN: &str = "sigv4: { access_key_id: aws_access_key_id, secret_access_key: aws_secret_access_key }";

/// A rig that holds these keys, in the variables in which AWS's clients look for them.
pub fn keys(root: &Root, id: &str, secret: &str) -> Rig {
    Rig::new(root)
        .secret("AWS_ACCESS_KEY_ID", id)
        .secret("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
