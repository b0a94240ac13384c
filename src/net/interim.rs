//! Interim answers (RFC 9110 §15.2) of an upstream over HTTP/1.1: a 100 opens the gate of a body that is held back, the
//! others pass unused, and more than a few are no answer at all.

use super::expect::Gate;
use crate::base::body::Body;
use http::{Request, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// Interim answers taken for one request. 103 may come a few times (RFC 8297 §2), 102 while the upstream works
/// (RFC 2518 §10.1, every 20 seconds or so): over ten minutes that is 30.
const MOST: u32 = 64;

/// The interim answers to one request so far.
#[derive(Debug, Default)]
pub(super) struct Interim {
    count: AtomicU32,
    over: Notify,
}

impl Interim {
    /// Counts those to `request`, and lets a 100 open its `gate`.
    pub(super) fn count(request: &mut Request<Body>, gate: Option<&Gate>) -> Arc<Self> {
        let interim = Arc::new(Self::default());
        let (counted, gate) = (Arc::clone(&interim), gate.cloned());
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE
                && let Some(gate) = &gate
            {
                gate.open();
            }
            if counted.count.fetch_add(1, Ordering::Relaxed) == MOST {
                counted.over.notify_one();
            }
        });
        interim
    }

    /// Resolves once there are too many.
    pub(super) async fn too_many(&self) {
        self.over.notified().await;
    }
}
