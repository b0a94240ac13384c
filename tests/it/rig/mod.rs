//! What the tests stand on: a private root, origins that are really TLS servers, the proxy as the
//! program a user starts, and agents from a raw socket up to the clients people use.
//!
//! A test reads: an origin, a rig with rules, what the agent did, what the origin saw.

pub mod admin;
pub mod agent;
pub mod disk;
pub mod docker;
pub mod names;
pub mod netns;
pub mod nginx;
pub mod origin;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod root;
pub mod routes;
pub mod running;
pub mod script;
pub mod systemd;
pub mod tap;
pub mod tools;
pub mod uplink;

mod selftest;

use std::time::Duration;

/// How long anything on loopback may take before a test gives up. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `probe` has an answer.
///
/// # Panics
/// When it has none within [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(tokio::time::Instant::now() < end, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `future`, or a panic that says what did not happen in time.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("gave up waiting: {what}"),
    }
}
