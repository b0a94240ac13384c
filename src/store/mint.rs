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
use std::sync::Arc;

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
