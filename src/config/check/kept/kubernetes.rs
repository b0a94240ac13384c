//! Secrets of Kubernetes, by its API.

use super::super::mint::{endpoint, uses};
use super::super::scope::Scope;
use super::{Common, named};
use crate::base::endpoint::Endpoint;
use crate::config::kept::{ACCOUNT, Kept, Kubernetes, Place};
use crate::config::mint::Uses;
use crate::config::model::Source;
use crate::config::raw_kept::{RawKubernetes, RawKubernetesSecret};
use crate::config::read::Findings;
use std::path::Path;

/// Where a pod finds the API.
const API: &str = "https://kubernetes.default.svc";
/// What the token of the pod's own account is called; no secret of the config can have this name.
const TOKEN: &str = "kubernetes/token";

/// Reads one.
pub(super) fn secret(
    raw: &RawKubernetesSecret,
    cluster: Option<&RawKubernetes>,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Kept> {
    let name = named(&raw.name, ".-", "the name of a Secret", found);
    let key = named(&raw.key, "._-", "a key of the Secret's data", found);
    let namespace = match raw
        .namespace
        .as_ref()
        .or(cluster.and_then(|cluster| cluster.namespace.as_ref()))
    {
        Some(text) => Some(named(text, "-", "the name of a namespace", found)?),
        None => None,
    };
    let api = match cluster.and_then(|cluster| cluster.api.as_ref()) {
        Some(text) => endpoint(text, found)?,
        None => Endpoint::parse(API).ok()?,
    };
    let ca = match cluster.map(|cluster| (&cluster.ca, &cluster.api)) {
        Some((Some(path), _)) => Some(scope.path(path, found)?),
        Some((None, Some(_))) => None,
        _ => Some(Path::new(ACCOUNT).join("ca.crt")),
    };
    let (name, key, token) = (name?, key?, token(cluster, scope, found)?);
    let place = Kubernetes {
        api,
        ca,
        token,
        namespace,
        name,
        key,
    };
    common!(raw, cluster).kept(Place::Kubernetes(Box::new(place)), found)
}

fn token(cluster: Option<&RawKubernetes>, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Uses> {
    match cluster.and_then(|cluster| cluster.token.as_ref()) {
        Some(name) => uses(name, scope, found),
        None => Some(account(scope)),
    }
}

/// The token of the account of the pod that Keyferry runs in.
pub(in super::super) fn account(scope: &mut Scope<'_>) -> Uses {
    scope.implied(TOKEN, Source::File(Path::new(ACCOUNT).join("token")))
}
