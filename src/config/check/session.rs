//! Whose keys sign for AWS: secrets of the config, the variables, or a session that this machine is given or a role.

use super::mint::{TIMEOUT, maybe, uses};
use super::scope::Scope;
use crate::base::metadata::PARTS;
use crate::config::aws::{AwsKeys, AwsRole, AwsSession};
use crate::config::leaf::Text;
use crate::config::mint::{How, Mint, Uses};
use crate::config::model::Source;
use crate::config::place::Place;
use crate::config::read::Findings;
use std::time::Duration;

/// The keys of a section that says whose keys sign.
pub(super) struct Whose<'r> {
    /// What the section is called.
    pub(super) section: &'static str,
    pub(super) at: Place,
    pub(super) bad: bool,
    pub(super) from: Option<&'r Text>,
    pub(super) id: Option<&'r Text>,
    pub(super) secret: Option<&'r Text>,
    pub(super) token: Option<&'r Text>,
    pub(super) role: Option<&'r Text>,
    pub(super) external_id: Option<&'r Text>,
    pub(super) timeout: Option<Duration>,
}

impl Whose<'_> {
    /// Whether they are those of a session, and no secrets of the config by themselves.
    pub(super) fn is_session(&self) -> bool {
        self.from.is_some() || self.role.is_some()
    }

    /// Whose keys they are.
    pub(super) fn keys(&self, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<AwsKeys> {
        let keys = self.given(scope, found);
        let Some(role) = self.role else {
            if let Some(text) = self.external_id {
                found
                    .error(text.at, "`external_id` goes with `assume_role`")
                    .hint("take it out");
                return None;
            }
            return keys;
        };
        let external_id = maybe(self.external_id, found);
        let arn = arn(role, found);
        let role = AwsRole {
            arn: arn?,
            external_id: external_id?,
            keys: keys?,
            region: scope.aws_region.clone(),
        };
        // By all that makes it another: there is one of each name.
        let by = match &role.keys {
            AwsKeys::Environment => "environment".to_owned(),
            AwsKeys::Secrets { id, .. } => format!("key {}", id.name),
            AwsKeys::Session(whole) => whole.name.to_string(),
        };
        let told = role
            .external_id
            .as_ref()
            .map(|id| format!(" as {id}"))
            .unwrap_or_default();
        let name = format!("{by}/{}{told}", role.arn);
        Some(self.session(&name, AwsSession::Role(Box::new(role)), scope))
    }

    fn given(&self, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<AwsKeys> {
        match (self.from, self.id, self.secret, self.token) {
            (None, None, None, None) => Some(AwsKeys::Environment),
            (Some(from), None, None, None) => self.from(from, scope, found),
            (None, Some(id), Some(secret), token) => {
                let (id, secret) = (uses(id, scope, found), uses(secret, scope, found));
                let token = match token {
                    Some(token) => Some(uses(token, scope, found)?),
                    None => None,
                };
                Some(AwsKeys::Secrets {
                    id: id?,
                    secret: secret?,
                    token,
                })
            }
            _ if self.bad => None,
            (Some(_), ..) => {
                let section = self.section;
                found
                    .error(self.at, format!("{section} wants `from`, or keys, and not both"))
                    .hint("take out one of them");
                None
            }
            _ => {
                let section = self.section;
                found
                    .error(
                        self.at,
                        format!("{section} wants both of `access_key_id` and `secret_access_key`, or neither"),
                    )
                    .hint(
                        "without them the keys are those of `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or with \
                         `from` those of this machine's role",
                    );
                None
            }
        }
    }

    fn from(&self, from: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<AwsKeys> {
        let session = match from.as_str() {
            "container" => AwsSession::Container,
            "web_identity" => AwsSession::WebIdentity {
                region: scope.aws_region.clone(),
            },
            "instance" => AwsSession::Instance,
            _ => {
                found
                    .error(from.at, "expected `container`, `web_identity` or `instance`")
                    .hint(
                        "`container` is ECS and EKS Pod Identity, `web_identity` is IAM roles for service accounts, \
                         `instance` is EC2",
                    );
                return None;
            }
        };
        Some(self.session(from, session, scope))
    }

    fn session(&self, name: &str, session: AwsSession, scope: &mut Scope<'_>) -> AwsKeys {
        let mint = Mint {
            how: How::AwsSession(Box::new(session)),
            timeout: self.timeout.unwrap_or(TIMEOUT),
        };
        let name = format!("aws/{}", name.strip_prefix("aws/").unwrap_or(name));
        AwsKeys::Session(scope.implied(&name, Source::Minted(Box::new(mint))))
    }
}

/// The parts of a session, each a secret of its own: id, key and token.
pub(super) fn parts(whole: &Uses, scope: &mut Scope<'_>) -> [Uses; 3] {
    PARTS.map(|part| {
        let how = How::Part {
            whole: whole.clone(),
            field: part.to_owned(),
            below: "",
        };
        let mint = Mint { how, timeout: TIMEOUT };
        let uses = scope.implied(&format!("{}/{part}", whole.name), Source::Minted(Box::new(mint)));
        scope.injected.insert(uses.id);
        uses
    })
}

/// The ARN of a role, as `arn:aws:iam::123456789012:role/NAME`.
fn arn(text: &Text, found: &mut Findings<'_>) -> Option<String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "/_+=.@:,-".contains(c);
    let parts: Vec<&str> = text.split(':').collect();
    if let ["arn", _, "iam", "", _, role] = parts[..]
        && role.starts_with("role/")
        && text.len() <= 2048
        && text.chars().all(fit)
    {
        return Some(text.value.clone());
    }
    found
        .error(text.at, "expected the ARN of a role")
        .hint("write it like `arn:aws:iam::123456789012:role/NAME`");
    None
}
