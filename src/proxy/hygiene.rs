//! What is for one hop only, and what no upstream or agent should see: removed before anything is
//! injected, so that an agent cannot have the injected header removed by naming it in `Connection`.

use super::fault::ERROR_HEADER;
use http::header::{
    self, ALT_SVC, CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The fields of RFC 9110 §7.6.1 beside those that `Connection` names.
const ONE_HOP: [HeaderName; 6] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
    TE,
];

const FOR_PROXIES: [HeaderName; 2] = [PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];

/// `Alt-Svc` would lead agents out over QUIC, past us; the other is ours alone: an agent may rely on it to know who refused.
const NO_ANSWERS: [HeaderName; 2] = [ALT_SVC, ERROR_HEADER];

/// Fields a `Connection` header may not take out: they say where the request goes and what it is.
const KEPT: [&str; 4] = ["host", "content-length", "content-type", "cookie"];

/// Whether an agent asks for a WebSocket over HTTP/1.1 (RFC 6455 §4.1). Any other upgrade is dropped,
/// and the request goes on as an ordinary one.
pub fn wants_websocket(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && method == Method::GET
        && has_token(headers, &UPGRADE, "websocket")
        && has_token(headers, &CONNECTION, "upgrade")
}

/// Cleans a request's headers.
pub fn request(headers: &mut HeaderMap) {
    let trailers = has_token(headers, &TE, "trailers");
    drop_one_hop(headers);
    drop_each(headers, &FOR_PROXIES);
    fewer_forwards(headers);
    one_cookie_field(headers);
    if trailers {
        // gRPC servers insist on it; the way out names it in `Connection` where HTTP/1.1 wants that.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Cleans a response's headers.
pub fn response(headers: &mut HeaderMap) {
    drop_one_hop(headers);
    drop_each(headers, &FOR_PROXIES);
    drop_each(headers, &NO_ANSWERS);
}

/// HTTP/2 may split a `Cookie` field in many (RFC 9113 §8.2.3); in HTTP/1.1 only one is right (RFC 6265 §5.4), and
/// servers differ about which of several they read.
fn one_cookie_field(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

/// Counts one hop down (RFC 9110 §7.6.2); what is no count goes.
fn fewer_forwards(headers: &mut HeaderMap) {
    let Some(value) = headers.remove(header::MAX_FORWARDS) else {
        return;
    };
    let count = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(fewer) = count.and_then(|count| count.checked_sub(1)) {
        headers.insert(header::MAX_FORWARDS, HeaderValue::from(fewer));
    }
}

/// Removes from trailers what would override the head: framing, routing, credentials, and what says how to read
/// the content (RFC 9110 §6.5.1).
pub fn trailers(trailers: &mut HeaderMap) {
    drop_one_hop(trailers);
    drop_each(trailers, &NO_TRAILERS);
}

const NO_TRAILERS: [HeaderName; 17] = [
    HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::TRAILER,
    header::AUTHORIZATION,
    header::WWW_AUTHENTICATE,
    COOKIE,
    header::SET_COOKIE,
    header::EXPECT,
    header::MAX_FORWARDS,
    header::RANGE,
    header::LOCATION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    ALT_SVC,
];

fn drop_one_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter(|token| !KEPT.iter().any(|kept| token.eq_ignore_ascii_case(kept)))
            .filter_map(|token| HeaderName::try_from(token).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    drop_each(headers, &ONE_HOP);
}

/// Removes these fields. One pass over the few that are there costs less than a search for each that may be.
fn drop_each(headers: &mut HeaderMap, names: &[HeaderName]) {
    let first = |headers: &HeaderMap| headers.keys().find(|name| names.contains(name)).cloned();
    while let Some(name) = first(headers) {
        headers.remove(name);
    }
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|token| token.trim_matches([' ', '\t']))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| {
        token
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case(wanted)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_for_one_hop_goes_no_further() {
        let mut headers = map(&[
            ("connection", "close, X-Hop , content-length"),
            ("x-hop", "1"),
            ("content-length", "5"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("te", "trailers, gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("accept", "*/*"),
        ]);
        request(&mut headers);
        assert_eq!(
            headers,
            map(&[("content-length", "5"), ("te", "trailers"), ("accept", "*/*")])
        );
    }

    #[test]
    fn only_a_websocket_may_upgrade() {
        let ws = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(wants_websocket(&Method::GET, Version::HTTP_11, &map(&ws)));
        assert!(!wants_websocket(&Method::POST, Version::HTTP_11, &map(&ws)));
        assert!(!wants_websocket(&Method::GET, Version::HTTP_10, &map(&ws)));
        assert!(!wants_websocket(&Method::GET, Version::HTTP_11, &map(&ws[1..])));
    }
}
