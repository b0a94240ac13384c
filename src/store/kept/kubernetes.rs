//! Secrets of Kubernetes, by its API. Those that are mounted into a pod are files like any other.

use super::super::Inner;
use super::super::error::Cause;
use super::super::remote::answered;
use super::{Whole, ask, refused};
use crate::config::kept::{ACCOUNT, Kubernetes};
use crate::sign::picked;
use std::path::Path;
use std::sync::Arc;

/// Reads one key of a Secret.
pub(super) async fn read(inner: &Arc<Inner>, spec: &Kubernetes) -> Result<Whole, Cause> {
    let own;
    let namespace = match &spec.namespace {
        Some(namespace) => namespace,
        None => {
            own = account_namespace().await?;
            &own
        }
    };
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", spec.name);
    let at = spec.api.join(&path).ok_or(Cause::Unknown)?;
    let told = ask(inner, (&at, spec.ca.as_deref()), &spec.token).await?;
    if !told.status.is_success() {
        return Err(refused(&at, &told));
    }
    let value = picked::text(&told.body, &["data", &spec.key]);
    let value = value.ok_or_else(|| {
        answered(
            &at,
            &told,
            format!("the Secret has nothing under the key `{}`", spec.key),
        )
    })?;
    let secret = picked::decoded(&value);
    let secret = secret.ok_or_else(|| answered(&at, &told, format!("`{}` is no base64", spec.key)))?;
    let at = at.to_string();
    Ok(Whole { secret, at })
}

/// The namespace of the pod that Keyferry runs in.
async fn account_namespace() -> Result<String, Cause> {
    let path = Path::new(ACCOUNT).join("namespace");
    let failed = |reason: String| Cause::File {
        path: path.clone(),
        reason,
    };
    let text = tokio::fs::read_to_string(&path)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let name = text.trim();
    let fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match !name.is_empty() && name.len() < 64 && name.bytes().all(fit) {
        true => Ok(name.to_owned()),
        false => Err(failed("it holds no name of a namespace".to_owned())),
    }
}
