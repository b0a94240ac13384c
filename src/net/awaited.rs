//! Waiting for the head of a response.

use super::Error;
use super::expect::Gate;
use super::interim::Interim;
use super::outgoing::Upload;
use crate::base::body::Body;
use crate::base::host::Target;
use http::Request;
use std::pin::Pin;
use std::time::{Duration, Instant};

/// What is known of a request until its response comes.
#[derive(Debug)]
pub(super) struct Awaited {
    /// How the request's body gets on, if it has one.
    pub(super) upload: Option<Upload>,
    /// Holds the body back until the upstream says to continue, if the agent asked for that.
    pub(super) gate: Option<Gate>,
}

impl Awaited {
    /// Watches a request that is about to be sent.
    pub(super) fn watch(request: &mut Request<Body>) -> Self {
        let upload = Upload::watch(request);
        let gate = Gate::install(request);
        Self { upload, gate }
    }

    /// Waits for the head so long after the request's last piece: an upload may take its time.
    ///
    /// # Errors
    /// When the time has passed, and who let it pass; when `interim` responses come without end.
    pub(super) async fn head<T>(
        &self,
        target: &Target,
        time: Duration,
        interim: Option<&Interim>,
        mut sending: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let due = || self.upload.as_ref().map_or(begun, |upload| upload.moved().max(begun)) + time;
        loop {
            tokio::select! {
                biased;
                answered = sending.as_mut() => return Ok(answered),
                () = too_many(interim) => return Err(Error::Interim(target.clone())),
                () = tokio::time::sleep_until(due().into()) => {}
            }
            if due() > Instant::now() {
                continue;
            }
            return Err(match &self.upload {
                Some(upload) if upload.waits_for_agent() => Error::Stalled(time),
                _ => Error::ResponseTime(target.clone()),
            });
        }
    }
}

async fn too_many(interim: Option<&Interim>) {
    match interim {
        Some(interim) => interim.too_many().await,
        None => std::future::pending().await,
    }
}
