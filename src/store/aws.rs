//! Calls of AWS's services that Keyferry makes for itself: whose keys sign them, and with which clock.

use super::error::Cause;
use super::remote::Errand;
use super::{Held, Inner, source};
use crate::base::clock;
use crate::base::endpoint::Endpoint;
use crate::base::metadata::PARTS;
use crate::base::secret::Secret;
use crate::config::aws::{AWS_VARIABLES, AwsKeys};
use crate::config::mint::Uses;
use crate::net::authority;
use crate::net::errand::Told;
use crate::sign::aws_call::{Call, Keys, signed};
use crate::sign::picked;
use crate::sign::session;
use crate::sign::sigv4::Scope;
use http::header::ACCEPT;
use http::{HeaderValue, Method};
use std::sync::Arc;
use std::time::SystemTime;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// What is called, and where.
pub(super) struct Asked<'a> {
    pub(super) at: &'a Endpoint,
    pub(super) region: &'a str,
    /// The service's signing name.
    pub(super) service: &'static str,
    pub(super) call: Call,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Asked<'_> {
    /// Asks; once more where the keys have ended and there are others, and once more by the service's own clock where that is
    /// why it refuses.
    pub(super) async fn ask(&self, inner: &Arc<Inner>, keys: &AwsKeys) -> Result<Told, Cause> {
        let mut signing = Signing::of(inner, keys).await?;
        let mut told = self.signed(inner, &signing, Duration::ZERO).await?;
        // Temporary keys may have ended before their time: others are asked for, once.
        if STALE.contains(&said(&told)) && signing.renewed(inner, keys).await {
            signing = Signing::of(inner, keys).await?;
            told = self.signed(inner, &signing, Duration::ZERO).await?;
        }
        match skew(&told, SystemTime::now()) {
            Some(ahead) => self.signed(inner, &signing, ahead).await,
            None => Ok(told),
        }
    }

    async fn signed(&self, inner: &Inner, keys: &Signing, ahead: Duration) -> Result<Told, Cause> {
        let form = format_description!("[year][month][day]T[hour][minute][second]Z");
        let now = OffsetDateTime::from(SystemTime::now()).checked_add(ahead);
        let stamp = now.and_then(|now| now.format(form).ok());
        let scope = Scope {
            stamp: stamp.ok_or(Cause::Unknown)?,
            region: self.region.to_owned(),
            service: self.service.to_owned(),
        };
        let host = authority(&self.at.target, self.at.scheme);
        let headers = signed(&host, self.call, &self.body, keys.lent(), scope);
        let mut headers = headers.ok_or_else(|| Cause::NoCredential {
            at: "the key for AWS".to_owned(),
            reason: "it cannot stand in a header".to_owned(),
        })?;
        if self.call == Call::Form {
            headers.push((ACCEPT, HeaderValue::from_static("text/xml")));
        }
        let errand = Errand {
            method: Method::POST,
            headers,
            body: self.body.clone(),
        };
        inner.errand(self.at, errand).await
    }
}

/// How far the clock of a service is ahead that refuses a signature for its time; `None` where that is not why.
fn skew(told: &Told, now: SystemTime) -> Option<Duration> {
    if !SKEWED.contains(&said(told)) {
        return None;
    }
    let ahead = clock::ahead(&told.headers, now)?;
    let off = ahead.unsigned_abs();
    (off > BORNE && off < FARTHEST).then_some(ahead)
}

/// AWS takes what was signed so long ago, or is still to come.
const BORNE: std::time::Duration = std::time::Duration::from_secs(300);
/// What is farther off is no clock that went wrong by itself.
const FARTHEST: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The name of the error in an answer; none where it is good.
pub(super) fn said(told: &Told) -> &str {
    match told.status.is_success() {
        true => "",
        false => session::error(&told.body).unwrap_or_default(),
    }
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
    /// Of a session, with the version of the whole.
    Session { parts: [Secret; 3], version: u64 },
}

impl Signing {
    async fn of(inner: &Arc<Inner>, keys: &AwsKeys) -> Result<Self, Cause> {
        match keys {
            AwsKeys::Environment => {
                let [id, secret, token] = AWS_VARIABLES.map(|name| source::env(name, &source::Shape::default()));
                Ok(Self::Read {
                    id: id?,
                    secret: secret?,
                    token: match token {
                        Err(Cause::EnvUnset(_)) => None,
                        token => Some(token?),
                    },
                })
            }
            AwsKeys::Secrets { id, secret, token } => Ok(Self::Held {
                id: inner.used(id).await?,
                secret: inner.used(secret).await?,
                token: match token {
                    Some(token) => Some(inner.used(token).await?),
                    None => None,
                },
            }),
            AwsKeys::Session(whole) => {
                let held = inner.used(whole).await?;
                let [id, secret, token] = PARTS.map(|name| picked::field(&held.secret, name).ok_or(Cause::Unknown));
                Ok(Self::Session {
                    parts: [id?, secret?, token?],
                    version: held.version,
                })
            }
        }
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
            Self::Session {
                parts: [id, secret, token],
                ..
            } => Keys {
                id,
                secret,
                token: Some(token),
            },
        }
    }

    /// Has all of them asked for anew, and tells whether there are others then.
    async fn renewed(&self, inner: &Arc<Inner>, keys: &AwsKeys) -> bool {
        let pairs: Vec<(&Uses, u64)> = match (keys, self) {
            (AwsKeys::Session(whole), Self::Session { version, .. }) => vec![(whole, *version)],
            (keys, Self::Held { id, secret, token }) => {
                let versions = [id, secret].into_iter().chain(token).map(|held| held.version);
                keys.uses().into_iter().zip(versions).collect()
            }
            _ => Vec::new(),
        };
        let mut renewed = false;
        for (uses, version) in pairs {
            renewed |= inner.refused(uses.id, version).await;
        }
        renewed
    }
}

/// What AWS says of keys that have ended or were revoked.
const STALE: [&str; 4] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
];

/// What it says of a signature that is too old, or is still to come.
const SKEWED: [&str; 5] = [
    "RequestTimeTooSkewed",
    "RequestExpired",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "RequestInTheFuture",
];
