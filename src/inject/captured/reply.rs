//! The reply of a token endpoint: read whole, and passed on with stand-ins in the place of its tokens. What cannot be read
//! for certain is not passed on.

use super::fields::{self, Found};
use super::token::{self, Fresh, Holder, folded};
use super::{Captured, Token};
use crate::base::body::{Body, BoxError};
use crate::base::budget::{Budget, Full};
use crate::config::model::Capture;
use crate::inject::body::{BodyKind, form, json_text};
use crate::scrub::{self, Needles, Unscrubbable};
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use http::response::Parts;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Why the reply of a token endpoint is withheld.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A token endpoint sends nobody elsewhere (RFC 6749 §5): in such an address a token could stand.
    #[error("it is a redirect, status {0}")]
    Redirect(u16),
    /// A part of a reply can hold a part of a token, or a token without its name.
    #[error("it is a part of a reply")]
    Part,
    /// More tokens than any login gives.
    #[error("it has more than {MOST} tokens")]
    Many,
    /// It is coded in a way that cannot be undone.
    #[error(transparent)]
    Coding(#[from] Unscrubbable),
    /// More than is collected.
    #[error("it is longer than {LIMIT} bytes")]
    Large,
    /// It did not come whole in time.
    #[error("it was not whole after {0:?}")]
    Slow(Duration),
    /// It broke off.
    #[error("it broke off: {0}")]
    Broken(#[source] BoxError),
    /// Too much is held in memory already.
    #[error("there is no memory left to collect it: {0}")]
    Crowded(Full),
    /// Neither JSON nor a form, whatever it says it is.
    #[error("it is neither JSON nor a form")]
    Kind,
    /// A field for tokens holds no text, or one that no token is.
    #[error("a field for a token holds something else")]
    Field,
    /// A token inside of a text.
    #[error("a token stands inside the text of another field")]
    Hidden,
    /// The system has no randomness to make a stand-in of.
    #[error("the system gives no randomness")]
    Random,
}

/// One exchange with a token endpoint: who asked, by which rule, and what for.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// What the rule keeps from the agent.
    pub capture: &'a Capture,
    /// The agent's name.
    pub agent: &'a Arc<str>,
    /// The tokens that the request gave back.
    pub given: &'a [Arc<Token>],
    /// What else the endpoint was given.
    pub needles: &'a [Arc<Needles>],
    /// What collecting takes of.
    pub memory: &'a Budget,
    /// How long the reply may take to come.
    pub time: Duration,
}

/// Bytes of a reply at most. Tokens are short.
const LIMIT: usize = 1024 * 1024;

/// A token that is good for longer than ten years is taken for one that ends then.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Tokens in a reply at most.
const MOST: usize = 16;

impl Captured {
    /// Reads a reply, keeps its tokens, and returns the body to pass on, with how many tokens and traces were taken out.
    ///
    /// # Errors
    /// When it cannot be read. Then nothing of it may be passed on.
    pub async fn reply(
        &self,
        parts: &mut Parts,
        body: Body,
        exchange: &Exchange<'_>,
    ) -> Result<(Body, u64), Unreadable> {
        if parts.status.is_redirection() {
            return Err(Unreadable::Redirect(parts.status.as_u16()));
        }
        if parts.status == StatusCode::PARTIAL_CONTENT {
            return Err(Unreadable::Part);
        }
        parts.extensions.remove::<hyper::ext::ReasonPhrase>();
        let has_body = !body.is_end_stream();
        let body = scrub::decoded(parts, body, exchange.memory)?;
        let is_form = kind(parts) == Some(BodyKind::Form);
        keep_harmless(parts);
        let mut needles = exchange.needles.to_vec();
        if !has_body {
            return Ok((Body::Empty, scrub::headers(&mut parts.headers, &needles)));
        }
        let bytes = collect(body, exchange).await?;
        let found = match is_form {
            true => fields::in_form(&bytes, &exchange.capture.tokens),
            false if bytes.is_empty() => Ok(Vec::new()),
            false => fields::in_json(&bytes, &exchange.capture.tokens),
        };
        let found = match found {
            // What an error says in words of its own holds no token of this exchange's: there is none.
            Err(Unreadable::Kind) if !parts.status.is_success() => Vec::new(),
            found => found?,
        };
        if found.len() > MOST {
            return Err(Unreadable::Many);
        }
        let mut hits = found.len() as u64;
        let bytes = self.edited(bytes, found, is_form, exchange).await?;
        needles.extend(self.now().needles(&exchange.capture.login));
        let mut bytes = bytes.to_vec();
        for needles in &needles {
            hits += needles.mask(&mut bytes);
        }
        hits += scrub::headers(&mut parts.headers, &needles);
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        Ok((Body::full(bytes), hits))
    }

    /// The body with stand-ins for the tokens, which are kept from now on.
    async fn edited(
        &self,
        bytes: Bytes,
        found: Vec<Found>,
        is_form: bool,
        exchange: &Exchange<'_>,
    ) -> Result<Bytes, Unreadable> {
        if found.is_empty() {
            return Ok(bytes);
        }
        let holder = Holder {
            login: Arc::clone(&exchange.capture.login),
            agent: Arc::clone(exchange.agent),
            keep: exchange.capture.keep,
        };
        let lifetime = fields::lifetime(&bytes, is_form).map(Duration::from_secs);
        let (spans, fresh): (Vec<_>, Vec<_>) = found.into_iter().map(|found| found.fresh(lifetime)).unzip();
        let refreshed = fresh.iter().any(|fresh| folded(&fresh.field) == "refreshtoken");
        // What was given for new ones is spent, unless it comes back as one of them.
        let spent = exchange.given.iter().filter(|token| {
            refreshed && token.is_exchanged() && !fresh.iter().any(|fresh| token.secret.is_same(&fresh.secret))
        });
        let spent: Vec<_> = spent.cloned().collect();
        let taken = self.take(&holder, fresh, &spent).await.ok_or(Unreadable::Random)?;
        let mut edited = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for (span, token) in spans.into_iter().zip(taken) {
            edited.extend_from_slice(bytes.get(at..span.start).unwrap_or_default());
            edited.extend(match is_form {
                true => form::encoded(token.stand_in.as_bytes()),
                false => json_text(token.stand_in.as_bytes()).map_err(|_| Unreadable::Field)?,
            });
            at = span.end;
        }
        edited.extend_from_slice(bytes.get(at..).unwrap_or_default());
        Ok(edited.into())
    }
}

impl Found {
    /// The token, with its end: the one that it states itself, or that of the reply's `lifetime`, which is the access
    /// token's, and of no other but a device code.
    fn fresh(self, lifetime: Option<Duration>) -> (Range<usize>, Fresh) {
        let has_other = ["refreshtoken", "idtoken"].contains(&&*folded(&self.field));
        let lifetime = lifetime.filter(|_| !has_other);
        let now = SystemTime::now();
        let until = token::stated_end(&self.secret).or_else(|| Some(now + lifetime?.min(LONGEST)));
        let fresh = Fresh {
            field: self.field,
            secret: self.secret,
            until: until.map(|until| until.min(now + LONGEST)),
        };
        (self.span, fresh)
    }
}

async fn collect(body: Body, exchange: &Exchange<'_>) -> Result<Bytes, Unreadable> {
    // As it came, and as it is passed on.
    let _taken = exchange.memory.take(2 * LIMIT as u64).map_err(Unreadable::Crowded)?;
    let collected = tokio::time::timeout(exchange.time, Limited::new(body, LIMIT).collect()).await;
    let collected = collected.map_err(|_| Unreadable::Slow(exchange.time))?;
    let collected = collected.map_err(|error| match error.downcast::<Unscrubbable>() {
        Ok(coding) => Unreadable::Coding(*coding),
        Err(error) if error.is::<LengthLimitError>() => Unreadable::Large,
        Err(error) => Unreadable::Broken(error),
    });
    Ok(collected?.to_bytes())
}

fn kind(parts: &Parts) -> Option<BodyKind> {
    let named = parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    BodyKind::of(named)
}

/// Leaves only fields that have no room for a token: one could stand in a cookie, a link, or a field of a maker's own.
fn keep_harmless(parts: &mut Parts) {
    let gone: Vec<HeaderName> = parts
        .headers
        .keys()
        .filter(|name| !is_harmless(name))
        .cloned()
        .collect();
    for name in gone {
        parts.headers.remove(name);
    }
}

fn is_harmless(name: &HeaderName) -> bool {
    HARMLESS.contains(&name.as_str()) || name.as_str().starts_with("x-ratelimit-")
}

const HARMLESS: [&str; 14] = [
    "age",
    "allow",
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "docker-distribution-api-version",
    "expires",
    "pragma",
    "request-id",
    "retry-after",
    "vary",
    "www-authenticate",
    "x-request-id",
];
