//! What a Vault says of what it lends.

use serde::Deserialize;
use std::time::Duration;

/// On which terms something is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// The name of the lease; empty for a token.
    pub lease: String,
    /// For how long; zero is without end.
    pub time: Duration,
    /// Whether it may be renewed.
    pub renewable: bool,
}

/// The terms in an answer: those of the token in it, if there is one, or else those of the lease.
pub fn terms(body: &[u8]) -> Option<Lent> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        lease_id: String,
        #[serde(default)]
        lease_duration: u64,
        #[serde(default)]
        renewable: bool,
        auth: Option<Auth>,
    }
    #[derive(Deserialize)]
    struct Auth {
        #[serde(default)]
        lease_duration: u64,
        #[serde(default)]
        renewable: bool,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let (lease, seconds, renewable) = match answer.auth {
        Some(auth) => (String::new(), auth.lease_duration, auth.renewable),
        None => (answer.lease_id, answer.lease_duration, answer.renewable),
    };
    Some(Lent {
        lease,
        time: Duration::from_secs(seconds),
        renewable,
    })
}
