//! Where a credential may be put: header names, query names, places of a placeholder.

use crate::config::leaf::Text;
use crate::config::looks::shown;
use crate::config::model::Place as Slot;
use crate::config::program::may_be_filled;
use crate::config::read::Findings;
use http::HeaderName;

/// Reads the name of a header a credential may go into.
pub(super) fn header(name: &str, at: &Text, found: &mut Findings<'_>) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        found
            .error(at.at, format!("`{}` is no header name", shown(name)))
            .hint("a header name is of letters, digits and hyphens, such as `x-api-key`");
        return None;
    };
    if !may_be_filled(&header) {
        found
            .error(at.at, format!("nothing may be injected into `{header}`"))
            .hint("this header belongs to the connection, not to the request");
        return None;
    }
    Some(header)
}

/// Reads the name of a query parameter.
pub(super) fn query(name: &str, at: &Text, found: &mut Findings<'_>) -> Option<String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        found
            .error(at.at, "expected the name of a query parameter")
            .hint("write it like `query: key`");
        return None;
    }
    Some(name.to_owned())
}

/// Reads the name of a cookie (RFC 6265 §4.1.1).
pub(super) fn cookie(at: &Text, found: &mut Findings<'_>) -> Option<String> {
    if HeaderName::from_bytes(at.as_bytes()).is_err() {
        found
            .error(at.at, format!("`{}` is no name of a cookie", shown(at)))
            .hint("write it like `cookie: session`");
        return None;
    }
    Some(at.value.clone())
}

/// Reads one place a placeholder may stand in.
pub(super) fn slot(text: &Text, found: &mut Findings<'_>) -> Option<Slot> {
    match text.split_once(':') {
        Some(("header", name)) => header(name.trim(), text, found).map(Slot::Header),
        Some(("query", name)) => query(name.trim(), text, found).map(Slot::Query),
        Some(("body", pointer)) if is_pointer(pointer) => Some(Slot::Body(pointer.to_owned())),
        None if text.value == "path" => Some(Slot::Path),
        None if text.value == "websocket" => Some(Slot::WebSocket),
        _ => {
            found
                .error(
                    text.at,
                    format!("`{}` is no place a placeholder can stand in", shown(text)),
                )
                .hint("write `header:NAME`, `query:NAME`, `path`, `body:/POINTER` or `websocket`");
            None
        }
    }
}

/// A JSON pointer that points below the root; `~` begins `~0` or `~1` only (RFC 6901 §3).
fn is_pointer(text: &str) -> bool {
    let escapes_hold = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.len() > 1 && text.starts_with('/') && escapes_hold
}
