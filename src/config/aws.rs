//! Whose keys sign for AWS, and credentials for a while, as meant.

use super::mint::Uses;

/// Whose keys sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsKeys {
    /// Those of the variables that AWS's own programs read.
    Environment,
    /// These secrets.
    Secrets {
        /// The id of the access key.
        id: Uses,
        /// The key that signs.
        secret: Uses,
        /// The token of temporary credentials.
        token: Option<Uses>,
    },
    /// Those of a session: one secret, of which they are fields.
    Session(Uses),
}

/// The variables of [`AwsKeys::Environment`]: id, key and token.
pub const AWS_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Credentials for a while, and who hands them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsSession {
    /// The container's own service: ECS, EKS Pod Identity.
    Container,
    /// STS, for the token of a pod's account.
    WebIdentity {
        /// The region whose STS is asked; `None`: what the environment says.
        region: Option<String>,
    },
    /// The instance's metadata service (version 2).
    Instance,
    /// STS, for a role that is assumed.
    Role(Box<AwsRole>),
}

/// A role that is assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsRole {
    /// Its ARN.
    pub arn: String,
    /// What its owner wants to hear.
    pub external_id: Option<String>,
    /// Who assumes it.
    pub keys: AwsKeys,
    /// The region whose STS is asked; `None`: what the environment says.
    pub region: Option<String>,
}

/// Where a container is told of its service: a path at the address of ECS, or a URL.
pub const CONTAINER_URI: [&str; 2] = [
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
/// What is shown to that service: in a file, or in the variable itself.
pub const CONTAINER_TOKEN: [&str; 2] = [
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];
/// The file of the token of a pod's account, the role that it is for, and how the session is to be called.
pub const WEB_IDENTITY: [&str; 3] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"];
/// Where an instance's metadata is instead of its usual address, and of which family that is (`IPv4`, `IPv6`).
pub const INSTANCE: [&str; 2] = [
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
];
/// The region, where the config names none.
pub const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

impl AwsKeys {
    /// The secrets that they are, or are had with.
    pub fn uses(&self) -> Vec<&Uses> {
        match self {
            Self::Environment => Vec::new(),
            Self::Secrets { id, secret, token } => [id, secret].into_iter().chain(token).collect(),
            Self::Session(whole) => vec![whole],
        }
    }

    /// The variables of Keyferry's own that hold them.
    pub fn variables(&self) -> &'static [&'static str] {
        match self {
            Self::Environment => &AWS_VARIABLES,
            Self::Secrets { .. } | Self::Session(_) => &[],
        }
    }
}

impl AwsSession {
    /// The secrets that it is had with.
    pub fn uses(&self) -> Vec<&Uses> {
        match self {
            Self::Role(role) => role.keys.uses(),
            Self::Container | Self::WebIdentity { .. } | Self::Instance => Vec::new(),
        }
    }

    /// The variables of Keyferry's own that lead to it, and that an agent must not have.
    pub fn variables(&self) -> Vec<&'static str> {
        match self {
            Self::Container => [CONTAINER_URI, CONTAINER_TOKEN].concat(),
            Self::WebIdentity { .. } => WEB_IDENTITY.to_vec(),
            Self::Instance => INSTANCE.to_vec(),
            Self::Role(role) => role.keys.variables().to_vec(),
        }
    }
}
