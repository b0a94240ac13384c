//! Secrets that stores of others keep, as meant.

use super::aws::AwsKeys;
use super::mint::Uses;
use crate::base::endpoint::Endpoint;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What such a store keeps, and how it is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it is.
    pub place: Place,
    /// Where it is JSON: which text in it is the credential.
    pub field: Option<String>,
    /// How long a value is good for.
    pub ttl: Duration,
    /// How long a value is used beyond that, while there is no other to be had.
    pub grace: Duration,
    /// How long asking may take.
    pub timeout: Duration,
}

/// Whose store, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// AWS Secrets Manager, or Parameter Store.
    Aws(Box<Aws>),
    /// A Secret of Kubernetes.
    Kubernetes(Box<Kubernetes>),
    /// A version of a secret of Google Secret Manager.
    Google(Box<Shown>),
    /// A version of a secret of Azure Key Vault.
    Azure(Box<Shown>),
    /// An item of 1Password.
    OnePassword(Box<OnePassword>),
    /// A key of the kernel's keyrings, by its description.
    Keyring(String),
    /// An item of the desktop's Secret Service.
    SecretService(SecretService),
}

/// What AWS keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    /// Where it is asked.
    pub at: Endpoint,
    /// Its region.
    pub region: String,
    /// Which of its services, and what of it.
    pub what: AwsKept,
    /// Whose keys sign.
    pub keys: AwsKeys,
}

/// Which secret or parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsKept {
    /// Of Secrets Manager.
    Secret {
        /// Its name or ARN.
        id: String,
        /// The staging label of the version.
        stage: Option<String>,
    },
    /// Of Parameter Store, by name or ARN.
    Parameter(String),
}

/// One key of a Secret of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// Its API.
    pub api: Endpoint,
    /// The only roots that its certificate may lead to, a PEM file; `None`: those of every upstream.
    pub ca: Option<PathBuf>,
    /// The token that is shown.
    pub token: Uses,
    /// Its namespace; `None`: that of the pod Keyferry runs in.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Which of its values.
    pub key: String,
}

/// What is read at one URL, with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where it is read.
    pub at: Endpoint,
    /// The token that is shown.
    pub token: Uses,
}

/// A field of an item in 1Password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnePassword {
    /// Who is asked.
    pub by: OnePasswordBy,
    /// The vault's name or id.
    pub vault: String,
    /// The item's title or id.
    pub item: String,
    /// The section's label or id.
    pub section: Option<String>,
    /// The field's label or id.
    pub field: String,
}

/// An item of the Secret Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretService {
    /// What it is found by.
    pub attributes: Vec<(String, String)>,
}

/// As the user wrote them.
impl fmt::Display for SecretService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self
            .attributes
            .iter()
            .map(|(name, value)| format!("`{name}: {value}`"))
            .collect();
        f.write_str(&pairs.join(", "))
    }
}

/// How 1Password is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnePasswordBy {
    /// A Connect server.
    Connect {
        /// Where it is.
        at: Endpoint,
        /// The token that is shown.
        token: Uses,
    },
    /// 1Password's own program, which asks for itself.
    Program {
        /// Its name or path.
        program: String,
        /// The token of the service account.
        token: Uses,
    },
}

/// Where a pod finds the token, the CA and the namespace of its account.
pub const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Kept {
    /// The secrets that it is asked for with.
    pub fn uses(&self) -> Vec<&Uses> {
        match &self.place {
            Place::Aws(aws) => aws.keys.uses(),
            Place::Kubernetes(spec) => vec![&spec.token],
            Place::Google(spec) | Place::Azure(spec) => vec![&spec.token],
            Place::Keyring(_) | Place::SecretService(_) => Vec::new(),
            Place::OnePassword(spec) => match &spec.by {
                OnePasswordBy::Connect { token, .. } | OnePasswordBy::Program { token, .. } => vec![token],
            },
        }
    }

    /// The variables of Keyferry's own that it is asked for with.
    pub fn variables(&self) -> &'static [&'static str] {
        match &self.place {
            Place::Aws(aws) => aws.keys.variables(),
            _ => &[],
        }
    }
}
