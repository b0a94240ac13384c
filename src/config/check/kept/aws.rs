//! Secrets Manager and Parameter Store.

use super::super::mint::{endpoint, maybe, word};
use super::super::scope::Scope;
use super::super::session::Whose;
use super::Common;
use crate::base::endpoint::Endpoint;
use crate::config::aws::AwsKeys;
use crate::config::kept::{Aws, AwsKept, Kept, Place};
use crate::config::leaf::Text;
use crate::config::raw::RawConfig;
use crate::config::raw_kept::{RawAws, RawAwsParameter, RawAwsSecret};
use crate::config::read::Findings;

/// Reads a secret of Secrets Manager.
pub(super) fn secret(
    raw: &RawAwsSecret,
    account: Option<&RawAws>,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Kept> {
    let (id, stage) = (name(&raw.id, found), maybe(raw.stage.as_ref(), found));
    let what = id.zip(stage).map(|(id, stage)| AwsKept::Secret { id, stage });
    let asked = Asked {
        service: "secretsmanager",
        name: &raw.id,
        region: raw.region.as_ref(),
        common: common!(raw, account),
    };
    asked.kept(what, account, scope, found)
}

/// Reads a parameter of Parameter Store.
pub(super) fn parameter(
    raw: &RawAwsParameter,
    account: Option<&RawAws>,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Kept> {
    let what = name(&raw.name, found).map(AwsKept::Parameter);
    let asked = Asked {
        service: "ssm",
        name: &raw.name,
        region: raw.region.as_ref(),
        common: common!(raw, account),
    };
    asked.kept(what, account, scope, found)
}

/// A name or an ARN: long ones look like credentials, and are none.
fn name(text: &Text, found: &mut Findings<'_>) -> Option<String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "/_+=.@:-".contains(c);
    if text.is_empty() || text.len() > 2048 || !text.chars().all(fit) {
        found.error(text.at, "expected a name or an ARN");
        return None;
    }
    Some(text.value.clone())
}

/// Whom to ask for what.
struct Asked<'r> {
    service: &'static str,
    name: &'r Text,
    region: Option<&'r Text>,
    common: Common<'r>,
}

impl Asked<'_> {
    fn kept(
        self,
        what: Option<AwsKept>,
        account: Option<&RawAws>,
        scope: &mut Scope<'_>,
        found: &mut Findings<'_>,
    ) -> Option<Kept> {
        let (at, region, keys) = self.place(account, scope, found)?;
        let what = what?;
        self.common
            .kept(Place::Aws(Box::new(Aws { at, region, what, keys })), found)
    }

    fn place(
        &self,
        account: Option<&RawAws>,
        scope: &mut Scope<'_>,
        found: &mut Findings<'_>,
    ) -> Option<(Endpoint, String, AwsKeys)> {
        let keys = keys(account, scope, found);
        // arn:PARTITION:SERVICE:REGION:ACCOUNT:…
        let of_arn = self.name.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        let written = self.region.or(account.and_then(|account| account.region.as_ref()));
        let region = match (self.region, of_arn, written) {
            (None, Some(region), _) if !region.is_empty() => region.to_owned(),
            (_, _, Some(text)) => word(text, found)?,
            _ => {
                found
                    .error(self.name.at, "nothing says in which region this is")
                    .hint("add `aws: { region: eu-west-1 }` at the top, or `region` here");
                return None;
            }
        };
        if !is_region(&region) {
            let at = self.region.or(written).unwrap_or(self.name).at;
            found.error(at, "expected a region, such as `eu-west-1`");
            return None;
        }
        let at = match account.and_then(|account| account.endpoint.as_ref()) {
            Some(text) => endpoint(text, found)?,
            None => {
                let domain = if region.starts_with("cn-") {
                    "amazonaws.com.cn"
                } else {
                    "amazonaws.com"
                };
                Endpoint::parse(&format!("https://{}.{region}.{domain}", self.service)).ok()?
            }
        };
        Some((at, region, keys?))
    }
}

/// The region of `aws`, if it names one that is fit; one that is not is told of by what is asked there.
pub(in super::super) fn region(raw: &RawConfig) -> Option<String> {
    let region = &raw.aws.as_ref()?.region.as_ref()?.value;
    is_region(region).then(|| region.clone())
}

fn is_region(text: &str) -> bool {
    let fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(fit)
}

fn keys(account: Option<&RawAws>, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<AwsKeys> {
    let Some(account) = account else {
        return Some(AwsKeys::Environment);
    };
    let whose = Whose {
        section: "`aws`",
        at: account.at,
        bad: account.bad,
        from: account.from.as_ref(),
        id: account.access_key_id.as_ref(),
        secret: account.secret_access_key.as_ref(),
        token: account.session_token.as_ref(),
        role: account.assume_role.as_ref(),
        external_id: account.external_id.as_ref(),
        timeout: account.timeout.as_ref().map(|time| time.0),
    };
    whose.keys(scope, found)
}
