//! Puts credentials in a permitted ask, after removing whatever the agent sent in their place, and
//! says what must not come back. The rule was chosen before; nothing here widens it.

pub mod arm;
pub mod body;
pub mod captured;
mod clocks;
mod collect;
mod cookie;
mod hmac;
pub mod login;
mod mtls;
pub mod place;
mod program;
pub mod sigv4;
pub mod standin;
pub mod strays;
mod trailers;
pub mod websocket;

pub use arm::{Armed, Injector};
pub use captured::Captured;
pub use standin::StandIns;
pub use strays::Misplaced;

use crate::base::budget::Full;
use std::sync::Arc;

/// Why a credential was not placed. Then the request is not sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store has no value.
    #[error("credential `{name}` cannot be had: {source}")]
    Unavailable {
        /// The credential.
        name: Arc<str>,
        /// Why; it holds nothing of the value.
        #[source]
        source: crate::store::Error,
    },
    /// The value cannot stand where the rule puts it.
    #[error("credential `{0}` holds bytes that cannot stand in a header")]
    Unfit(Arc<str>),
    /// There is no client certificate to show.
    #[error("the client certificate `{0}` cannot be shown: {1}")]
    Certificate(Arc<str>, crate::net::UnfitCertificate),
    /// The connection is not encrypted.
    #[error("rule `{0}` has a credential, and the request is plain HTTP")]
    Plaintext(Arc<str>),
    /// A stand-in where it has no business.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    /// The body cannot be searched for the stand-in.
    #[error("{0}")]
    Body(#[from] body::Error),
    /// The request cannot be signed.
    #[error("the request cannot be signed: {0}")]
    Unsignable(&'static str),
    /// The agent's body did not come whole in time, and is to be searched or signed before it goes out.
    #[error("the request body was not whole after {0:?}")]
    Slow(std::time::Duration),
    /// Too much is held in memory already to collect the body.
    #[error("the request body must be held in memory to look for its placeholder, and {}", match .0 {
        Full::Own => "this agent has as much in memory as it may",
        Full::Whole => "all that bodies may take is taken",
    })]
    Crowded(Full),
    /// The agent's body broke off while it was collected.
    #[error("the request body failed: {0}")]
    Collect(#[source] crate::base::body::BoxError),
}
