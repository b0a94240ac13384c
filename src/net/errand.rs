//! Requests of Keyferry's own, to an endpoint that the operator named: a token service, a store of secrets. They go the
//! way of every other: the address is judged, the parent asked, the certificate verified. No redirect is followed. The one
//! exception is a service that gives this machine credentials: it is asked at its own address, which agents never reach.

use super::Error;
use super::send::Upstream;
use crate::base::body::Body;
use crate::base::endpoint::Endpoint;
use crate::base::metadata::Metadata;
use crate::config::parent::Via;
use crate::policy::limit::Held;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use std::path::Path;
use zeroize::Zeroizing;

/// What an endpoint answered.
#[derive(Debug)]
pub struct Told {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, wiped when it is dropped.
    pub body: Zeroizing<Vec<u8>>,
}

/// Bytes of an answer at most.
const LONGEST: usize = 256 * 1024;

impl Upstream {
    /// As [`errand`](Self::errand), to an endpoint whose certificate is verified by the roots in this file alone. The
    /// file is read each time: it may be replaced.
    ///
    /// # Errors
    /// As for that one, and when the roots cannot be read.
    pub async fn errand_trusting(
        &self,
        roots: &Path,
        endpoint: &Endpoint,
        request: Request<Body>,
    ) -> Result<Told, Error> {
        self.trusting(roots)?.errand(endpoint, request).await
    }

    /// As [`errand`](Self::errand), to a service that gives this machine credentials: to its address and to no other, past any
    /// parent, which would have one of its own there.
    ///
    /// # Errors
    /// As for that one.
    pub async fn errand_nearby(&self, metadata: &Metadata, request: Request<Body>) -> Result<Told, Error> {
        let way = self.only(metadata.address());
        way.told(metadata.endpoint(), &Via::Direct, request).await
    }

    /// Sends `request`, whose URI is of no account, to the endpoint, and waits for the whole answer. The deadline is
    /// the caller's.
    ///
    /// # Errors
    /// When there is no way to it, or no whole answer.
    pub async fn errand(&self, endpoint: &Endpoint, request: Request<Body>) -> Result<Told, Error> {
        self.told(endpoint, &Via::Default, request).await
    }

    async fn told(&self, endpoint: &Endpoint, via: &Via, mut request: Request<Body>) -> Result<Told, Error> {
        *request.uri_mut() = Uri::from(endpoint.path.clone());
        let way = (endpoint.target.clone(), endpoint.scheme, via);
        let request = Box::new(request);
        let mut answer = self.carry((None, None), way, request, Held::default()).await?;
        let target = || endpoint.target.clone();
        let mut body = Zeroizing::new(Vec::with_capacity(LONGEST));
        let incoming = answer.response.body_mut();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| Error::Http(target(), error))?;
            let Ok(piece) = frame.into_data() else { continue };
            if body.len() + piece.len() > LONGEST {
                return Err(Error::Long(target(), LONGEST));
            }
            body.extend_from_slice(&piece);
        }
        answer.lease.finish();
        let (parts, _) = answer.response.into_parts();
        Ok(Told {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}
