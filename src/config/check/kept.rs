//! Secrets that stores of others keep: which of them, and who asks.

/// The keys that every entry has, of a section and of the one that says where its store is.
macro_rules! common {
    ($raw:expr, $server:expr) => {
        Common {
            field: $raw.field.as_ref(),
            ttl: $raw.ttl.as_ref(),
            grace: $raw.grace.as_ref(),
            timeout: $server.and_then(|server| server.timeout.as_ref()),
        }
    };
}

mod aws;
mod azure;
mod google;
mod keyring;
mod kubernetes;
mod onepassword;
mod secret_service;

use super::scope::Scope;
use super::vault::{self, Vault};
use crate::config::kept::{Kept, Place};
use crate::config::leaf::{At, Lasting, Text};
use crate::config::mint::Mint;
use crate::config::model::Source;
use crate::config::raw::{RawConfig, SecretMap};
use crate::config::read::Findings;
use std::time::Duration;

pub(super) use aws::region as aws_region;
pub(super) use kubernetes::account;

/// The stores that a config names.
pub(super) struct Stores<'r> {
    raw: &'r RawConfig,
    /// Where the Vault is; the inner `None` is a mistake that was told of.
    vault: Option<Option<Vault>>,
}

/// How long a value is good for, unless the config says otherwise.
pub(super) const TTL: Duration = Duration::from_secs(300);
/// How long the last value is used beyond that.
pub(super) const GRACE: Duration = Duration::from_secs(3600);

impl<'r> Stores<'r> {
    /// Reads where they are, and who asks them.
    pub(super) fn read(raw: &'r RawConfig, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Self {
        let vault = raw.vault.as_ref().map(|raw| vault::server(raw, scope, found));
        Self { raw, vault }
    }

    /// The keys of a secret under which such a store is named, where they are given.
    pub(super) fn given(secret: &SecretMap) -> impl Iterator<Item = &'static str> {
        let given = [
            (secret.vault.is_some(), "vault"),
            (secret.aws_secret.is_some(), "aws_secret"),
            (secret.aws_parameter.is_some(), "aws_parameter"),
            (secret.kubernetes_secret.is_some(), "kubernetes_secret"),
            (secret.gcp_secret.is_some(), "gcp_secret"),
            (secret.azure_secret.is_some(), "azure_secret"),
            (secret.onepassword_item.is_some(), "onepassword_item"),
            (secret.keyring.is_some(), "keyring"),
            (secret.secret_service.is_some(), "secret_service"),
        ];
        given.into_iter().filter_map(|(given, name)| given.then_some(name))
    }

    /// What is to be fetched; `None` where there is a mistake in it, or nothing.
    pub(super) fn source(&self, secret: &SecretMap, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Source> {
        if let Some(entry) = &secret.vault {
            let vault = match &self.vault {
                Some(told) => Some(told.as_ref()?),
                None => None,
            };
            let mint: Mint = vault::entry(entry, vault, scope, found)?;
            return Some(Source::Minted(Box::new(mint)));
        }
        let account = self.raw.aws.as_ref();
        let kept = if let Some(raw) = &secret.aws_secret {
            aws::secret(raw, account, scope, found)?
        } else if let Some(raw) = &secret.aws_parameter {
            aws::parameter(raw, account, scope, found)?
        } else if let Some(raw) = &secret.kubernetes_secret {
            kubernetes::secret(raw, self.raw.kubernetes.as_ref(), scope, found)?
        } else if let Some(raw) = &secret.gcp_secret {
            google::secret(raw, scope, found)?
        } else if let Some(raw) = &secret.azure_secret {
            azure::secret(raw, scope, found)?
        } else if let Some(raw) = &secret.onepassword_item {
            onepassword::item(raw, self.raw.onepassword.as_ref(), scope, found)?
        } else if let Some(raw) = &secret.secret_service {
            secret_service::item(raw, found)?
        } else {
            keyring::key(secret.keyring.as_ref()?, found)?
        };
        Some(Source::Kept(Box::new(kept)))
    }
}

/// The keys that every entry has.
struct Common<'r> {
    field: Option<&'r Text>,
    ttl: Option<&'r At<Lasting>>,
    grace: Option<&'r At<Lasting>>,
    timeout: Option<&'r At<Lasting>>,
}

impl Common<'_> {
    fn kept(self, place: Place, found: &mut Findings<'_>) -> Option<Kept> {
        Some(Kept {
            place,
            field: super::mint::maybe(self.field, found)?,
            ttl: self.ttl.map_or(TTL, |time| time.0),
            grace: self.grace.map_or(GRACE, |time| time.0),
            timeout: self.timeout.map_or(super::mint::TIMEOUT, |time| time.0),
        })
    }
}

/// A name that stands in a URL as it is: letters, digits and `signs`.
fn named(text: &Text, signs: &str, what: &str, found: &mut Findings<'_>) -> Option<String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
    let dots = text.chars().all(|c| c == '.');
    if dots || text.len() > 253 || !text.chars().all(fit) {
        found.error(text.at, format!("expected {what}"));
        return None;
    }
    Some(text.value.clone())
}
