//! Base URLs: which upstream a request to the gateway is for, and how a reply must be put so that its client comes back
//! here. Pure: no I/O, and no say in what is allowed.

use super::Error;
use crate::base::ask::{Scheme, normal_path};
use crate::base::host::{Host, Target};
use crate::config::Config;
use crate::config::model::Mount;
use http::header::{CONTENT_LOCATION, HOST, LOCATION, SET_COOKIE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Request, Uri};
use std::sync::Arc;
use url::Url;

/// The upstreams that have a base URL here.
#[derive(Debug, Default)]
pub struct Gateway {
    /// The longest prefix first, so that `/a/b` is not taken for `/a`.
    mounts: Vec<Mount>,
}

/// One request's upstream, and where its client sees it.
#[derive(Debug)]
pub struct Routed {
    /// Where it goes.
    pub target: Target,
    /// How it goes there.
    pub scheme: Scheme,
    /// What the client's paths begin with; nothing where it named the upstream as its `Host`.
    prefix: Arc<str>,
    /// What it asked for, as the upstream sees it.
    asked: Url,
    gateway: Arc<Gateway>,
}

impl Gateway {
    /// Takes the mounts of the rules of `config`.
    pub fn new(config: &Config) -> Self {
        let mut mounts: Vec<_> = config.rules.iter().filter_map(|rule| rule.mount.clone()).collect();
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
        Self { mounts }
    }

    /// Finds the upstream by the request's `Host` or by the first part of its path, and makes the request one to that
    /// upstream. `names` are further hosts that the gateway is called by.
    ///
    /// # Errors
    /// When it names a host that is neither the gateway nor an upstream, has a path that can be read in two ways, or
    /// no upstream has a base URL there.
    pub fn route<B>(self: &Arc<Self>, names: &[Host], request: &mut Request<B>) -> Result<Routed, Error> {
        let host = named(request)?;
        let by_host = host.as_ref().and_then(|host| self.of_host(host));
        let path = request.uri().path();
        let (mount, prefix) = match (by_host, host) {
            (Some(mount), _) => (mount, Arc::default()),
            (None, Some(host)) if !is_gateway(&host, names) => return Err(Error::Elsewhere(host)),
            // Only what has one meaning can be below a prefix.
            (None, _) if normal_path(path).is_none() => return Err(Error::Ambiguous),
            (None, _) => {
                let mount = self.mounts.iter().find(|mount| below(&mount.prefix, path).is_some());
                let mount = mount.ok_or(Error::NoMount)?;
                (mount, Arc::clone(&mount.prefix))
            }
        };
        let rest = below(&prefix, path).ok_or(Error::NoMount)?;
        let rest = if rest.is_empty() { "/" } else { rest };
        let rest = match request.uri().query() {
            Some(query) => format!("{rest}?{query}"),
            None => rest.to_owned(),
        };
        let unfit = Error::Malformed("the path cannot stand in a URI");
        let authority = mount.target.to_string();
        let asked = Url::parse(&format!("{}://{authority}{rest}", mount.scheme.as_str())).map_err(|_| unfit.clone())?;
        let routed = Routed {
            target: mount.target.clone(),
            scheme: mount.scheme,
            prefix,
            asked,
            gateway: Arc::clone(self),
        };
        readdress(request, mount.scheme, &authority, rest).ok_or(unfit)?;
        Ok(routed)
    }

    fn of_host(&self, host: &Host) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.target.host == *host)
    }

    /// What the client sees for `url`, if that is an upstream here.
    fn seen(&self, url: &Url) -> Option<String> {
        let host = Host::parse(url.host_str()?).ok()?;
        let target = Target::new(host, url.port_or_known_default()?);
        let mount = self.mounts.iter().find(|mount| mount.target == target)?;
        (mount.scheme.as_str() == url.scheme()).then(|| local(&mount.prefix, url))
    }
}

impl Routed {
    /// Puts a reply's addresses and cookies as its client must see them. `secure`: whether the client speaks TLS.
    pub fn reply(&self, headers: &mut HeaderMap, secure: bool) {
        for name in [LOCATION, CONTENT_LOCATION] {
            let moved = headers.get(&name).and_then(|value| self.moved(value.to_str().ok()?));
            if let Some(moved) = moved {
                headers.insert(name, moved);
            }
        }
        if let http::header::Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
            for cookie in cookies.iter_mut() {
                let rewritten = cookie.to_str().ok().and_then(|text| self.cookie(text, secure));
                if let Some(mut rewritten) = rewritten {
                    rewritten.set_sensitive(cookie.is_sensitive());
                    *cookie = rewritten;
                }
            }
        }
    }

    /// A reference (RFC 9110 §10.2.2) to an upstream that has a base URL here; any other stays as it is.
    fn moved(&self, reference: &str) -> Option<HeaderValue> {
        let url = self.asked.join(reference).ok()?;
        let seen = if url.origin() == self.asked.origin() {
            local(&self.prefix, &url)
        } else if self.prefix.is_empty() {
            return None;
        } else {
            self.gateway.seen(&url)?
        };
        HeaderValue::try_from(seen).ok()
    }

    /// A cookie (RFC 6265 §4.1) that goes back to this upstream alone: no `Domain`, a `Path` below the prefix, and no
    /// `Secure` where the client has no TLS.
    fn cookie(&self, text: &str, secure: bool) -> Option<HeaderValue> {
        let mut attributes = text.split(';');
        let mut rewritten = attributes.next()?.to_owned();
        let mut path = None;
        for attribute in attributes {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            match name.as_str() {
                "path" => path = Some(value).filter(|path| path.starts_with('/')),
                "domain" => {}
                "secure" if !secure => {}
                "samesite" if !secure && value.eq_ignore_ascii_case("none") => {}
                _ => {
                    rewritten.push(';');
                    rewritten.push_str(attribute);
                }
            }
        }
        // Without one it would be the directory of what was asked for (RFC 6265 §5.1.4), and for a request of the
        // prefix alone that is the root, where other upstreams would get the cookie too.
        let directory = self
            .asked
            .path()
            .rsplit_once('/')
            .map_or("/", |(directory, _)| directory);
        let path = path.unwrap_or(directory);
        let path = format!("{}{path}", self.prefix);
        let path = if path.len() > 1 {
            path.trim_end_matches('/')
        } else {
            &path
        };
        let path = if path.is_empty() { "/" } else { path };
        HeaderValue::try_from(format!("{rewritten}; Path={path}")).ok()
    }
}

/// The one host that a request names; HTTP/1.0 may name none.
fn named<B>(request: &Request<B>) -> Result<Option<Host>, Error> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = fields
        .next()
        .map(|host| host.to_str().map_err(|_| crate::base::host::BadHost::Character));
    let authority = request.uri().authority().map(|authority| Ok(authority.as_str()));
    let mut host = None;
    for text in [authority, field].into_iter().flatten() {
        let this = Target::parse(text?, Some(80))?.host;
        if host.as_ref().is_some_and(|other| *other != this) {
            return Err(Error::Malformed("the request names two hosts"));
        }
        host = Some(this);
    }
    if fields.next().is_some() {
        return Err(Error::Malformed("the request names two hosts"));
    }
    Ok(host)
}

/// Whether a client that names `host` means the gateway. A web page whose name was made to lead here must not, so a
/// name that others could own has to be listed.
fn is_gateway(host: &Host, names: &[Host]) -> bool {
    match host {
        Host::Ip(_) => true,
        Host::Name(name) => !name.contains('.') || names.contains(host),
    }
}

/// What follows `prefix` in `path`, at the end of a segment.
fn below<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn readdress<B>(request: &mut Request<B>, scheme: Scheme, authority: &str, rest: String) -> Option<()> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = scheme.as_str().parse().ok();
    parts.authority = Some(Authority::try_from(authority).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_str(authority).ok()?);
    Some(())
}

fn local(prefix: &str, url: &Url) -> String {
    let query = url.query().map_or(String::new(), |query| format!("?{query}"));
    let fragment = url.fragment().map_or(String::new(), |fragment| format!("#{fragment}"));
    format!("{prefix}{}{query}{fragment}", url.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn gateway() -> Arc<Gateway> {
        let mount = |prefix: &str, host: &str| Mount {
            prefix: prefix.into(),
            target: Target::parse(host, Some(443)).unwrap(),
            scheme: Scheme::Https,
            variables: Vec::new(),
        };
        Arc::new(Gateway {
            mounts: vec![
                mount("/a/deep", "deep.test"),
                mount("/a", "a.test"),
                mount("/b", "b.test:8443"),
            ],
        })
    }

    fn route(path: &str, hosts: &[&str]) -> Result<(Routed, Request<()>), Error> {
        let mut request = Request::get(path);
        for host in hosts {
            request = request.header("host", *host);
        }
        let mut request = request.body(()).unwrap();
        let routed = gateway().route(&[Host::parse("gate.example").unwrap()], &mut request)?;
        Ok((routed, request))
    }

    #[test]
    fn the_first_part_of_the_path_names_the_upstream_and_the_rest_goes_there() {
        for (path, uri) in [
            ("/a/v1/x%2Fy?z=/../1", "https://a.test:443/v1/x%2Fy?z=/../1"),
            ("/a", "https://a.test:443/"),
            ("/a?q", "https://a.test:443/?q"),
            ("/a/", "https://a.test:443/"),
            ("/a/deep/x", "https://deep.test:443/x"),
            ("/a/deeper", "https://a.test:443/deeper"),
            ("/b/x", "https://b.test:8443/x"),
        ] {
            let (_, request) = route(path, &["127.0.0.1:8081"]).unwrap();
            assert_eq!(request.uri().to_string(), uri, "{path}");
            assert_eq!(request.headers()["host"], request.uri().authority().unwrap().as_str());
        }
    }

    #[test]
    fn no_path_leads_out_of_its_prefix() {
        for path in [
            "/a/../b/x",
            "/a/%2e%2e/b",
            "/a/..%2fb",
            "/a//x",
            "/a/./x",
            "/a/x/..;/y",
            "/a\\..\\b",
        ] {
            assert!(
                matches!(route(path, &["localhost"]), Err(Error::Ambiguous) | Ok(_)),
                "{path}"
            );
            assert!(route(path, &["localhost"]).is_err(), "{path}");
        }
        for path in ["/", "/ab", "/c/x", "/%61/x", "*"] {
            assert_eq!(route(path, &["localhost"]).err(), Some(Error::NoMount), "{path}");
        }
    }

    #[test]
    fn a_host_is_an_upstream_or_the_gateway_or_refused() {
        for host in [
            "127.0.0.1",
            "[::1]:8081",
            "localhost:1",
            "keyferry:8081",
            "gate.example",
        ] {
            assert!(route("/a/x", &[host]).is_ok(), "{host}");
        }
        let (_, request) = route("/b/x", &["A.test"]).unwrap();
        assert_eq!(request.uri().to_string(), "https://a.test:443/b/x");
        assert!(matches!(route("/a/x", &["evil.example"]), Err(Error::Elsewhere(_))));
        assert!(matches!(
            route("/a/x", &["a.test", "localhost"]),
            Err(Error::Malformed(_))
        ));
        assert!(route("/a/x", &[]).is_ok(), "HTTP/1.0");
    }

    #[test]
    fn a_reply_leads_its_client_back_here() {
        let (routed, _) = route("/a/dir/page?x", &["localhost"]).unwrap();
        for (told, seen) in [
            ("/x?y#z", "/a/x?y#z"),
            ("next", "/a/dir/next"),
            ("../../../up", "/a/up"),
            ("https://a.test/x", "/a/x"),
            ("https://a.test:443/x", "/a/x"),
            ("//a.test/x", "/a/x"),
            ("https://b.test:8443/x", "/b/x"),
            ("https://b.test/x", "https://b.test/x"),
            ("http://a.test/x", "http://a.test/x"),
            ("https://evil.example/x", "https://evil.example/x"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(told));
            routed.reply(&mut headers, false);
            assert_eq!(headers[LOCATION], seen, "{told}");
        }
    }

    #[test]
    fn a_cookie_goes_back_to_its_own_upstream_alone() {
        let (routed, _) = route("/a/dir/page", &["localhost"]).unwrap();
        for (secure, told, seen) in [
            (
                false,
                "n=v; Domain=a.test; Path=/; Secure; HttpOnly",
                "n=v; HttpOnly; Path=/a",
            ),
            (
                true,
                "n=v; Secure; SameSite=None; path=/x",
                "n=v; Secure; SameSite=None; Path=/a/x",
            ),
            (false, "n=v; SameSite=None; Secure", "n=v; Path=/a/dir"),
            (
                false,
                "n=a=b; Max-Age=3; Path=relative",
                "n=a=b; Max-Age=3; Path=/a/dir",
            ),
        ] {
            assert_eq!(routed.cookie(told, secure).unwrap(), seen, "{told}");
        }
        let (routed, _) = route("/a", &["localhost"]).unwrap();
        assert_eq!(routed.cookie("n=v", false).unwrap(), "n=v; Path=/a");
    }
}
