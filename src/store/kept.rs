//! What stores of others keep: asked for when it is wanted, and again before its time is over.

mod aws;

use super::error::Cause;
use super::fetch::Fetched;
use super::{Inner, Slot};
use crate::base::secret::Secret;
use crate::config::kept::{Kept, Place};
use crate::sign::picked;
use std::sync::Arc;

/// What a store keeps, whole, and where it was asked.
struct Whole {
    secret: Secret,
    at: String,
}

/// Asks for it.
pub(super) async fn fetch(inner: &Arc<Inner>, slot: &Slot, kept: &Kept) -> Result<Fetched, Cause> {
    let asked = async {
        match &kept.place {
            Place::Aws(spec) => aws::read(inner, spec).await,
        }
    };
    let Ok(whole) = tokio::time::timeout(kept.timeout, asked).await else {
        return Err(Cause::RemoteTimeout {
            at: kept.place.asked(),
            after: kept.timeout,
        });
    };
    let secret = fit(whole?, kept.field.as_deref(), slot.document)?;
    Ok(Fetched {
        secret,
        ttl: Some(kept.ttl),
        grace: kept.grace,
    })
}

impl Place {
    /// Whom it asks, for an error.
    fn asked(&self) -> String {
        match self {
            Self::Aws(spec) => spec.at.to_string(),
        }
    }
}

/// The field that is wanted, or all of it; one line, unless a document is wanted.
fn fit(whole: Whole, field: Option<&str>, document: bool) -> Result<Secret, Cause> {
    let Whole { secret, at } = whole;
    let secret = match field {
        None => secret,
        Some(field) => picked::field(&secret, field).ok_or_else(|| Cause::NoCredential {
            at: at.clone(),
            reason: format!("it is no JSON object with a text under `{field}`"),
        })?,
    };
    match secret.is_line() {
        Err(_) if !document => Err(Cause::NoCredential {
            at,
            reason: match field {
                Some(field) => format!("`{field}` is of several lines; a credential is one line of text"),
                None => "it is of several lines; a credential is one line of text".to_owned(),
            },
        }),
        _ => Ok(secret),
    }
}
