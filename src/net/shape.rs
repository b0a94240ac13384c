//! The form a request takes for each protocol version.

use super::Error;
use super::pool::Key;
use crate::base::ask::Scheme;
use crate::base::body::Body;
use crate::base::host::{Host, Target};
use http::header::{CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, Version};
use percent_encoding::{CONTROLS, utf8_percent_encode};

/// Header fields in one message, from an agent or an upstream. Browsers send some 30; up to this many, its own figure, hyper
/// reads without the heap.
pub const MOST_HEADERS: usize = 100;

/// Whether the request asks for another protocol on its connection.
pub(super) fn is_upgrade(request: &Request<Body>) -> bool {
    request.headers().contains_key(UPGRADE)
}

/// Origin-form and a `Host` header (RFC 9112 §3.2.1).
pub(super) fn for_http1(request: &mut Request<Body>, key: &Key) -> Result<(), Error> {
    let path = path_of(request)?;
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    let host = HeaderValue::from_maybe_shared(authority(&key.target, key.scheme).into_bytes());
    request.headers_mut().insert(
        HOST,
        host.map_err(|_| Error::Request("the host cannot stand in a header"))?,
    );
    if request.headers().contains_key(TE) {
        // TE is for the next hop only, so the connection must name it (RFC 9110 §10.1.4).
        request.headers_mut().append(CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(())
}

/// Absolute-form without `Host`: `:scheme`, `:authority` and `:path` say it (RFC 9113 §8.3.1).
pub(super) fn for_http2(request: &mut Request<Body>, authority: &Authority) -> Result<(), Error> {
    let mut parts = http::uri::Parts::default();
    // Only TLS can tell that HTTP/2 is spoken (RFC 9113 §3.2).
    parts.scheme = Some(http::uri::Scheme::HTTPS);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path_of(request)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::Request("the path cannot stand in a URI"))?;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(HOST);
    Ok(())
}

/// The target as `:authority` has it.
pub(super) fn authority_of(key: &Key) -> Result<Authority, Error> {
    let authority = Authority::try_from(authority(&key.target, key.scheme));
    authority.map_err(|_| Error::Request("the host cannot stand in a URI"))
}

/// A WebSocket handshake as HTTP/2 has it (RFC 8441 §4, §5): the key and the upgrade go without saying.
pub(super) fn for_extended_connect(request: &mut Request<Body>) {
    *request.method_mut() = Method::CONNECT;
    request
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    for name in [UPGRADE, CONNECTION, SEC_WEBSOCKET_KEY] {
        request.headers_mut().remove(name);
    }
    *request.body_mut() = Body::Empty;
}

/// Path and query as the agent wrote them, but in ASCII (RFC 3986 §2): to a server that takes raw UTF-8 for Latin-1 there
/// are other characters in it, blanks among them. Percent-encoded it means what it was judged by (RFC 3987 §3.1).
fn path_of(request: &Request<Body>) -> Result<PathAndQuery, Error> {
    let Some(path) = request.uri().path_and_query() else {
        return Ok(PathAndQuery::from_static("/"));
    };
    in_ascii(path).ok_or(Error::Request("the path cannot stand in a request"))
}

/// Path and query as they go out.
pub(super) fn in_ascii(path: &PathAndQuery) -> Option<PathAndQuery> {
    if path.as_str().is_ascii() {
        return Some(path.clone());
    }
    let encoded = utf8_percent_encode(path.as_str(), CONTROLS).to_string();
    PathAndQuery::try_from(encoded).ok()
}

/// The target as `Host` has it: its canonical spelling, the port only where it is not the scheme's own.
pub(super) fn authority(target: &Target, scheme: Scheme) -> String {
    match (&target.host, target.port == scheme.default_port()) {
        (Host::Name(name), true) => name.to_string(),
        (host, true) => host.to_string(),
        (_, false) => target.to_string(),
    }
}
