//! A program that is asked what a request is to be sent with, as meant; and which headers anybody may fill.

use http::HeaderName;
use std::time::Duration;

/// A program that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// How long an answer may take, with the wait for its turn.
    pub timeout: Duration,
    /// How many run at one time.
    pub concurrent: usize,
}

/// Headers that frame a message, steer a connection or say where it goes. A value put there could
/// split, misroute or stall requests (RFC 9110 §7.6.1, RFC 9112 §6), so no credential may.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "date",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
const RESERVED_PREFIXES: &[&str] = &["proxy-", "sec-websocket-", "x-keyferry-"];

/// Whether a credential may stand in this header.
pub fn may_be_filled(name: &HeaderName) -> bool {
    let text = name.as_str();
    !RESERVED.contains(&text) && !RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
}
