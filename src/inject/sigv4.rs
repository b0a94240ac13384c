//! Signs a request to AWS, or to what speaks as it does, in the place of what the agent's client signed with keys that
//! are worth nothing. A request of a client that signs nothing is signed too.

mod checked;
mod chunks;
mod payload;

pub use checked::Mismatch;
pub use chunks::Misframed;

use super::arm::Armed;
use super::{Error, place};
use crate::base::aws_host;
use crate::config::model::SigV4;
use crate::net;
use crate::policy::Permitted;
use crate::sign::sigv4::{self, PathStyle, Request, Scope, SigningKey, encoded, signed_names};
use crate::sign::sigv4a;
use crate::store::Held;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use payload::Payload;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const REGIONS: HeaderName = HeaderName::from_static("x-amz-region-set");
/// The fields that are Keyferry's alone to fill.
pub(super) static FILLED: [HeaderName; 4] = [AUTHORIZATION, DATE, TOKEN, REGIONS];

/// The parameters of a signature in a query.
const SIGNATURE: &str = "X-Amz-Signature";
const EXPIRES: &str = "X-Amz-Expires";
const CREDENTIAL: &str = "X-Amz-Credential";
const IN_QUERY: [&str; 8] = [
    "X-Amz-Algorithm",
    CREDENTIAL,
    "X-Amz-Date",
    EXPIRES,
    "X-Amz-SignedHeaders",
    "X-Amz-Security-Token",
    "X-Amz-Region-Set",
    SIGNATURE,
];
/// Those of a signature before version 4, which some clients still make for URLs; the first tells that it is one.
const OLDER: [&str; 3] = ["AWSAccessKeyId", "Signature", "Expires"];
/// Seconds that a signed URL is good for at most. It is sent at once, so that more would be good for a thief alone.
const LONGEST_EXPIRY: u32 = 900;

/// The values of one signature.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) id: (Arc<Held>, Arc<str>),
    pub(super) secret: Arc<Held>,
    pub(super) token: Option<(Arc<Held>, Arc<str>)>,
}

/// Signs the request. Whatever signature it came with goes; what it says of its body stays true. The signature is
/// returned: in an echo of the request it would be worth something.
///
/// # Errors
/// When nothing says for which region and service to sign, when the body is framed in a way that cannot be signed
/// anew, or when it does not come whole in time where all of it is signed.
pub(super) async fn sign(
    permitted: &mut Permitted,
    spec: &SigV4,
    (keys, now): (&Keys, OffsetDateTime),
    armed: &mut Armed,
    time: Duration,
) -> Result<String, Error> {
    let asked = Asked::read(permitted);
    let scope = scope(spec, permitted.target().host.name(), &asked, now)?;
    let style = match scope.service.as_str() {
        "s3" | "s3express" | "s3-object-lambda" | "s3-outposts" => PathStyle::Key,
        _ => PathStyle::Hierarchy,
    };
    strip(permitted)?;
    let said = payload::said(permitted.headers())?;
    let how = payload::How {
        style,
        in_query: asked.expires.is_some(),
        for_set: is_set(&scope.region),
    };
    let payload = payload::of(permitted, spec, said, how, armed, time).await?;
    let key = Signer::new(keys, scope)?;
    let headers = permitted.headers_mut();
    if headers.contains_key(CONTENT_SHA256) || style == PathStyle::Key && asked.expires.is_none() {
        let value = HeaderValue::from_str(payload.word()).map_err(|_| Error::Unsignable("its hash is no text"))?;
        headers.insert(CONTENT_SHA256, value);
    }
    let signature = match asked.expires {
        Some(expires) => in_query(permitted, keys, &key, &payload, (style, expires))?,
        None => in_header(permitted, keys, &key, &payload, style)?,
    };
    match key {
        Signer::Shared(key) => payload.guard(permitted, Some(*key), &signature, &armed.memory),
        Signer::Pair(_) => payload.guard(permitted, None, &signature, &armed.memory),
    }
    Ok(signature)
}

/// What signs: for one region by a key that the service has too, for a set of them by a key of which it has the other half.
enum Signer {
    Shared(Box<SigningKey>),
    Pair(sigv4a::Key),
}

impl Signer {
    fn new(keys: &Keys, scope: Scope) -> Result<Self, Error> {
        if !is_set(&scope.region) {
            return Ok(Self::Shared(Box::new(SigningKey::new(&keys.secret.secret, scope))));
        }
        let key = sigv4a::Key::new(&keys.id.0.secret, &keys.secret.secret, scope);
        Ok(Self::Pair(
            key.ok_or(Error::Unsignable("no key can be made of this secret"))?,
        ))
    }

    fn scope(&self) -> &Scope {
        match self {
            Self::Shared(key) => key.scope(),
            Self::Pair(key) => key.scope(),
        }
    }

    /// The regions that the request itself must name.
    fn regions(&self) -> Option<&str> {
        match self {
            Self::Shared(_) => None,
            Self::Pair(key) => Some(&key.scope().region),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Shared(_) => sigv4::ALGORITHM,
            Self::Pair(_) => sigv4a::ALGORITHM,
        }
    }

    fn credential(&self) -> String {
        match self {
            Self::Shared(key) => key.scope().credential(),
            Self::Pair(key) => key.credential(),
        }
    }

    fn sign(&self, request: &Request<'_>) -> Result<String, Error> {
        match self {
            Self::Shared(key) => Ok(key.sign(request)),
            Self::Pair(key) => key
                .sign(request)
                .ok_or(Error::Unsignable("there is no randomness to sign with")),
        }
    }
}

/// Whether a region is a set of them.
fn is_set(region: &str) -> bool {
    region.contains(['*', ','])
}

/// What the agent's client said in its own signature.
#[derive(Debug, Default)]
struct Asked {
    region: Option<String>,
    service: Option<String>,
    /// The seconds that a signed URL is good for; `None` where the signature is not in the query.
    expires: Option<u32>,
}

impl Asked {
    fn read(permitted: &Permitted) -> Self {
        let mut asked = Self::default();
        let query = permitted
            .path_and_query()
            .split_once('?')
            .map_or("", |(_, query)| query);
        let (mut credential, mut signed) = (None, false);
        for pair in query.split('&') {
            let (name, value) = parameter(pair);
            match IN_QUERY.into_iter().find(|known| name.eq_ignore_ascii_case(known)) {
                Some(SIGNATURE) => signed = true,
                Some(EXPIRES) => asked.expires = value.parse().ok(),
                Some(CREDENTIAL) => credential = Some(value.into_owned()),
                None if is_older(pair) => signed = true,
                _ => {}
            }
        }
        let expires = asked.expires.unwrap_or(LONGEST_EXPIRY).clamp(1, LONGEST_EXPIRY);
        asked.expires = signed.then_some(expires);
        let header = permitted.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let in_header = header.and_then(|text| {
            let (_, rest) = text.split_once("Credential=")?;
            Some(rest.split([',', ' ']).next().unwrap_or(rest).to_owned())
        });
        // The key's id comes first, and may hold slashes of its own in no service that is known.
        if let Some(credential) = credential.or(in_header)
            && let [_, _, region, service, "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..]
        {
            asked.region = Some(region.to_owned()).filter(|text| is_word(text));
            asked.service = Some(service.to_owned()).filter(|text| is_word(text));
        }
        asked
    }
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The name and value of a pair of a query, decoded.
fn parameter(pair: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
    (decoded(name), decoded(value))
}

/// Whether this pair of a query says that it is signed as before version 4.
fn is_older(pair: &str) -> bool {
    OLDER.first().is_some_and(|first| parameter(pair).0 == *first)
}

/// When and for whom to sign: as the rule has it, as the host's name has it, as the agent's client has it.
fn scope(spec: &SigV4, host: Option<&str>, asked: &Asked, now: OffsetDateTime) -> Result<Scope, Error> {
    let named = host.and_then(aws_host::service);
    let service = spec
        .service
        .as_deref()
        .or(named.map(|s| s.name))
        .or(asked.service.as_deref());
    let region = spec
        .region
        .as_deref()
        .or(named.and_then(|s| s.region))
        .or(asked.region.as_deref());
    // Hosts that serve every region sign as the first one.
    let region = region.or(named.map(|_| match host {
        Some(host) if host.ends_with(".cn") => "cn-northwest-1",
        _ => "us-east-1",
    }));
    let (Some(service), Some(region)) = (service, region) else {
        return Err(Error::Unsignable("nothing says for which region and service to sign"));
    };
    let form = format_description!("[year][month][day]T[hour][minute][second]Z");
    let stamp = now.format(form);
    Ok(Scope {
        stamp: stamp.map_err(|_| Error::Unsignable("the clock shows no date"))?,
        region: region.to_owned(),
        service: service.to_owned(),
    })
}

/// Takes out every signature, in whatever place and spelling.
fn strip(permitted: &mut Permitted) -> Result<(), Error> {
    for name in &FILLED {
        place::remove(permitted.headers_mut(), name);
    }
    let uri = permitted.uri().path_and_query().cloned();
    let uri = uri.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let sent = net::path_sent(&uri).ok_or(Error::Unsignable("its path cannot be sent"))?;
    let query = sent.query().unwrap_or_default();
    let older = query.split('&').any(is_older);
    let theirs = |pair: &str| {
        let (name, _) = parameter(pair);
        IN_QUERY.iter().any(|known| name.eq_ignore_ascii_case(known)) || older && OLDER.contains(&&*name)
    };
    if !query.split('&').any(theirs) {
        permitted.set_path_and_query(sent);
        return Ok(());
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !theirs(pair)).collect();
    set_query(permitted, &sent, &kept.join("&"))
}

fn set_query(permitted: &mut Permitted, uri: &PathAndQuery, query: &str) -> Result<(), Error> {
    let mark = if query.is_empty() { "" } else { "?" };
    let new = PathAndQuery::try_from(format!("{}{mark}{query}", uri.path()));
    permitted.set_path_and_query(new.map_err(|_| Error::Unsignable("its query cannot be sent"))?);
    Ok(())
}

fn in_header(
    permitted: &mut Permitted,
    keys: &Keys,
    key: &Signer,
    payload: &Payload,
    style: PathStyle,
) -> Result<String, Error> {
    if let Some(regions) = key.regions() {
        let value = HeaderValue::from_str(regions).map_err(|_| Error::Unsignable("its regions are no text"))?;
        permitted.headers_mut().insert(REGIONS, value);
    }
    let stamp = HeaderValue::from_str(&key.scope().stamp).map_err(|_| Error::Unsignable("the clock shows no date"))?;
    permitted.headers_mut().insert(DATE, stamp);
    if let Some((token, name)) = &keys.token {
        let value = token.secret.expose(|token| place::sensitive(token, name))?;
        permitted.headers_mut().insert(TOKEN, value);
    }
    let (names, signature) = signature(permitted, key, payload, style)?;
    let credential = key.credential();
    let (id, name) = &keys.id;
    let value = id.secret.expose(|id| {
        let (before, after) = (
            format!("{} Credential=", key.algorithm()),
            format!("/{credential}, SignedHeaders={names}, Signature={signature}"),
        );
        place::sensitive(&[before.as_bytes(), id, after.as_bytes()].concat(), name)
    })?;
    permitted.headers_mut().insert(AUTHORIZATION, value);
    Ok(signature)
}

fn in_query(
    permitted: &mut Permitted,
    keys: &Keys,
    key: &Signer,
    payload: &Payload,
    (style, expires): (PathStyle, u32),
) -> Result<String, Error> {
    let host = net::authority(permitted.target(), permitted.scheme());
    let names = signed_names(&fields(permitted.headers(), &host));
    let text = |(held, name): &(Arc<Held>, Arc<str>), after: &str| {
        held.secret.expose(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|_| Error::Unfit(Arc::clone(name)))?;
            Ok::<_, Error>(Zeroizing::new(format!("{}{}", encoded(text), encoded(after))))
        })
    };
    let credential = text(&keys.id, &format!("/{}", key.credential()))?;
    let mut added = Zeroizing::new(format!(
        "X-Amz-Algorithm={}&{CREDENTIAL}={}&X-Amz-Date={}&{EXPIRES}={expires}&X-Amz-SignedHeaders={}",
        key.algorithm(),
        *credential,
        key.scope().stamp,
        encoded(&names),
    ));
    if let Some(regions) = key.regions() {
        added.push_str(&format!("&X-Amz-Region-Set={}", encoded(regions)));
    }
    if let Some(token) = &keys.token {
        added.push_str("&X-Amz-Security-Token=");
        added.push_str(&text(token, "")?);
    }
    let uri = permitted.uri().path_and_query().cloned();
    let uri = uri.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let query = uri.query().filter(|query| !query.is_empty());
    if let Some(query) = query {
        added.insert(0, '&');
        added.insert_str(0, query);
    }
    set_query(permitted, &uri, &added)?;
    let (_, signature) = signature(permitted, key, payload, style)?;
    added.push_str(&format!("&{SIGNATURE}={signature}"));
    set_query(permitted, &uri, &added)?;
    Ok(signature)
}

/// The names that are signed, and the signature.
fn signature(
    permitted: &Permitted,
    key: &Signer,
    payload: &Payload,
    style: PathStyle,
) -> Result<(String, String), Error> {
    let host = net::authority(permitted.target(), permitted.scheme());
    let fields = fields(permitted.headers(), &host);
    let (path, query) = permitted
        .path_and_query()
        .split_once('?')
        .unwrap_or((permitted.path_and_query(), ""));
    let signature = key.sign(&Request {
        method: permitted.method().as_str(),
        path,
        query,
        headers: &fields,
        payload: payload.word(),
        style,
    })?;
    Ok((signed_names(&fields), signature))
}

/// What is signed of the head: what AWS asks for, and nothing that may yet change on the way out.
fn fields<'r>(headers: &'r HeaderMap, host: &'r str) -> Vec<(&'r str, &'r [u8])> {
    let theirs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let signed = |(name, _): &(&str, &[u8])| {
        name.starts_with("x-amz-") || *name == CONTENT_TYPE.as_str() || *name == "content-md5"
    };
    std::iter::once(("host", host.as_bytes()))
        .chain(theirs.filter(signed))
        .collect()
}
