//! What stores of others keep: asked for when it is wanted, and again before its time is over.

mod aws;
mod azure;
mod google;
mod keyring;
mod kubernetes;
mod onepassword;
mod secret_service;

use super::error::Cause;
use super::fetch::Fetched;
use super::remote::{Errand, answered, fits};
use super::{Held, Inner, Slot};
use crate::base::endpoint::Endpoint;
use crate::base::secret::Secret;
use crate::config::kept::{Kept, OnePasswordBy, Place};
use crate::config::mint::Uses;
use crate::net::errand::Told;
use crate::sign::picked;
use crate::sign::said::{self, Field};
use http::StatusCode;
use std::path::Path;
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
            Place::Kubernetes(spec) => kubernetes::read(inner, spec).await,
            Place::Google(spec) => google::read(inner, spec).await,
            Place::Azure(spec) => azure::read(inner, spec).await,
            Place::Keyring(description) => keyring::read(description).await,
            Place::SecretService(spec) => secret_service::read(spec, kept.timeout).await,
            Place::OnePassword(spec) => onepassword::read(inner, spec, kept.timeout).await,
        }
    };
    let Ok(whole) = tokio::time::timeout(kept.timeout, asked).await else {
        return Err(Cause::RemoteTimeout {
            at: kept.place.asked(),
            after: kept.timeout,
        });
    };
    let secret = fit(whole?, kept.field.as_deref(), slot.shape.document)?;
    Ok(Fetched {
        secret: Some(secret),
        ttl: Some(kept.ttl),
        grace: kept.grace,
    })
}

impl Place {
    /// Whom it asks, for an error.
    fn asked(&self) -> String {
        match self {
            Self::Aws(spec) => spec.at.to_string(),
            Self::Kubernetes(spec) => spec.api.to_string(),
            Self::Google(spec) | Self::Azure(spec) => spec.at.to_string(),
            Self::Keyring(_) => "the kernel's keyring".to_owned(),
            Self::SecretService(spec) => format!("the Secret Service under {spec}"),
            Self::OnePassword(spec) => match &spec.by {
                OnePasswordBy::Connect { at, .. } => at.to_string(),
                OnePasswordBy::Program { program, .. } => program.clone(),
            },
        }
    }
}

/// Asks with a bearer token; where that is refused and there is a newer one, once more. With a file of roots, the
/// certificate must lead to one of them.
async fn ask(inner: &Arc<Inner>, (at, roots): (&Endpoint, Option<&Path>), token: &Uses) -> Result<Told, Cause> {
    let held = inner.used(token).await?;
    let shown = |held: &Held| fits(token, said::value("Bearer ", Field::Secret(&held.secret)));
    let told = inner.errand_trusting(roots, at, Errand::get(shown(&held)?)).await?;
    if told.status != StatusCode::UNAUTHORIZED || !inner.refused(token.id, held.version).await {
        return Ok(told);
    }
    let held = inner.used(token).await?;
    inner.errand_trusting(roots, at, Errand::get(shown(&held)?)).await
}

/// What is wrong with an answer, by its status alone.
fn refused(at: &Endpoint, told: &Told) -> Cause {
    let reason = match told.status.as_u16() {
        401 => "it does not take this token",
        403 => "the token may not read this",
        404 => "there is no such secret",
        429 => "it is asked too often",
        _ => "it refuses",
    };
    answered(at, told, reason)
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
