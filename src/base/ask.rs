//! One request, normalised: what policy judges.

use super::host::{BadHost, Host, Target};
use http::request::Parts;
use http::{HeaderMap, Method, Version, header};
use std::borrow::Cow;

/// How the request reaches the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443 (RFC 9110 §4.2).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What an agent asks for, in the spelling that policy compares. The request itself travels beside
/// it with its bytes as they came.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where to, from the connection; the request's own words agree with it.
    pub target: Target,
    /// In the clear or over TLS.
    pub scheme: Scheme,
    /// As sent: methods are case-sensitive (RFC 9110 §9.1).
    pub method: Method,
    /// Methods that a header asks the server to take instead, as several frameworks do: a rule about methods that
    /// such a header could talk round would be none.
    pub overrides: Vec<Method>,
    /// The path decoded once, without a query. `None` where its meaning differs between readers
    /// (`..` behind an encoded slash, say), which no rule with paths may match.
    pub path: Option<String>,
}

/// Why a request cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No authority, or more than one.
    #[error("the request names no host, or more than one")]
    Authority,
    /// The authority is no host.
    #[error("the request's host is invalid: {0}")]
    Host(#[from] BadHost),
    /// The authority is another than the connection's: RFC 9110 §7.4, 421.
    #[error("the request names {asked}, but this connection leads to {target}")]
    Misdirected {
        /// As the request has it.
        asked: Target,
        /// As the connection has it.
        target: Target,
    },
    /// A form of request that has one reading here and another elsewhere.
    #[error("{0}")]
    Form(&'static str),
    /// CONNECT in a tunnel, TRACE.
    #[error("{0}")]
    Refused(&'static str),
}

impl Ask {
    /// Reads a request that arrived on a connection to `target`, and holds it to that target.
    ///
    /// # Errors
    /// When the request names no host, two hosts, or another host than `target`; when its method
    /// can have no place here.
    pub fn read(target: &Target, scheme: Scheme, parts: &Parts) -> Result<Self, Malformed> {
        allowed_method(parts)?;
        one_form(parts)?;
        agree(target, scheme, parts)?;
        Ok(Self {
            target: target.clone(),
            scheme,
            method: parts.method.clone(),
            overrides: overrides(&parts.headers),
            path: normal_path(parts.uri.path()),
        })
    }
}

/// Refuses methods that have no place behind a proxy. Servers exist that take a method in any case.
fn allowed_method(parts: &Parts) -> Result<(), Malformed> {
    let is = |name: &str| parts.method.as_str().eq_ignore_ascii_case(name);
    if is("CONNECT") && parts.extensions.get::<hyper::ext::Protocol>().is_none() {
        return Err(Malformed::Refused("CONNECT inside a tunnel"));
    }
    if is("TRACE") || is("TRACK") {
        // It would echo the injected credential (RFC 9110 §9.3.8 asks senders to leave such fields out).
        return Err(Malformed::Refused(
            "TRACE is not forwarded: it would echo the credential",
        ));
    }
    let last = |v: &http::HeaderValue| v.as_bytes().trim_ascii().iter().all(|b| *b == b'0');
    if parts.method == Method::OPTIONS && parts.headers.get_all(header::MAX_FORWARDS).iter().any(last) {
        // RFC 9110 §7.6.2: such a request is for the proxy itself.
        return Err(Malformed::Refused("this proxy has no options of its own"));
    }
    Ok(())
}

/// Refuses what is neither origin-form nor absolute-form (RFC 9112 §3.2), and a body in any coding but chunks.
fn one_form(parts: &Parts) -> Result<(), Malformed> {
    // `:scheme` is the agent's claim (RFC 9113 §8.3.1), and npm really sends an absolute-form `http://` inside
    // TLS: only the authority counts.
    match parts.uri.scheme_str() {
        Some("http" | "https" | "ws" | "wss") => {}
        Some(_) => return Err(Malformed::Form("the scheme is neither http nor https")),
        None if parts.uri.authority().is_some() => {
            return Err(Malformed::Form("only CONNECT takes a host and port alone"));
        }
        None => {}
    }
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(Malformed::Form("only OPTIONS takes `*` for a path"));
    }
    if !is_only_chunked(&parts.headers) {
        return Err(Malformed::Form(
            "the only transfer coding understood is `chunked`, once",
        ));
    }
    Ok(())
}

/// Whether a message has no transfer coding but `chunked`, once.
///
/// hyper reads the chunks and leaves whatever other codings were named; those are for this hop only, so passing the
/// body on without their names would make it another one (RFC 9112 §6.1).
pub fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

fn overrides(headers: &HeaderMap) -> Vec<Method> {
    // One look at the few that are there costs less than a search for each that hardly ever is.
    if !headers.keys().any(|name| OVERRIDES.contains(name)) {
        return Vec::new();
    }
    let values = OVERRIDES.into_iter().flat_map(|name| headers.get_all(name));
    values
        .filter_map(|value| Method::from_bytes(value.as_bytes().to_ascii_uppercase().trim_ascii()).ok())
        .collect()
}

const OVERRIDES: [header::HeaderName; 3] = [
    header::HeaderName::from_static("x-http-method-override"),
    header::HeaderName::from_static("x-http-method"),
    header::HeaderName::from_static("x-method-override"),
];

/// Holds the `Host` header and the request target's authority, whichever are there, to `target`.
fn agree(target: &Target, scheme: Scheme, parts: &Parts) -> Result<(), Malformed> {
    let hosts = one_host(&parts.headers)?;
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if hosts.is_none() && authority.is_none() {
        // HTTP/1.0 may go without (RFC 9112 §3.2); then the connection alone says where.
        return if parts.version == Version::HTTP_10 {
            Ok(())
        } else {
            Err(Malformed::Authority)
        };
    }
    for text in [hosts, authority].into_iter().flatten() {
        let asked = read_authority(text, target, scheme)?;
        if asked != *target {
            return Err(Malformed::Misdirected {
                asked,
                target: target.clone(),
            });
        }
    }
    Ok(())
}

/// Reads an authority, without parsing where its spelling is already the target's own.
fn read_authority(text: &str, target: &Target, scheme: Scheme) -> Result<Target, Malformed> {
    if let Host::Name(name) = &target.host
        && target.port == scheme.default_port()
        && text == &**name
    {
        return Ok(target.clone());
    }
    Ok(Target::parse(text, Some(scheme.default_port()))?)
}

fn one_host(headers: &HeaderMap) -> Result<Option<&str>, Malformed> {
    let mut all = headers.get_all(header::HOST).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Malformed::Authority);
    }
    first.to_str().map(Some).map_err(|_| Malformed::Authority)
}

/// The path as rules compare it: percent-decoded once, `.` and empty segments kept out.
///
/// `None` where two readers could disagree about what it means: `..` in any spelling, an encoded
/// slash or backslash next to dots, `//`, `;` parameters on dot segments, NUL or controls, invalid
/// escapes or UTF-8. An encoded slash inside a segment (`/@scope%2fname`, as npm sends it) stays encoded.
pub fn normal_path(path: &str) -> Option<String> {
    if path == "*" || path.is_empty() {
        return Some("/".to_owned());
    }
    if !path.starts_with('/') || path.bytes().any(|b| b.is_ascii_control()) {
        return None;
    }
    if path
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_'))
        && !path.contains("//")
    {
        return Some(path.to_owned());
    }
    let mut normal = String::with_capacity(path.len());
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        if segment.is_empty() && !last {
            return None;
        }
        let decoded = decode_segment(segment)?;
        if dotted(&decoded) {
            return None;
        }
        normal.push('/');
        normal.push_str(&decoded);
    }
    Some(normal)
}

/// Whether some server would find a dot segment in this one, or nothing: once encoded slashes are decoded, parameters dropped,
/// spaces cut off, or letters that look like a slash or a dot taken for one.
fn dotted(segment: &str) -> bool {
    let is_dots = |piece: &str| {
        let bare = piece.split(';').next().unwrap_or_default();
        matches!(bare.trim(), "" | "." | "..") && !piece.is_empty()
    };
    if is_dots(segment) || segment.contains("%2F") && segment.split("%2F").any(|p| p.is_empty() || is_dots(p)) {
        return true;
    }
    if segment.is_ascii() {
        return false;
    }
    let plain = |c| match c {
        '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{ff0f}' | '\u{29f9}' | '\u{2216}' | '\u{ff3c}' => '/',
        '\u{2024}' | '\u{ff0e}' | '\u{fe52}' => '.',
        other => other,
    };
    let plain: String = segment.replace('\u{2025}', "..").chars().map(plain).collect();
    plain.split('/').any(is_dots)
}

/// Decodes one segment once; slashes stay `%2F`.
fn decode_segment(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains(['%', '\\']) {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'\\' => return None,
            other => other,
        };
        match byte {
            b'/' => bytes.extend_from_slice(b"%2F"),
            // A decoded percent sign would make a second decoding mean something else.
            b'%' | b'\\' | 0..=0x1f | 0x7f => return None,
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_has_one_meaning_or_none() {
        for (path, normal) in [
            ("/a/b", Some("/a/b")),
            ("/a/b/", Some("/a/b/")),
            ("/a%20b", Some("/a b")),
            ("/@scope%2fname", Some("/@scope%2Fname")),
            ("/a.b/c", Some("/a.b/c")),
            ("*", Some("/")),
            ("/a;v=1/b", Some("/a;v=1/b")),
            ("/a/../b", None),
            ("/a/%2e%2e/b", None),
            ("/a/.%2E/b", None),
            ("/a/./b", None),
            ("//a", None),
            ("/a//b", None),
            ("/a\\b", None),
            ("/a%5cb", None),
            ("/a%2f..%2fb", None),
            ("/a%2f%2e%2e%2fb", None),
            ("/a/..;/b", None),
            ("/;/b", None),
            ("/a/..%20/b", None),
            ("/a/..%ef%bc%8fb", None),
            ("/a/%ef%bc%8e%ef%bc%8e/b", None),
            ("/a%ef%bc%8fb", Some("/a\u{ff0f}b")),
            ("/a%00b", None),
            ("/a\0b", None),
            ("/a%252e", None),
            ("/a%c0%ae", None),
            ("/a%zz", None),
            ("a", None),
        ] {
            assert_eq!(normal_path(path).as_deref(), normal, "{path}");
        }
    }

    fn read(uri: &str, hosts: &[&str]) -> Result<Ask, Malformed> {
        let mut request = http::Request::get(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Ask::read(&Target::parse("a.test:443", None).unwrap(), Scheme::Https, &parts)
    }

    #[test]
    fn every_name_in_a_request_must_be_the_targets() {
        for host in ["a.test", "A.TEST", "a.test.", "a.test:443"] {
            assert!(read("/", &[host]).is_ok(), "{host}");
            assert!(read("https://a.test/", &[host]).is_ok(), "{host}");
        }
        for (uri, hosts) in [
            ("/", &["b.test"][..]),
            ("/", &["a.test:444"]),
            ("https://b.test/", &["a.test"]),
            ("https://a.test/", &["b.test"]),
            ("/", &["a.test", "a.test"]),
            ("/", &["a.test@b.test"]),
            ("/", &[]),
        ] {
            assert!(read(uri, hosts).is_err(), "{uri} {hosts:?}");
        }
    }
}
