//! Messages to token services and stores, by the way that every request goes.

use super::error::Cause;
use super::{AtHand, Inner, fetch};
use crate::base::body::Body;
use crate::base::clock;
use crate::base::endpoint::Endpoint;
use crate::base::metadata::Metadata;
use crate::base::secret::Secret;
use crate::config::mint::Uses;
use crate::net::Upstream;
use crate::net::errand::Told;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// One message.
pub(super) struct Errand {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Errand {
    /// A POST of a body of this type.
    pub(super) fn post(kind: &'static str, body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            method: Method::POST,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static(kind))],
            body,
        }
    }

    /// The same with another header field.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A GET that shows a bearer token.
    pub(super) fn get(bearer: HeaderValue) -> Self {
        Self {
            method: Method::GET,
            headers: vec![(AUTHORIZATION, bearer)],
            body: Zeroizing::default(),
        }
    }

    fn request(self) -> Request<Body> {
        let length = self.body.len();
        let mut request = Request::new(match length {
            0 => Body::Empty,
            // Wiped when the last who holds it lets go.
            _ => Body::full(Bytes::from_owner(self.body)),
        });
        *request.method_mut() = self.method;
        let headers = request.headers_mut();
        headers.extend(self.headers);
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("keyferry"));
        if length > 0 {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        request
    }
}

impl Inner {
    /// Sends it, and waits for the answer; the deadline is the caller's.
    pub(super) async fn errand(&self, to: &Endpoint, errand: Errand) -> Result<Told, Cause> {
        self.errand_trusting(None, to, errand).await
    }

    /// The same, to an endpoint that is verified by the roots in a file of its own.
    pub(super) async fn errand_trusting(
        &self,
        roots: Option<&Path>,
        to: &Endpoint,
        errand: Errand,
    ) -> Result<Told, Cause> {
        let way = self.way()?;
        let request = errand.request();
        let told = match roots {
            Some(roots) => way.errand_trusting(roots, to, request).await,
            None => way.errand(to, request).await,
        };
        told.map_err(|source| Cause::Remote {
            at: to.to_string(),
            source: Arc::new(source),
        })
    }

    /// The same, to a service that gives this machine credentials.
    pub(super) async fn errand_nearby(&self, to: &Metadata, errand: Errand) -> Result<Told, Cause> {
        let told = self.way()?.errand_nearby(to, errand.request()).await;
        told.map_err(|source| Cause::Remote {
            at: to.endpoint().to_string(),
            source: Arc::new(source),
        })
    }

    fn way(&self) -> Result<Arc<Upstream>, Cause> {
        let way = self.way.get().and_then(std::sync::Weak::upgrade);
        way.ok_or(Cause::Stopping)
    }

    /// The value of another secret that one is made with.
    pub(super) async fn used(self: &Arc<Self>, uses: &Uses) -> Result<Arc<super::Held>, Cause> {
        let at_hand = self
            .slots
            .get(uses.id.index())
            .map_or(AtHand::None, super::Slot::at_hand);
        let held = match at_hand {
            AtHand::Good(held) => Ok(held),
            AtHand::Ageing(held) => {
                // For whoever asks next; how it ends is told to those who wait for it.
                let _ = fetch::join(self, uses.id);
                Ok(held)
            }
            AtHand::None => fetch::wait(self, uses.id).await,
        };
        held.map_err(|cause| Cause::MadeWith {
            name: Arc::clone(&uses.name),
            cause: Box::new(cause),
        })
    }
}

/// What cannot be used of a secret.
pub(super) fn unfit(uses: &Uses, reason: impl ToString) -> Cause {
    Cause::MadeOf {
        name: Arc::clone(&uses.name),
        reason: reason.to_string(),
    }
}

/// What is wrong with an answer.
pub(super) fn answered(to: &Endpoint, told: &Told, reason: impl ToString) -> Cause {
    Cause::RemoteAnswer {
        at: to.to_string(),
        status: told.status.as_u16(),
        reason: match clock::doubt(&told.headers, SystemTime::now()) {
            Some(doubt) => format!("{}; {doubt}", reason.to_string()),
            None => reason.to_string(),
        },
    }
}

/// A header value that a secret was made into.
pub(super) fn fits(uses: &Uses, value: Option<HeaderValue>) -> Result<HeaderValue, Cause> {
    value.ok_or_else(|| unfit(uses, "it cannot stand in a header"))
}

/// A secret of our own making, used as those of the config are.
pub(super) fn header(token: &Secret) -> Result<HeaderValue, Cause> {
    crate::sign::said::value("Bearer ", crate::sign::said::Field::Secret(token)).ok_or(Cause::Unknown)
}
