//! AWS Secrets Manager and Systems Manager's Parameter Store.

use super::super::Inner;
use super::super::aws::{Asked, said};
use super::super::error::Cause;
use super::super::remote::answered;
use super::Whole;
use crate::config::kept::{Aws, AwsKept};
use crate::sign::aws_call::Call;
use crate::sign::picked;
use crate::sign::said::{self as written, Field};
use http::StatusCode;
use std::sync::Arc;

/// Reads a secret or a parameter.
pub(super) async fn read(inner: &Arc<Inner>, spec: &Aws) -> Result<Whole, Cause> {
    let (service, method, body) = match &spec.what {
        AwsKept::Secret { id, stage } => {
            let mut fields = vec![("SecretId", Field::Text(id))];
            fields.extend(stage.iter().map(|stage| ("VersionStage", Field::Text(stage))));
            (
                "secretsmanager",
                "secretsmanager.GetSecretValue",
                written::json(&fields),
            )
        }
        AwsKept::Parameter(name) => {
            let body = serde_json::json!({"Name": name, "WithDecryption": true}).to_string();
            ("ssm", "AmazonSSM.GetParameter", Some(body.into_bytes().into()))
        }
    };
    let asked = Asked {
        at: &spec.at,
        region: &spec.region,
        service,
        call: Call::Json(method),
        body: body.ok_or(Cause::Unknown)?,
    };
    let told = asked.ask(inner, &spec.keys).await?;
    if !told.status.is_success() {
        return Err(answered(&spec.at, &told, reason(said(&told), told.status)));
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
