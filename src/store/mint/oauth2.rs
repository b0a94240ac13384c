//! What a token endpoint is asked (RFC 6749, RFC 7523).

use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::{Errand, answered, fits};
use super::super::{Held, Inner};
use super::{assertion, aws, rotated};
use crate::base::endpoint::Endpoint;
use crate::base::secret::Secret;
use crate::config::mint::{ClientAuth, Grant, How, OAuth2};
use crate::net::errand::Told;
use crate::sign::said::{self, Field, Given, Wanted};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use std::sync::Arc;
use std::time::SystemTime;
use zeroize::Zeroizing;

const FORM: &str = "application/x-www-form-urlencoded";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Asks for an access token.
pub(super) async fn ask(inner: &Arc<Inner>, name: &str, spec: &OAuth2) -> Result<Fetched, Cause> {
    let Grant::RefreshToken(uses) = &spec.grant else {
        return taken(&spec.token_url, &grant(inner, spec, None).await?);
    };
    // One owner: no other process may spend the same token meanwhile.
    let owner = rotated::owner(inner).await?;
    let original = inner.used(uses).await?;
    let entry = rotated::entry(name, &original.secret);
    let last = rotated::last(inner, &entry).await?;
    let refresh = last.as_ref().map_or(&original.secret, |last| last);
    let told = grant(inner, spec, Some(refresh)).await?;
    let mut given = read(&spec.token_url, &told, Wanted::Access)?;
    // Before the access token is used, so that whatever happens then, the next one can be had.
    if let Some(next) = given.refresh.take().filter(|next| !next.is_same(refresh)) {
        rotated::keep(inner, &entry, next).await;
    }
    drop(owner);
    fetched(&spec.token_url, &told, given)
}

async fn grant(inner: &Arc<Inner>, spec: &OAuth2, refresh: Option<&Secret>) -> Result<Told, Cause> {
    let url = spec.token_url.to_string();
    let mut fields: Vec<(&str, Field<'_>)> = Vec::new();
    let bearer;
    match &spec.grant {
        Grant::ClientCredentials => fields.push(("grant_type", Field::Text("client_credentials"))),
        Grant::RefreshToken(_) => {
            fields.push(("grant_type", Field::Text("refresh_token")));
            fields.extend(refresh.map(|token| ("refresh_token", Field::Secret(token))));
        }
        Grant::JwtBearer(spec) => {
            let audience = spec.audience.as_deref().unwrap_or(&url);
            bearer = assertion::signed(inner, spec, Some(audience)).await?;
            fields.push(("grant_type", Field::Text(JWT_BEARER)));
            fields.push(("assertion", Field::Secret(&bearer)));
        }
    }
    let further = spec
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), Field::Text(value)));
    fields.extend(further);
    let proof = Proof::of(inner, spec, &url).await?;
    let header = proof.add_to(&mut fields, spec)?;
    inner.errand(&spec.token_url, message(&fields, header)).await
}

/// A form, and who sends it.
fn message(fields: &[(&str, Field<'_>)], header: Option<HeaderValue>) -> Errand {
    let errand = Errand::post(FORM, said::form(fields));
    match header {
        Some(header) => errand.with(AUTHORIZATION, header),
        None => errand,
    }
}

/// What proves the client, at hand.
enum Proof {
    None,
    Held(Arc<Held>),
    Signed(Secret),
}

impl Proof {
    async fn of(inner: &Arc<Inner>, spec: &OAuth2, url: &str) -> Result<Self, Cause> {
        Ok(match &spec.client {
            ClientAuth::None => Self::None,
            ClientAuth::Basic(uses) | ClientAuth::Post(uses) => Self::Held(inner.used(uses).await?),
            ClientAuth::Assertion(spec) => {
                let audience = spec.audience.as_deref().unwrap_or(url);
                Self::Signed(assertion::signed(inner, spec, Some(audience)).await?)
            }
        })
    }

    fn add_to<'a>(
        &'a self,
        fields: &mut Vec<(&'a str, Field<'a>)>,
        spec: &'a OAuth2,
    ) -> Result<Option<HeaderValue>, Cause> {
        let id = spec.client_id.as_deref();
        if let (ClientAuth::Basic(uses), Self::Held(held)) = (&spec.client, self) {
            return fits(uses, said::basic(id.unwrap_or_default(), &held.secret)).map(Some);
        }
        fields.extend(id.map(|id| ("client_id", Field::Text(id))));
        match self {
            Self::None => {}
            Self::Held(held) => fields.push(("client_secret", Field::Secret(&held.secret))),
            Self::Signed(token) => {
                fields.push(("client_assertion_type", Field::Text(CLIENT_ASSERTION)));
                fields.push(("client_assertion", Field::Secret(token)));
            }
        }
        Ok(None)
    }
}

/// Sends a signed assertion in the place of a grant, as Google has it.
pub(super) async fn bearer(inner: &Inner, to: &Endpoint, assertion: &Secret) -> Result<Told, Cause> {
    let fields = [
        ("grant_type", Field::Text(JWT_BEARER)),
        ("assertion", Field::Secret(assertion)),
    ];
    inner.errand(to, message(&fields, None)).await
}

fn taken(to: &Endpoint, told: &Told) -> Result<Fetched, Cause> {
    let given = read(to, told, Wanted::Access)?;
    fetched(to, told, given)
}

/// Reads what was given.
pub(super) fn read(to: &Endpoint, told: &Told, wanted: Wanted) -> Result<Given, Cause> {
    let given = said::given(&told.body, wanted).map_err(|why| answered(to, told, why))?;
    match told.status.is_success() {
        true => Ok(given),
        false => Err(answered(to, told, "it refuses")),
    }
}

/// What was given, for its term.
pub(super) fn fetched(to: &Endpoint, told: &Told, given: Given) -> Result<Fetched, Cause> {
    let ttl = given.term(SystemTime::now()).map_err(|why| answered(to, told, why))?;
    Ok(Fetched::new(given.token, ttl))
}

impl How {
    /// Whom it asks, in words.
    pub fn asked(&self) -> String {
        match self {
            Self::OAuth2(spec) => spec.token_url.to_string(),
            Self::GitHubApp(spec) => spec.api.to_string(),
            Self::Gcp(spec) => spec.token_url.as_ref().map_or("Google".to_owned(), Endpoint::to_string),
            Self::VaultLogin(spec) => spec.at.to_string(),
            Self::Vault(spec) => spec.at.to_string(),
            Self::VaultLease(spec) => spec.at.to_string(),
            Self::AwsSession(spec) => aws::asked(spec).to_owned(),
            Self::Part { whole, .. } => whole.name.to_string(),
            Self::Signed(_) => "nobody".to_owned(),
        }
    }
}

/// A JSON message with a bearer token.
pub(super) fn json(body: Zeroizing<Vec<u8>>, bearer: HeaderValue) -> Errand {
    Errand::post("application/json", body).with(AUTHORIZATION, bearer)
}
