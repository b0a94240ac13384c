//! What breaks around Keyferry, and Keyferry itself: a process killed, a disk full, a clock that jumps, descriptors used
//! up, a secret's source gone. After each, nothing has gone out without its credential, no audit line is torn, and the
//! next start is clean.

mod clock;
mod descriptors;
mod disk;
mod killed;
mod programs;
mod resolver;
mod rotation;
mod sources;
mod stopped;
mod stored;
mod upstream;

use crate::rig::origin::Origin;
use crate::rig::proxy::Proxy;
use serde_json::Value;
use std::path::Path;

/// The credential of these tests.
pub const KEY: &str = "sk-live-4f3e2d1c0b9a8776";

/// The rule of these tests.
pub const BEARER: &str = "name: api, host: api.test, inject: [{ bearer: api_key }]";

/// Every line of an audit file.
///
/// # Panics
/// When one is torn.
pub fn whole(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn last line: {text}");
    let line = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("a torn line: {line}"));
    text.lines().map(line).collect()
}

/// Kills the proxy and starts it again with the same files.
pub async fn killed(mut proxy: Proxy) -> Proxy {
    proxy.child.kill().await;
    proxy.rig.serve().await
}

/// Nothing came to this host without its credential.
pub fn all_armed(origin: &Origin) {
    for one in origin.seen() {
        assert_eq!(
            one.all("authorization"),
            [format!("Bearer {KEY}")],
            "{} {}",
            one.method,
            one.target
        );
    }
}
