//! Tokens that are asked of a service, or made here, out of other secrets.

mod assertion;
mod aws;
mod github;
mod google;
mod oauth2;
mod part;
mod rotated;
mod vault;
mod vault_lent;

use super::error::Cause;
use super::fetch::Fetched;
use super::{Inner, Slot};
use crate::config::mint::{How, Mint};
use crate::sign::said::Given;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Makes one, or has it made.
pub(super) async fn mint(inner: &Arc<Inner>, slot: &Slot, mint: &Mint) -> Result<Fetched, Cause> {
    let made = async {
        match &mint.how {
            How::OAuth2(spec) => oauth2::ask(inner, &slot.name, spec).await,
            How::Signed(spec) => assertion::fetched(inner, spec).await,
            How::GitHubApp(spec) => github::ask(inner, spec).await,
            How::Gcp(spec) => google::ask(inner, spec).await,
            How::VaultLogin(spec) => vault_lent::login(inner, slot, spec).await,
            How::Vault(spec) => vault::read(inner, spec, slot.shape.document).await,
            How::VaultLease(spec) => vault_lent::lease(inner, slot, spec).await,
            How::AwsSession(spec) => aws::session(inner, spec).await,
            How::Part { whole, field, below } => part::part(inner, whole, field, below).await,
        }
    };
    let made = tokio::time::timeout(mint.timeout, made).await;
    made.unwrap_or_else(|_| {
        Err(Cause::RemoteTimeout {
            at: mint.how.asked(),
            after: mint.timeout,
        })
    })
}

/// The seconds that a token is good for, where its answer says so.
fn seconds(given: &Given) -> Option<f64> {
    let until = given
        .until
        .as_deref()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let left = until.map(|until| (until - OffsetDateTime::from(SystemTime::now())).as_seconds_f64());
    given.seconds.or(left)
}

/// How long that is, less a little: on its way it must not end. `Err` says that it has ended.
fn term(seconds: Option<f64>) -> Result<Option<Duration>, &'static str> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let seconds = seconds.clamp(0.0, LONGEST.as_secs_f64());
    let seconds = seconds - (seconds / 10.0).min(10.0);
    if seconds < 1.0 {
        return Err("its token has expired already");
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// A token that would be good for longer is asked for anew.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
