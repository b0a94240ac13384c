//! One call of a service of AWS's, signed: what stands in its head.

use super::said::{Field, value};
use super::sigv4::{ALGORITHM, PathStyle, Request, Scope, SigningKey, sha256, signed_names};
use crate::base::secret::Secret;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// Whose keys sign.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'k> {
    /// The id of the access key.
    pub id: &'k Secret,
    /// The key.
    pub secret: &'k Secret,
    /// The token of temporary credentials.
    pub token: Option<&'k Secret>,
}

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// In JSON, with the method in the head, as `secretsmanager.GetSecretValue`.
    Json(&'static str),
    /// By a form that says all.
    Form,
}

/// The type of the body of [`Call::Form`].
pub const FORM: &str = "application/x-www-form-urlencoded";

/// The fields of a POST of this body to `/`. `None` where a key cannot stand in a header.
pub fn signed(
    host: &str,
    call: Call,
    body: &[u8],
    keys: Keys<'_>,
    scope: Scope,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let kind = match call {
        Call::Json(_) => "application/x-amz-json-1.1",
        Call::Form => FORM,
    };
    let mut fields = vec![
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            HeaderName::from_static("x-amz-date"),
            HeaderValue::from_str(&scope.stamp).ok()?,
        ),
    ];
    if let Call::Json(method) = call {
        fields.push((
            HeaderName::from_static("x-amz-target"),
            HeaderValue::from_static(method),
        ));
    }
    if let Some(token) = keys.token {
        fields.push((
            HeaderName::from_static("x-amz-security-token"),
            value("", Field::Secret(token))?,
        ));
    }
    let key = SigningKey::new(keys.secret, scope);
    let written = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let headers: Vec<_> = std::iter::once(("host", host.as_bytes())).chain(written).collect();
    let signature = key.sign(&Request {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
        payload: &sha256(body),
        style: PathStyle::Hierarchy,
    });
    let (names, credential) = (signed_names(&headers), key.scope().credential());
    let (before, after) = (
        format!("{ALGORITHM} Credential="),
        format!("/{credential}, SignedHeaders={names}, Signature={signature}"),
    );
    let whole = |id: &[u8]| Zeroizing::new([before.as_bytes(), id, after.as_bytes()].concat());
    let mut shown = keys.id.expose(|id| HeaderValue::from_bytes(&whole(id))).ok()?;
    shown.set_sensitive(true);
    fields.push((AUTHORIZATION, shown));
    Some(fields)
}
