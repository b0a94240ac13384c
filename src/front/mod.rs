//! What is spoken on a listener, as pure readers: from bytes or a request to the target it asks for.
//! They trust nothing, do no I/O and know no rule.

pub mod dns;
pub mod first;
pub mod gateway;
pub mod proxy_protocol;
pub mod socks;

use crate::base::host::{BadHost, Host, Target};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Request, uri::Authority};

/// Why a request to the proxy names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It makes no sense; the text says why.
    #[error("{0}")]
    Malformed(&'static str),
    /// What it names is no host and port.
    #[error("{0}")]
    Host(#[from] BadHost),
    /// Its authority and its `Host` header are two.
    #[error("CONNECT is for {0}, but its Host header names another")]
    Misdirected(Target),
    /// A gateway is asked for in the name of a host that is neither it nor an upstream of its own.
    #[error("the gateway is not called {0}, and no rule has a base URL for that host")]
    Elsewhere(Host),
    /// The path of a base URL can be read in two ways.
    #[error("the path can be read in more than one way, so it is below no base URL")]
    Ambiguous,
    /// No upstream has a base URL there.
    #[error("no rule has a base URL at this path: `gateway: /PREFIX` on a rule makes one")]
    NoMount,
}

/// The target of a CONNECT: its authority, and nothing in its headers may say otherwise (RFC 9110 §9.3.6).
///
/// # Errors
/// When there is no authority with a port, a header names another, or a body is announced.
pub fn connect<B>(request: &Request<B>) -> Result<Target, Error> {
    if request.extensions().get::<hyper::ext::Protocol>().is_some() {
        return Err(Error::Malformed(
            "open a tunnel first: extended CONNECT goes to a host, not to the proxy",
        ));
    }
    let authority = request.uri().authority().map(Authority::as_str);
    let target = Target::parse(authority.ok_or(Error::Malformed("CONNECT names no host"))?, None)?;
    let headers = request.headers();
    for host in headers.get_all(HOST) {
        let named = host
            .to_str()
            .ok()
            .and_then(|host| Target::parse(host, Some(target.port)).ok());
        if named.as_ref() != Some(&target) {
            return Err(Error::Misdirected(target));
        }
    }
    let length = headers.get(CONTENT_LENGTH);
    if headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0") {
        return Err(Error::Malformed("a CONNECT has no body"));
    }
    Ok(target)
}

/// The target of a request in absolute-form (RFC 9112 §3.2.2).
///
/// # Errors
/// When it is in another form, or of another scheme than `http`.
pub fn absolute<B>(request: &Request<B>) -> Result<Target, Error> {
    match (request.uri().scheme_str(), request.uri().authority()) {
        (Some("http"), Some(authority)) => Ok(Target::parse(authority.as_str(), Some(80))?),
        (Some("https"), Some(_)) => Err(Error::Malformed(
            "https goes through CONNECT, not as a request to the proxy",
        )),
        (Some(_), _) => Err(Error::Malformed("this proxy forwards http and https only")),
        (None, _) => Err(Error::Malformed(
            "this is a proxy: set HTTPS_PROXY and HTTP_PROXY to its address",
        )),
    }
}

/// The target of a request in HTTP/2 that came to no address of ours: the host in its authority, and the `port` of the
/// address it was going to.
///
/// # Errors
/// When it names no host.
pub fn named<B>(request: &Request<B>, port: u16) -> Result<Target, Error> {
    let authority = request.uri().authority().map(Authority::as_str);
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let named = authority
        .or(host)
        .ok_or(Error::Malformed("the request names no host"))?;
    Ok(Target::new(Target::parse(named, Some(port))?.host, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_connect_leads_to_its_authority_or_nowhere() {
        let target = |uri, headers: &[_]| connect(&ask("CONNECT", uri, headers)).map(|t| t.to_string());
        assert_eq!(target("A.test:443", &[]), Ok("a.test:443".into()));
        assert_eq!(target("a.test:443", &[("host", "a.test")]), Ok("a.test:443".into()));
        assert!(matches!(
            target("a.test:443", &[("host", "b.test")]),
            Err(Error::Misdirected(_))
        ));
        assert!(matches!(
            target("a.test:443", &[("host", "a.test:444")]),
            Err(Error::Misdirected(_))
        ));
        assert!(target("a.test", &[]).is_err(), "a port is due");
        assert!(target("a.test:443", &[("content-length", "5")]).is_err());
        assert!(target("a.test:443", &[("transfer-encoding", "chunked")]).is_err());
    }

    #[test]
    fn only_plain_http_is_asked_for_in_absolute_form() {
        let target = |uri| absolute(&ask("GET", uri, &[])).map(|t| t.to_string());
        assert_eq!(target("http://a.test/x"), Ok("a.test:80".into()));
        assert_eq!(target("http://a.test:8080/x"), Ok("a.test:8080".into()));
        for uri in ["https://a.test/", "ftp://a.test/", "/x", "http://u:p@a.test/"] {
            assert!(target(uri).is_err(), "{uri}");
        }
    }
}
