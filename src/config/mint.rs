//! Tokens that are minted, as meant: asked of a service, or made here.

use super::aws::AwsSession;
use crate::base::endpoint::Endpoint;
use crate::base::ids::SecretId;
use std::sync::Arc;
use std::time::Duration;

/// How a token comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mint {
    /// By what means.
    pub how: How,
    /// How long asking may take.
    pub timeout: Duration,
}

/// By what means a token comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// A token endpoint is asked (RFC 6749).
    OAuth2(Box<OAuth2>),
    /// It is signed here, and is itself the token (RFC 7519).
    Signed(Box<Assertion>),
    /// GitHub is asked for one of an installation.
    GitHubApp(Box<GitHubApp>),
    /// Google is asked, with the key of a service account.
    Gcp(Box<Gcp>),
    /// A Vault is asked for a token of its own.
    VaultLogin(Box<VaultLogin>),
    /// A Vault is asked for what it keeps.
    Vault(Box<VaultEntry>),
    /// A Vault is asked to make a credential, and to lend it.
    VaultLease(Box<VaultLease>),
    /// AWS is asked for credentials for a while.
    AwsSession(Box<AwsSession>),
    /// A field of a credential that is had as a whole.
    Part {
        /// The credential, a document.
        whole: Uses,
        /// Which field of it, by name or by a pointer.
        field: String,
        /// The pointer to where its fields are.
        below: &'static str,
    },
}

/// A secret that another is made with. The name is part of it: after a reload the same number may mean another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uses {
    /// Which.
    pub id: SecretId,
    /// As the config names it.
    pub name: Arc<str>,
}

/// What a token endpoint is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// Where.
    pub token_url: Endpoint,
    /// For what.
    pub grant: Grant,
    /// Who asks.
    pub client_id: Option<String>,
    /// What proves it.
    pub client: ClientAuth,
    /// What else is said: `scope`, `audience`, `resource`.
    pub parameters: Vec<(String, String)>,
}

/// What a token is granted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// The client itself (RFC 6749 §4.4).
    ClientCredentials,
    /// A refresh token (RFC 6749 §6), or what took its place.
    RefreshToken(Uses),
    /// A signed assertion (RFC 7523 §2.1).
    JwtBearer(Assertion),
}

/// What proves a client (RFC 6749 §2.3, RFC 7523 §2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing but its id.
    None,
    /// A secret as the password of Basic.
    Basic(Uses),
    /// A secret in the form.
    Post(Uses),
    /// A signed assertion: `private_key_jwt`.
    Assertion(Assertion),
}

/// A token that is signed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The private key, PEM.
    pub key: Uses,
    /// `kid` in its header.
    pub key_id: Option<String>,
    /// The certificate whose thumbprint stands in its header.
    pub certificate: Option<Uses>,
    /// `iss`.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// Further claims, each a text.
    pub claims: Vec<(String, String)>,
    /// From now to `exp`.
    pub lifetime: Duration,
}

/// A GitHub App's installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubApp {
    /// The API: `https://api.github.com`, or that of an enterprise server.
    pub api: Endpoint,
    /// The number of the installation.
    pub installation: String,
    /// What the app shows of itself.
    pub app: Assertion,
    /// The repositories that the token is for, by name; empty: all of the installation.
    pub repositories: Vec<String>,
    /// What it may do there; empty: all that the installation may.
    pub permissions: Vec<(String, String)>,
}

/// A login at a Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultLogin {
    /// Where it is asked.
    pub at: Endpoint,
    /// Where the token is renewed.
    pub renew: Endpoint,
    /// Its namespace, if it has some.
    pub namespace: Option<String>,
    /// What proves who asks.
    pub proof: VaultProof,
}

/// What proves who asks a Vault for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultProof {
    /// AppRole.
    AppRole {
        /// Which role.
        role_id: String,
        /// What proves it.
        secret_id: Option<Uses>,
    },
    /// A signed token, as its JWT and Kubernetes logins take it.
    Jwt {
        /// For which role.
        role: String,
        /// The token.
        jwt: Uses,
    },
}

/// A credential that a Vault makes and lends, and how it is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultLease {
    /// Where it is made.
    pub at: Endpoint,
    /// Where its lease is renewed.
    pub renew: Endpoint,
    /// Where the token is renewed.
    pub renew_token: Endpoint,
    /// Its namespace, if it has some.
    pub namespace: Option<String>,
    /// The token that is shown.
    pub token: Uses,
}

/// What a Vault keeps, and how it is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultEntry {
    /// Where it is read.
    pub at: Endpoint,
    /// Where the token is renewed.
    pub renew: Endpoint,
    /// Its namespace, if it has some.
    pub namespace: Option<String>,
    /// The token that is shown.
    pub token: Uses,
    /// Which field of it.
    pub field: String,
    /// Whether entries have versions (KV version 2).
    pub versioned: bool,
    /// How long a value is good for.
    pub ttl: Duration,
    /// How long a value is used beyond that, while there is no other to be had.
    pub grace: Duration,
}

/// A Google service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gcp {
    /// Its key file, JSON.
    pub key: Uses,
    /// Where to ask instead of where the key file says.
    pub token_url: Option<Endpoint>,
    /// What for.
    pub wants: GcpToken,
}

/// What Google is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcpToken {
    /// An access token with these scopes, separated by spaces.
    Access(String),
    /// An identity token for this audience.
    Id(String),
}

impl Mint {
    /// The secrets that it is made with.
    pub fn uses(&self) -> Vec<&Uses> {
        match &self.how {
            How::OAuth2(spec) => {
                let grant = match &spec.grant {
                    Grant::ClientCredentials => Vec::new(),
                    Grant::RefreshToken(uses) => vec![uses],
                    Grant::JwtBearer(assertion) => assertion.uses(),
                };
                let client = match &spec.client {
                    ClientAuth::None => Vec::new(),
                    ClientAuth::Basic(uses) | ClientAuth::Post(uses) => vec![uses],
                    ClientAuth::Assertion(assertion) => assertion.uses(),
                };
                [grant, client].concat()
            }
            How::Signed(assertion) => assertion.uses(),
            How::GitHubApp(spec) => spec.app.uses(),
            How::Gcp(spec) => vec![&spec.key],
            How::VaultLogin(spec) => match &spec.proof {
                VaultProof::AppRole { secret_id, .. } => secret_id.iter().collect(),
                VaultProof::Jwt { jwt, .. } => vec![jwt],
            },
            How::Vault(spec) => vec![&spec.token],
            How::VaultLease(spec) => vec![&spec.token],
            How::AwsSession(session) => session.uses(),
            How::Part { whole, .. } => vec![whole],
        }
    }

    /// The variables of Keyferry's own that it is made with.
    pub fn variables(&self) -> Vec<&'static str> {
        match &self.how {
            How::AwsSession(session) => session.variables(),
            _ => Vec::new(),
        }
    }
}

impl Assertion {
    fn uses(&self) -> Vec<&Uses> {
        std::iter::once(&self.key).chain(&self.certificate).collect()
    }
}
