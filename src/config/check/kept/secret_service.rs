//! Items of the desktop's Secret Service.

use super::super::mint::pairs;
use super::Common;
use crate::config::kept::{Kept, Place, SecretService};
use crate::config::raw_kept::RawSecretService;
use crate::config::read::Findings;

/// Reads one.
pub(super) fn item(raw: &RawSecretService, found: &mut Findings<'_>) -> Option<Kept> {
    let attributes = pairs(Some(&raw.attributes), found)?;
    let odd = |text: &String| text.is_empty() || text.starts_with('-') || text.contains('\0');
    if attributes.is_empty() || attributes.iter().any(|(name, value)| odd(name) || odd(value)) {
        found
            .error(
                raw.at,
                "`secret_service` wants the attributes of an item, none empty and none with a hyphen first",
            )
            .hint("write them like `{ attributes: { service: stripe } }`, as `secret-tool` takes them");
        return None;
    }
    common!(raw, Some(raw)).kept(Place::SecretService(SecretService { attributes }), found)
}
