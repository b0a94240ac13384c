//! Credentials for a while: of the container, of the instance, or of STS. Each is asked for by what the config names, and where
//! AWS tells its machines to ask; nothing is tried in turn.

use super::super::Inner;
use super::super::aws::{Asked, said};
use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::{Errand, answered};
use super::super::source::{self, Shape};
use crate::base::clock;
use crate::base::endpoint::Endpoint;
use crate::base::metadata::Metadata;
use crate::base::secret::Secret;
use crate::config::aws::{AwsRole, AwsSession, CONTAINER_TOKEN, CONTAINER_URI, INSTANCE, REGION, WEB_IDENTITY};
use crate::net::errand::Told;
use crate::sign::aws_call::{Call, FORM};
use crate::sign::said::{self as written, Field, term};
use crate::sign::session::{self, Session};
use http::header::{ACCEPT, AUTHORIZATION, HeaderName};
use http::{HeaderValue, Method};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

/// Asks for credentials.
pub(super) async fn session(inner: &Arc<Inner>, spec: &AwsSession) -> Result<Fetched, Cause> {
    match spec {
        AwsSession::Container => container(inner).await,
        AwsSession::Instance => instance(inner).await,
        AwsSession::WebIdentity { region } => web_identity(inner, region.as_deref()).await,
        AwsSession::Role(role) => assumed(inner, role).await,
    }
}

/// Whom it asks, for an error.
pub(super) fn asked(spec: &AwsSession) -> &'static str {
    match spec {
        AwsSession::Container => "the container's credential service",
        AwsSession::Instance => "the instance's metadata service",
        AwsSession::WebIdentity { .. } | AwsSession::Role(_) => "STS",
    }
}

/// ECS and EKS Pod Identity: one GET, with a token that is read afresh.
async fn container(inner: &Arc<Inner>) -> Result<Fetched, Cause> {
    let [relative, full] = CONTAINER_URI.map(variable);
    let (name, url) = match (relative?, full?) {
        (Some(path), _) => (CONTAINER_URI[0], format!("{ECS}{path}")),
        (None, Some(url)) => (CONTAINER_URI[1], url),
        (None, None) => return Err(Cause::NotOnAws(CONTAINER_URI[1])),
    };
    let [file, token] = CONTAINER_TOKEN.map(variable);
    let token = match (file?, token?) {
        (Some(path), _) => Some(of_file(path).await?),
        (None, Some(_)) => Some(source::env(CONTAINER_TOKEN[1], &Shape::default())?),
        (None, None) => None,
    };
    let mut errand = get();
    if let Some(token) = &token {
        let shown = written::value("", Field::Secret(token));
        errand = errand.with(AUTHORIZATION, shown.ok_or_else(|| unfit(CONTAINER_TOKEN[0]))?);
    }
    let (at, told) = match (Metadata::parse(&url), Endpoint::parse(&url)) {
        (Some(nearby), _) => (nearby.endpoint().clone(), inner.errand_nearby(&nearby, errand).await?),
        (None, Ok(at)) => {
            let told = inner.errand(&at, errand).await?;
            (at, told)
        }
        (None, Err(_)) => return Err(unfit(name)),
    };
    let reason = match told.status.as_u16() {
        401 | 403 => "it does not take the token of `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`",
        404 => "it has no credentials for this container; has its task or pod a role?",
        _ => "it refuses",
    };
    taken(&at, &told, reason, session::of_json)
}

/// EC2, version 2 of its service alone: a token first, which version 1 knows nothing of.
async fn instance(inner: &Arc<Inner>) -> Result<Fetched, Cause> {
    let [place, family] = INSTANCE.map(variable);
    let usual = match family?.is_some_and(|family| family.eq_ignore_ascii_case("ipv6")) {
        true => EC2_V6,
        false => EC2,
    };
    let place = Metadata::parse(&place?.unwrap_or_else(|| usual.to_owned())).ok_or_else(|| unfit(INSTANCE[0]))?;
    let at = |path: &str| place.at(path).ok_or(Cause::Unknown);
    let tokens = at("/latest/api/token")?;
    let errand = Errand {
        method: Method::PUT,
        ..get()
    };
    let errand = errand.with(TOKEN_TTL, HeaderValue::from_static("60"));
    let token = tokio::time::timeout(FIRST_ANSWER, inner.errand_nearby(&tokens, errand)).await;
    let token = token.map_err(|_| Cause::RemoteTimeout {
        at: format!(
            "{} (in a container, the instance's hop limit must be 2)",
            tokens.endpoint()
        ),
        after: FIRST_ANSWER,
    })??;
    if !token.status.is_success() {
        return Err(answered(
            tokens.endpoint(),
            &token,
            "it gives no token; is this an EC2 instance, with its metadata service on?",
        ));
    }
    let token = Secret::new(token.body.to_vec()).map_err(|_| unfit("the metadata service's token"))?;
    let shown = || {
        let value = written::value("", Field::Secret(&token));
        Ok::<_, Cause>(get().with(TOKEN, value.ok_or_else(|| unfit("the metadata service's token"))?))
    };
    let roles = at(ROLES)?;
    let told = inner.errand_nearby(&roles, shown()?).await?;
    let named = std::str::from_utf8(&told.body)
        .ok()
        .and_then(|text| text.lines().next());
    let fit = |name: &&str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_+=.@,-".contains(&b);
        !name.is_empty() && name.len() <= 64 && name.bytes().all(word)
    };
    let role = match named.map(str::trim).filter(fit) {
        Some(role) if told.status.is_success() => at(&format!("{ROLES}{role}"))?,
        _ => return Err(answered(roles.endpoint(), &told, "the instance has no role")),
    };
    let told = inner.errand_nearby(&role, shown()?).await?;
    taken(
        role.endpoint(),
        &told,
        "it gives no credentials for the instance's role",
        session::of_json,
    )
}

/// IAM roles for service accounts: the token of the account, which is read afresh, is all that proves who asks.
async fn web_identity(inner: &Arc<Inner>, region: Option<&str>) -> Result<Fetched, Cause> {
    let [file, role, name] = WEB_IDENTITY.map(variable);
    let file = file?.ok_or(Cause::NotOnAws(WEB_IDENTITY[0]))?;
    let role = role?.ok_or(Cause::NotOnAws(WEB_IDENTITY[1]))?;
    let name = name?.unwrap_or_else(|| SESSION_NAME.to_owned());
    let token = of_file(file).await?;
    let (at, _) = sts(region)?;
    let body = written::form(&[
        ("Action", Field::Text("AssumeRoleWithWebIdentity")),
        ("Version", Field::Text(VERSION)),
        ("RoleArn", Field::Text(&role)),
        ("RoleSessionName", Field::Text(&name)),
        ("WebIdentityToken", Field::Secret(&token)),
    ]);
    let errand = Errand::post(FORM, body).with(ACCEPT, HeaderValue::from_static("text/xml"));
    let told = inner.errand(&at, errand).await?;
    taken(&at, &told, refused(said(&told)), session::of_xml)
}

/// A role that is assumed with other credentials.
async fn assumed(inner: &Arc<Inner>, role: &AwsRole) -> Result<Fetched, Cause> {
    let (at, region) = sts(role.region.as_deref())?;
    let mut fields = vec![
        ("Action", Field::Text("AssumeRole")),
        ("Version", Field::Text(VERSION)),
        ("RoleArn", Field::Text(&role.arn)),
        ("RoleSessionName", Field::Text(SESSION_NAME)),
    ];
    fields.extend(role.external_id.iter().map(|id| ("ExternalId", Field::Text(id))));
    let asked = Asked {
        at: &at,
        region: &region,
        service: "sts",
        call: Call::Form,
        body: written::form(&fields),
    };
    let told = asked.ask(inner, &role.keys).await?;
    taken(&at, &told, refused(said(&told)), session::of_xml)
}

/// STS of a region; where nothing names one, that of all of them.
fn sts(region: Option<&str>) -> Result<(Endpoint, String), Cause> {
    let [own, usual] = REGION.map(variable);
    let region = region.map(str::to_owned).or(own?).or(usual?);
    let host = match region.as_deref() {
        None => "sts.amazonaws.com".to_owned(),
        Some(region) if region.starts_with("cn-") => format!("sts.{region}.amazonaws.com.cn"),
        Some(region) => format!("sts.{region}.amazonaws.com"),
    };
    let at = Endpoint::parse(&format!("https://{host}")).map_err(|_| unfit(REGION[0]))?;
    Ok((at, region.unwrap_or_else(|| "us-east-1".to_owned())))
}

/// What is wrong, in words of ours.
fn refused(kind: &str) -> &'static str {
    match kind {
        "AccessDenied" | "AccessDeniedException" => {
            "this role may not be assumed by who asks; its trust policy says who may"
        }
        "ExpiredTokenException" | "ExpiredToken" => "the token has expired",
        "InvalidIdentityToken" | "IDPRejectedClaim" => "it does not take the token of this account",
        "InvalidClientTokenId" | "UnrecognizedClientException" => "it does not know this key",
        "SignatureDoesNotMatch" | "InvalidSignatureException" => {
            "it does not take this signature; is the key right, and this machine's clock?"
        }
        "RegionDisabledException" => "it is not switched on in this region",
        _ => "it refuses",
    }
}

/// What was given, for as long as it is good by the clock of who gave it.
fn taken(at: &Endpoint, told: &Told, reason: &str, read: fn(&[u8]) -> Option<Session>) -> Result<Fetched, Cause> {
    if !told.status.is_success() {
        return Err(answered(at, told, reason));
    }
    let Session { whole, until } =
        read(&told.body).ok_or_else(|| answered(at, told, "its answer holds no credentials"))?;
    let now = SystemTime::now();
    let ahead = clock::ahead(&told.headers, now).unwrap_or(time::Duration::ZERO);
    let until = until.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
    let until = until.ok_or_else(|| answered(at, told, "its answer does not say until when they are good"))?;
    let left = (until - OffsetDateTime::from(now) - ahead).as_seconds_f64();
    let ttl = term(Some(left)).map_err(|why| answered(at, told, why))?;
    Ok(Fetched::new(whole, ttl))
}

fn get() -> Errand {
    Errand {
        method: Method::GET,
        headers: Vec::new(),
        body: Zeroizing::default(),
    }
}

/// A variable that leads to a service; none where it is unset or empty.
fn variable(name: &str) -> Result<Option<String>, Cause> {
    match source::env(name, &Shape::default()) {
        Ok(value) => Ok(written::plain(&value)),
        Err(Cause::EnvUnset(_)) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// A token in a file that others renew.
async fn of_file(path: String) -> Result<Secret, Cause> {
    let read = tokio::task::spawn_blocking(move || source::regular(&PathBuf::from(path), &Shape::default()));
    read.await.map_err(|_| Cause::Stopping)?
}

fn unfit(what: &str) -> Cause {
    Cause::Unfit(format!("`{what}` holds nothing that can be used for this"))
}

const ECS: &str = "http://169.254.170.2";
const EC2: &str = "http://169.254.169.254";
const EC2_V6: &str = "http://[fd00:ec2::254]";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
/// Of STS's API.
const VERSION: &str = "2011-06-15";
/// As the session is called in AWS's own logs.
const SESSION_NAME: &str = "keyferry";
/// The service is on the machine itself: where it says nothing, it will not.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
