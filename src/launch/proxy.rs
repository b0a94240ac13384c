//! Where the proxy is, in the spelling each client wants.

use super::Error;
use std::fmt;
use url::{Host, Url};

/// The proxy's address, and what to show it.
///
/// `Debug` hides the credentials: they identify the agent, and a log is no place for them.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(Url);

impl Proxy {
    /// Reads `http://[user:token@]host:port`.
    ///
    /// # Errors
    /// When it is no URL, not plain `http`, or has no port.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why| Error::Proxy {
            url: text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned(),
            why,
        };
        let url = Url::parse(text).map_err(|_| bad("it is not a URL"))?;
        if url.scheme() != "http" {
            // Half of the clients cannot speak TLS to a proxy; on loopback it would add nothing.
            return Err(bad("the scheme must be `http`"));
        }
        if url.host().is_none() || url.port_or_known_default().is_none() {
            return Err(bad("it names no host and port"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("nothing may follow the port"));
        }
        Ok(Self(url))
    }

    /// `http://user:token@host:port`, without a slash at the end: some clients take that for a path.
    pub fn url(&self) -> String {
        let port = self.port();
        let host = self.host();
        match self.credentials() {
            Some((user, token)) => format!("http://{user}:{token}@{host}:{port}"),
            None => format!("http://{host}:{port}"),
        }
    }

    /// The host, an IPv6 address in brackets.
    pub fn host(&self) -> String {
        self.0.host_str().unwrap_or("127.0.0.1").to_owned()
    }

    /// The host without brackets, as a Java property wants it.
    pub fn bare_host(&self) -> String {
        match self.0.host() {
            Some(Host::Ipv6(ip)) => ip.to_string(),
            _ => self.host(),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(80)
    }

    /// User and token, percent-encoded as they stand in the URL.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        (!self.0.username().is_empty()).then(|| (self.0.username(), self.0.password().unwrap_or_default()))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = self.credentials().map_or("", |_| "****@");
        write!(f, "Proxy(http://{credentials}{}:{})", self.host(), self.port())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_keeps_its_port_and_loses_its_slash() {
        for (given, url) in [
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://ci:s3%40t@[::1]:9", "http://ci:s3%40t@[::1]:9"),
        ] {
            assert_eq!(Proxy::parse(given).unwrap().url(), url);
        }
        assert_eq!(Proxy::parse("http://[::1]:9").unwrap().bare_host(), "::1");
    }

    #[test]
    fn a_bad_address_is_told_without_its_token() {
        for bad in ["https://u:tok@h:1", "127.0.0.1:80", "http://u:tok@h:1/x", ""] {
            let told = Proxy::parse(bad).unwrap_err();
            assert!(!told.to_string().contains("tok"), "{told}");
        }
        let debug = format!("{:?}", Proxy::parse("http://ci:tok@127.0.0.1:1").unwrap());
        assert_eq!(debug, "Proxy(http://****@127.0.0.1:1)");
    }
}
