//! AWS Secrets Manager and Systems Manager's Parameter Store.

use super::super::error::Cause;
use super::super::remote::{Errand, answered};
use super::super::{Held, Inner, source};
use super::Whole;
use crate::base::secret::Secret;
use crate::config::kept::{AWS_VARIABLES, Aws, AwsKept, AwsKeys};
use crate::config::mint::Uses;
use crate::net::authority;
use crate::net::errand::Told;
use crate::sign::aws_call::{Keys, signed};
use crate::sign::picked;
use crate::sign::said::{self, Field};
use crate::sign::sigv4::Scope;
use http::{Method, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::macros::format_description;

/// Reads a secret or a parameter.
pub(super) async fn read(inner: &Arc<Inner>, spec: &Aws) -> Result<Whole, Cause> {
    let keys = Signing::of(inner, &spec.keys).await?;
    let mut told = call(inner, spec, &keys).await?;
    // Temporary keys may have ended before their time: others are asked for, once.
    if STALE.contains(&said(&told).as_str()) && keys.renewed(inner, &spec.keys).await {
        told = call(inner, spec, &Signing::of(inner, &spec.keys).await?).await?;
    }
    if !told.status.is_success() {
        return Err(answered(&spec.at, &told, reason(&said(&told), told.status)));
    }
    let secret = match &spec.what {
        AwsKept::Secret { .. } => {
            let binary = || picked::decoded(&picked::text(&told.body, &["SecretBinary"])?);
            picked::text(&told.body, &["SecretString"]).or_else(binary)
        }
        AwsKept::Parameter(_) => picked::text(&told.body, &["Parameter", "Value"]),
    };
    let secret = secret.ok_or_else(|| answered(&spec.at, &told, "its answer holds no value"))?;
    let at = spec.at.to_string();
    Ok(Whole { secret, at })
}

async fn call(inner: &Inner, spec: &Aws, keys: &Signing) -> Result<Told, Cause> {
    let (service, method, body) = match &spec.what {
        AwsKept::Secret { id, stage } => {
            let mut fields = vec![("SecretId", Field::Text(id))];
            fields.extend(stage.iter().map(|stage| ("VersionStage", Field::Text(stage))));
            ("secretsmanager", "secretsmanager.GetSecretValue", said::json(&fields))
        }
        AwsKept::Parameter(name) => {
            let body = serde_json::json!({"Name": name, "WithDecryption": true}).to_string();
            ("ssm", "AmazonSSM.GetParameter", Some(body.into_bytes().into()))
        }
    };
    let body = body.ok_or(Cause::Unknown)?;
    let form = format_description!("[year][month][day]T[hour][minute][second]Z");
    let stamp = OffsetDateTime::from(SystemTime::now()).format(form);
    let scope = Scope {
        stamp: stamp.map_err(|_| Cause::Unknown)?,
        region: spec.region.clone(),
        service: service.to_owned(),
    };
    let host = authority(&spec.at.target, spec.at.scheme);
    let headers = signed(&host, method, &body, keys.lent(), scope).ok_or_else(|| Cause::NoCredential {
        at: "the key for AWS".to_owned(),
        reason: "it cannot stand in a header".to_owned(),
    })?;
    let method = Method::POST;
    inner.errand(&spec.at, Errand { method, headers, body }).await
}

/// The keys at hand.
enum Signing {
    Read {
        id: Secret,
        secret: Secret,
        token: Option<Secret>,
    },
    Held {
        id: Arc<Held>,
        secret: Arc<Held>,
        token: Option<Arc<Held>>,
    },
}

impl Signing {
    async fn of(inner: &Arc<Inner>, keys: &AwsKeys) -> Result<Self, Cause> {
        let AwsKeys::Secrets { id, secret, token } = keys else {
            let [id, secret, token] = AWS_VARIABLES.map(|name| source::env(name, &source::Shape::default()));
            return Ok(Self::Read {
                id: id?,
                secret: secret?,
                token: match token {
                    Err(Cause::EnvUnset(_)) => None,
                    token => Some(token?),
                },
            });
        };
        Ok(Self::Held {
            id: inner.used(id).await?,
            secret: inner.used(secret).await?,
            token: match token {
                Some(token) => Some(inner.used(token).await?),
                None => None,
            },
        })
    }

    fn lent(&self) -> Keys<'_> {
        match self {
            Self::Read { id, secret, token } => Keys {
                id,
                secret,
                token: token.as_ref(),
            },
            Self::Held { id, secret, token } => Keys {
                id: &id.secret,
                secret: &secret.secret,
                token: token.as_ref().map(|token| &token.secret),
            },
        }
    }

    /// Has all of them asked for anew, and tells whether there are others then.
    async fn renewed(&self, inner: &Arc<Inner>, keys: &AwsKeys) -> bool {
        let (
            AwsKeys::Secrets { id, secret, token },
            Self::Held {
                id: old_id,
                secret: old_secret,
                token: old_token,
            },
        ) = (keys, self)
        else {
            return false;
        };
        let mut renewed = false;
        let pairs = [(id, old_id), (secret, old_secret)];
        let pairs: Vec<(&Uses, &Arc<Held>)> = pairs
            .into_iter()
            .chain(token.as_ref().zip(old_token.as_ref()))
            .collect();
        for (uses, old) in pairs {
            renewed |= inner.refused(uses.id, old.version).await;
        }
        renewed
    }
}

/// The name of the error in an answer, without what stands around it.
fn said(told: &Told) -> String {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "__type")]
        kind: String,
    }
    if told.status.is_success() {
        return String::new();
    }
    let kind = serde_json::from_slice::<Answer>(&told.body).map_or_else(|_| String::new(), |answer| answer.kind);
    kind.rsplit('#').next().unwrap_or_default().to_owned()
}

/// What AWS says of keys that have ended or were revoked.
const STALE: [&str; 4] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
];

/// What is wrong, in words of ours: nothing of the answer is passed on.
fn reason(kind: &str, status: StatusCode) -> &'static str {
    match kind {
        "ResourceNotFoundException" | "ParameterNotFound" | "ParameterVersionNotFound" => {
            "there is no such secret or parameter, or no such version of it"
        }
        "AccessDeniedException" | "AccessDenied" => "these keys may not read it",
        "ExpiredTokenException" | "ExpiredToken" => "the session token has expired",
        "UnrecognizedClientException" | "InvalidClientTokenId" | "MissingAuthenticationTokenException" => {
            "it does not know this key"
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignatureException" => {
            "it does not take this signature; is the key right, and this machine's clock?"
        }
        "DecryptionFailure" | "InvalidKeyId" => "the key that it is encrypted with may not be used",
        "InvalidRequestException" => "it is marked for deletion, or has no value yet",
        "ThrottlingException" | "TooManyRequestsException" => "it is asked too often",
        _ if status == StatusCode::FORBIDDEN => "it does not take these keys",
        _ => "it refuses",
    }
}
