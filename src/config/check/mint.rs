//! Tokens that are minted: who asks whom for what.

use super::scope::Scope;
use crate::base::endpoint::Endpoint;
use crate::config::leaf::{At, Lasting, Many, Named, Text};
use crate::config::looks::{looks_secret, shown};
use crate::config::mint::{Assertion, ClientAuth, Gcp, GcpToken, GitHubApp, Grant, How, Mint, OAuth2, Uses};
use crate::config::place::Place;
use crate::config::raw::{RawAzure, RawGcp, RawGitHubApp, RawInject, RawJwt, RawOAuth2, SecretMap};
use crate::config::read::Findings;
use std::time::Duration;

/// What is asked for, unless the config says otherwise, within this time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an assertion is good for: it is shown at once. GitHub takes none of more than ten minutes.
const SHORT: Duration = Duration::from_secs(300);

/// The keys of a section under which a token may be minted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'r> {
    oauth2: Option<&'r RawOAuth2>,
    jwt: Option<&'r RawJwt>,
    github_app: Option<&'r RawGitHubApp>,
    gcp: Option<&'r RawGcp>,
    azure: Option<&'r RawAzure>,
}

impl<'r> Written<'r> {
    /// Those of a secret.
    pub(super) fn of_secret(raw: &'r SecretMap) -> Self {
        Self {
            oauth2: raw.oauth2.as_ref(),
            jwt: raw.jwt.as_ref(),
            github_app: raw.github_app.as_ref(),
            gcp: raw.gcp.as_ref(),
            azure: raw.azure.as_ref(),
        }
    }

    /// Those of an injection.
    pub(super) fn of_inject(raw: &'r RawInject) -> Self {
        Self {
            oauth2: raw.oauth2.as_ref(),
            jwt: raw.jwt.as_ref(),
            github_app: raw.github_app.as_ref(),
            gcp: raw.gcp.as_ref(),
            azure: raw.azure.as_ref(),
        }
    }

    /// Those that are given, by name.
    pub(super) fn given(self) -> impl Iterator<Item = &'static str> {
        let given = [
            (self.oauth2.is_some(), "oauth2"),
            (self.jwt.is_some(), "jwt"),
            (self.github_app.is_some(), "github_app"),
            (self.gcp.is_some(), "gcp"),
            (self.azure.is_some(), "azure"),
        ];
        given.into_iter().filter_map(|(given, name)| given.then_some(name))
    }

    /// What is to be minted; `None` where there is a mistake in it, or nothing.
    pub(super) fn mint(self, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Mint> {
        let (how, timeout) = if let Some(raw) = self.oauth2 {
            (oauth2(raw, scope, found)?, &raw.timeout)
        } else if let Some(raw) = self.jwt {
            (jwt(raw, scope, found)?, &None)
        } else if let Some(raw) = self.github_app {
            (github_app(raw, scope, found)?, &raw.timeout)
        } else if let Some(raw) = self.gcp {
            (gcp(raw, scope, found)?, &raw.timeout)
        } else {
            let raw = self.azure?;
            (azure(raw, scope, found)?, &raw.timeout)
        };
        let timeout = timeout.as_ref().map_or(TIMEOUT, |time: &At<Lasting>| time.0);
        Some(Mint { how, timeout })
    }
}

/// A secret that is shown to the service alone.
pub(super) fn uses(name: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Uses> {
    let id = scope.secret(name, found)?;
    // In a preset, that of the secret which takes its place.
    let name = scope.secrets.at(id.index()).cloned()?;
    Some(Uses { id, name })
}

/// A secret that is a document, and never sent.
pub(super) fn document(name: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Uses> {
    let uses = uses(name, scope, found)?;
    scope.documents.insert(uses.id);
    Some(uses)
}

pub(super) fn endpoint(text: &Text, found: &mut Findings<'_>) -> Option<Endpoint> {
    match Endpoint::parse(text) {
        Ok(endpoint) => Some(endpoint),
        Err(why) => {
            found
                .error(text.at, format!("this cannot be asked for a token: {why}"))
                .hint("write it like `https://auth.example.com/token`");
            None
        }
    }
}

/// A word that is said to the service; what looks like a credential is refused.
pub(super) fn word(text: &Text, found: &mut Findings<'_>) -> Option<String> {
    if looks_secret(text) {
        found
            .error(
                text.at,
                "this looks like a credential, and none is ever written in the config",
            )
            .hint("put it under `secrets`, and name that here");
        return None;
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        found.error(text.at, "expected one line of text");
        return None;
    }
    Some(text.value.clone())
}

/// One that need not be there; the inner `None` is one that is not.
pub(super) fn maybe(text: Option<&Text>, found: &mut Findings<'_>) -> Option<Option<String>> {
    match text {
        Some(text) => word(text, found).map(Some),
        None => Some(None),
    }
}

fn words(many: Option<&Many<Text>>, found: &mut Findings<'_>) -> Option<Vec<String>> {
    let written = many.map_or(&[][..], |many| &many.0);
    let read: Vec<String> = written.iter().filter_map(|text| word(text, found)).collect();
    (read.len() == written.len()).then_some(read)
}

pub(super) fn pairs(named: Option<&Named<Text>>, found: &mut Findings<'_>) -> Option<Vec<(String, String)>> {
    let written = named.map_or(&[][..], |named| &named.0);
    let pairs = written
        .iter()
        .filter_map(|(name, text)| Some((name.value.clone(), word(text.as_ref()?, found)?)));
    let pairs: Vec<_> = pairs.collect();
    (pairs.len() == written.len()).then_some(pairs)
}

/// Tells of a key that another needs.
fn lacks<T>(at: Place, key: &str, why: &str, found: &mut Findings<'_>) -> Option<T> {
    found
        .error(at, format!("{why} needs `{key}`"))
        .hint(format!("add `{key}: …`"));
    None
}

fn oauth2(raw: &RawOAuth2, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<How> {
    let token_url = endpoint(&raw.token_url, found);
    let client_id = maybe(raw.client_id.as_ref(), found);
    let scopes = words(raw.scopes.as_ref(), found);
    let parameters = pairs(raw.parameters.as_ref(), found);
    let grant = grant(raw, scope, found);
    let client = client(raw, scope, found);
    let mut parameters = parameters?;
    let scopes = scopes?;
    if !scopes.is_empty() {
        parameters.insert(0, ("scope".to_owned(), scopes.join(" ")));
    }
    Some(How::OAuth2(Box::new(OAuth2 {
        token_url: token_url?,
        grant: grant?,
        client_id: client_id?,
        client: client?,
        parameters,
    })))
}

fn grant(raw: &RawOAuth2, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Grant> {
    let name = raw.grant.as_str();
    for (given, grant) in [
        (&raw.refresh_token, "refresh_token"),
        (&raw.issuer, "jwt_bearer"),
        (&raw.subject, "jwt_bearer"),
    ] {
        if let Some(text) = given.as_ref().filter(|_| name != grant) {
            found
                .error(text.at, format!("this goes with `grant: {grant}`"))
                .hint("take it out");
        }
    }
    match name {
        "client_credentials" => Some(Grant::ClientCredentials),
        "refresh_token" => match &raw.refresh_token {
            Some(name) => uses(name, scope, found).map(Grant::RefreshToken),
            None if raw.bad => None,
            None => lacks(raw.at, "refresh_token", "`grant: refresh_token`", found),
        },
        "jwt_bearer" => {
            let issuer = maybe(raw.issuer.as_ref().or(raw.client_id.as_ref()), found)?;
            let subject = maybe(raw.subject.as_ref(), found)?.or_else(|| issuer.clone());
            if issuer.is_none() {
                return lacks(raw.at, "issuer", "`grant: jwt_bearer`", found);
            }
            assertion(raw, (issuer, subject), scope, found).map(Grant::JwtBearer)
        }
        _ => {
            found
                .error(
                    raw.grant.at,
                    format!("`{}` is no grant that is known here", shown(name)),
                )
                .hint("write `client_credentials`, `refresh_token` or `jwt_bearer`");
            None
        }
    }
}

fn assertion(
    raw: &RawOAuth2,
    (issuer, subject): (Option<String>, Option<String>),
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Assertion> {
    let Some(key) = &raw.private_key else {
        return lacks(raw.at, "private_key", "`grant: jwt_bearer`", found);
    };
    Some(Assertion {
        key: document(key, scope, found)?,
        key_id: maybe(raw.key_id.as_ref(), found)?,
        certificate: None,
        issuer,
        subject,
        audience: maybe(raw.audience.as_ref(), found)?,
        claims: Vec::new(),
        lifetime: SHORT,
    })
}

fn client(raw: &RawOAuth2, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<ClientAuth> {
    let post = match raw.client_auth.as_ref().map(|text| (text, text.as_str())) {
        None | Some((_, "basic")) => false,
        Some((_, "post")) => true,
        Some((text, _)) => {
            found.error(text.at, "expected `basic` or `post`");
            return None;
        }
    };
    let proves = raw.grant.as_str() != "jwt_bearer";
    match (&raw.client_secret, &raw.private_key) {
        (Some(_), None) | (None, Some(_)) if raw.client_id.is_none() && (proves || raw.private_key.is_none()) => {
            lacks(raw.at, "client_id", "a client that proves who it is", found)
        }
        (Some(secret), Some(_)) if proves => {
            found
                .error(
                    secret.at,
                    "a client proves who it is by `client_secret` or by `private_key`",
                )
                .hint("keep one of them");
            None
        }
        (Some(secret), _) => {
            let uses = uses(secret, scope, found)?;
            Some(if post {
                ClientAuth::Post(uses)
            } else {
                ClientAuth::Basic(uses)
            })
        }
        (None, Some(_)) if proves => {
            let id = maybe(raw.client_id.as_ref(), found)?;
            assertion(raw, (id.clone(), id), scope, found).map(ClientAuth::Assertion)
        }
        (None, _) => Some(ClientAuth::None),
    }
}

fn jwt(raw: &RawJwt, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<How> {
    let key = document(&raw.private_key, scope, found);
    let claims = pairs(raw.claims.as_ref(), found);
    let lifetime = raw.lifetime.as_ref().map_or(SHORT, |time| time.0);
    if let Some(time) = raw.lifetime.as_ref().filter(|_| lifetime < Duration::from_secs(10)) {
        found.error(time.at, "a token is given from 10s on");
        return None;
    }
    Some(How::Signed(Box::new(Assertion {
        key: key?,
        key_id: maybe(raw.key_id.as_ref(), found)?,
        certificate: None,
        issuer: maybe(raw.issuer.as_ref(), found)?,
        subject: maybe(raw.subject.as_ref(), found)?,
        audience: maybe(raw.audience.as_ref(), found)?,
        claims: claims?,
        lifetime,
    })))
}

fn github_app(raw: &RawGitHubApp, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<How> {
    let key = document(&raw.private_key, scope, found);
    let app_id = word(&raw.app_id, found);
    let api = match &raw.api {
        Some(text) => endpoint(text, found),
        None => Endpoint::parse("https://api.github.com").ok(),
    };
    let number = |text: &Text| !text.is_empty() && text.len() < 20 && text.bytes().all(|b| b.is_ascii_digit());
    if !number(&raw.installation) {
        found
            .error(raw.installation.at, "expected the number of an installation")
            .hint("it stands at the end of the URL of the installation's settings");
        return None;
    }
    Some(How::GitHubApp(Box::new(GitHubApp {
        api: api?,
        installation: raw.installation.value.clone(),
        app: Assertion {
            key: key?,
            key_id: None,
            certificate: None,
            issuer: Some(app_id?),
            subject: None,
            audience: None,
            claims: Vec::new(),
            lifetime: SHORT,
        },
        repositories: words(raw.repositories.as_ref(), found)?,
        permissions: pairs(raw.permissions.as_ref(), found)?,
    })))
}

fn gcp(raw: &RawGcp, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<How> {
    let key = document(&raw.key, scope, found);
    let scopes = words(raw.scopes.as_ref(), found)?;
    let audience = maybe(raw.audience.as_ref(), found)?;
    let wants = match (scopes.is_empty(), audience) {
        (false, None) => GcpToken::Access(scopes.join(" ")),
        (true, Some(audience)) => GcpToken::Id(audience),
        _ => {
            found
                .error(
                    raw.at,
                    "`gcp` wants `scopes`, for an access token, or `audience`, for an identity token",
                )
                .hint("write `scopes: [https://www.googleapis.com/auth/cloud-platform]`");
            return None;
        }
    };
    let token_url = match &raw.token_url {
        Some(text) => Some(endpoint(text, found)?),
        None => None,
    };
    let key = key?;
    Some(How::Gcp(Box::new(Gcp { key, token_url, wants })))
}

fn azure(raw: &RawAzure, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<How> {
    let tenant =
        word(&raw.tenant, found).filter(|tenant| tenant.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)));
    let authority = match &raw.authority {
        Some(text) => endpoint(text, found),
        None => Endpoint::parse("https://login.microsoftonline.com").ok(),
    };
    let client_id = word(&raw.client_id, found);
    let client = match (&raw.client_secret, &raw.certificate, &raw.private_key) {
        (Some(secret), None, None) => uses(secret, scope, found).map(ClientAuth::Post),
        (None, Some(certificate), Some(key)) => {
            let (certificate, key) = (document(certificate, scope, found), document(key, scope, found));
            Some(ClientAuth::Assertion(Assertion {
                key: key?,
                key_id: None,
                certificate: Some(certificate?),
                issuer: client_id.clone(),
                subject: client_id.clone(),
                audience: None,
                claims: Vec::new(),
                lifetime: SHORT,
            }))
        }
        _ => {
            found
                .error(
                    raw.at,
                    "`azure` wants `client_secret`, or `certificate` with `private_key`",
                )
                .hint("add `client_secret: SECRET`");
            None
        }
    };
    let Some(tenant) = tenant else {
        found.error(raw.tenant.at, "expected a tenant's id or domain");
        return None;
    };
    Some(How::OAuth2(Box::new(OAuth2 {
        token_url: authority?.join(&format!("/{tenant}/oauth2/v2.0/token"))?,
        grant: Grant::ClientCredentials,
        client_id: Some(client_id?),
        client: client?,
        parameters: vec![("scope".to_owned(), word(&raw.scope, found)?)],
    })))
}
