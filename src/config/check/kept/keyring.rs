//! Keys of the kernel's keyrings.

use super::super::mint::word;
use super::Common;
use crate::config::kept::{Kept, Place};
use crate::config::raw_kept::RawKeyring;
use crate::config::read::Findings;

/// Reads one.
pub(super) fn key(raw: &RawKeyring, found: &mut Findings<'_>) -> Option<Kept> {
    let description = match (&raw.service, &raw.user, &raw.description) {
        (Some(service), Some(user), None) => format!("keyring:{}@{}", word(user, found)?, word(service, found)?),
        (None, None, Some(description)) => word(description, found)?,
        _ if raw.bad => return None,
        _ => {
            found
                .error(raw.at, "`keyring` wants `service` and `user`, or `description`")
                .hint("write it like `{ service: keyferry, user: stripe }`");
            return None;
        }
    };
    common!(raw, Some(raw)).kept(Place::Keyring(description), found)
}
