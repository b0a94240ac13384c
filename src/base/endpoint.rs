//! A URL that the operator wrote, to which Keyferry itself sends requests.

use super::ask::Scheme;
use super::host::{Host, Target};
use http::uri::PathAndQuery;
use std::fmt;

/// Where a token service or a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// In the clear or over TLS.
    pub scheme: Scheme,
    /// Its host and port.
    pub target: Target,
    /// The path, with a query if there is one.
    pub path: PathAndQuery,
}

/// Why a text is no such URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// It is no URL with a host.
    #[error("it is no URL")]
    Url,
    /// A credential would stand in the config.
    #[error("it holds a user or a password")]
    User,
    /// The secret would travel in the clear.
    #[error("it is not https, and not on this machine")]
    Clear,
}

impl Endpoint {
    /// Reads `https://HOST[:PORT]/PATH`; `http://` on this machine alone.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, BadEndpoint> {
        let url = url::Url::parse(text).map_err(|_| BadEndpoint::Url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadEndpoint::User);
        }
        let host = url
            .host_str()
            .and_then(|host| Host::parse(host).ok())
            .ok_or(BadEndpoint::Url)?;
        let scheme = match url.scheme() {
            "https" => Scheme::Https,
            "http" if is_here(&host) => Scheme::Http,
            "http" => return Err(BadEndpoint::Clear),
            _ => return Err(BadEndpoint::Url),
        };
        let port = url.port().unwrap_or(scheme.default_port());
        let path = url
            .query()
            .map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Ok(Self {
            scheme,
            target: Target { host, port },
            path: PathAndQuery::try_from(path).map_err(|_| BadEndpoint::Url)?,
        })
    }

    /// The same with `path` behind its own.
    pub fn join(&self, path: &str) -> Option<Self> {
        let path = format!("{}{path}", self.path.path().trim_end_matches('/'));
        Some(Self {
            path: PathAndQuery::try_from(path).ok()?,
            ..self.clone()
        })
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => &**name == "localhost",
    }
}

/// As a URL.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        let host = &self.target.host;
        if self.target.port == self.scheme.default_port() && host.name().is_some() {
            write!(f, "{scheme}://{host}{}", self.path)
        } else {
            write!(f, "{scheme}://{}{}", self.target, self.path)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_url_over_tls_or_on_this_machine_is_one() {
        for (text, expected) in [
            ("https://auth.example.com/token", Ok("https://auth.example.com/token")),
            ("https://Auth.example.com:443", Ok("https://auth.example.com/")),
            ("https://a.test:8443/x?y=1#z", Ok("https://a.test:8443/x?y=1")),
            ("http://127.0.0.1:8200", Ok("http://127.0.0.1:8200/")),
            ("http://localhost/v1", Ok("http://localhost/v1")),
            ("http://a.test/", Err(BadEndpoint::Clear)),
            ("https://u:p@a.test/", Err(BadEndpoint::User)),
            ("ftp://a.test/", Err(BadEndpoint::Url)),
            ("a.test", Err(BadEndpoint::Url)),
        ] {
            let read = Endpoint::parse(text).map(|endpoint| endpoint.to_string());
            assert_eq!(read.as_deref().map_err(|e| *e), expected, "{text}");
        }
        let joined = Endpoint::parse("https://v.test/base/").unwrap().join("/v1/x").unwrap();
        assert_eq!(joined.to_string(), "https://v.test/base/v1/x");
    }
}
