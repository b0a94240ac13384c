//! Google Secret Manager.

use super::super::Inner;
use super::super::error::Cause;
use super::super::remote::answered;
use super::{Whole, ask, refused};
use crate::config::kept::Shown;
use crate::sign::picked;
use std::sync::Arc;

/// Reads one version of a secret.
pub(super) async fn read(inner: &Arc<Inner>, spec: &Shown) -> Result<Whole, Cause> {
    let told = ask(inner, (&spec.at, None), &spec.token).await?;
    if !told.status.is_success() {
        return Err(refused(&spec.at, &told));
    }
    let secret = picked::text(&told.body, &["payload", "data"]).and_then(|value| picked::decoded(&value));
    let secret = secret.ok_or_else(|| answered(&spec.at, &told, "its answer holds no value"))?;
    let at = spec.at.to_string();
    Ok(Whole { secret, at })
}
