//! A hostile agent inside, a hostile host outside: whatever they send, the credential stays where it
//! belongs, and exactly the request that was judged arrives, or none.

#![allow(
    clippy::too_many_lines,
    clippy::excessive_nesting,
    reason = "tables of attacks, tried in every combination"
)]

mod addresses;
mod careless;
mod crossing;
mod echo;
pub mod frames;
mod hops;
mod malformed;
mod matrix;
mod paths;
mod placeholders;
mod smuggled;
mod strays;
mod tricks;
mod witness;

pub use echo::brotli;

use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use witness::Witness;

/// The credential of these tests.
pub const KEY: &str = "sk-live-9f8e7d6c5b4a39281706f5e4";

/// Whether the credential stands in `bytes` in any spelling that would be of use.
pub fn tells(bytes: &[u8]) -> bool {
    let hex: String = KEY.bytes().map(|b| format!("{b:02x}")).collect();
    let percent: String = KEY.bytes().map(|b| format!("%{b:02x}")).collect();
    let mut spellings = vec![KEY.to_owned(), hex.to_uppercase(), hex, percent.to_uppercase(), percent];
    for (pad, cut) in [("", 0), ("x", 2), ("xx", 3)] {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            // The last character may mix with what follows.
            let coded = engine.encode(format!("{pad}{KEY}"));
            spellings.push(coded[cut..coded.len() - 1].to_owned());
        }
    }
    let text = String::from_utf8_lossy(bytes);
    spellings.iter().any(|spelling| text.contains(spelling.as_str()))
}

/// The promise that ends every test: nothing of the credential is in the log, the audit records, or in any of
/// `heard`, which is what others than the host it is for were told.
pub fn kept(proxy: &Proxy, heard: &[&[u8]]) {
    assert!(!tells(proxy.child.log().as_bytes()), "the log tells the credential");
    let audit = std::fs::read(proxy.rig.dir().join("audit.jsonl")).unwrap_or_default();
    assert!(!tells(&audit), "the audit log tells the credential");
    for (at, bytes) in heard.iter().enumerate() {
        assert!(
            !tells(bytes),
            "number {at} was told: {}",
            String::from_utf8_lossy(bytes)
        );
    }
}

/// The host the credential is for, another that is allowed without one, and a proxy before them.
pub async fn two(rule: &str) -> (Witness, Witness, Proxy) {
    let root = Root::new();
    let api = Witness::start(&root, "api.test").await;
    let other = Witness::start(&root, "other.test").await;
    let rig = Rig::new(&root)
        .reach_as("api.test", api.address)
        .reach_as("other.test", other.address)
        .secret("API_KEY", KEY);
    let proxy = rig.rule(rule).rule("host: other.test").serve().await;
    (api, other, proxy)
}

/// The usual rule for the host the credential is for.
pub const BEARER: &str = "host: api.test, inject: [{ bearer: api_key }]";
