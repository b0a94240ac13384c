//! Real clients, started as their users start them: `keyferry run -- CLIENT …`, no proxy flag, no CA
//! flag. Each must get its answer, and the origin a credential that the client never held.

mod apt;
mod cargo;
pub mod claude;
mod curl;
mod git;
mod go;
mod grpc;
mod java;
mod nginx;
mod node;
mod npm;
mod openssl;
mod pip;
mod python;
mod registries;
mod wget;

use crate::rig::origin::{Origin, Received, Speaks};
use crate::rig::proxy::{Ran, Rig};
use crate::rig::root::Root;

/// What only Keyferry holds.
pub const REAL: &str = "sk-live-6f1c9b2e7a4d4f0e8c35b1d7";

/// An origin, and a rig whose one rule puts the credential in `x-api-key` for it.
pub async fn api() -> (Origin, Rig) {
    api_speaking(Speaks::Both).await
}

/// The same, with an origin of one protocol.
pub async fn api_speaking(speaks: Speaks) -> (Origin, Rig) {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", speaks).await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", REAL)
        .rule("name: api, host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }]");
    (origin, rig)
}

/// The credential came exactly once, as the whole value of that header, and nowhere else; nor did
/// the placeholder come anywhere.
pub fn credential_once(seen: &Received, ran: &Ran, header: &str, value: &str) {
    assert_eq!(seen.all(header), [value], "{} {}", seen.method, seen.target);
    let all = everything(seen);
    let count = all.matches(REAL).count();
    let expected = usize::from(value.contains(REAL));
    assert_eq!(count, expected, "the credential came {count} times: {seen:#?}");
    if let Some(held) = ran.env.get("API_KEY") {
        assert_ne!(held, REAL);
        assert!(
            !all.contains(held.as_str()),
            "the placeholder reached the origin: {seen:#?}"
        );
    }
    for name in [
        "proxy-authorization",
        "proxy-connection",
        "x-forwarded-for",
        "via",
        "forwarded",
    ] {
        assert!(!seen.headers.contains_key(name), "`{name}` reached the origin");
    }
}

/// A request's target, headers and body as one text.
fn everything(seen: &Received) -> String {
    let headers: Vec<_> = seen
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    format!(
        "{}\n{}\n{}",
        seen.target,
        headers.join("\n"),
        String::from_utf8_lossy(&seen.body)
    )
}

/// `user:password` as a Basic credential.
pub fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    )
}
