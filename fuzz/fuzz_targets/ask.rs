//! What a request is judged by is what an upstream will read.
#![no_main]

use http::{Request, Version};
use keyferry::base::ask::{Ask, Scheme, normal_path};
use keyferry::base::host::Target;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Asked<'a> {
    target: &'a str,
    method: &'a str,
    uri: &'a str,
    hosts: Vec<&'a [u8]>,
    fields: Vec<(u8, &'a [u8])>,
    version: u8,
    https: bool,
}

const NAMES: [&str; 4] = [
    "transfer-encoding",
    "max-forwards",
    "x-http-method-override",
    "x-method-override",
];

fuzz_target!(|asked: Asked| {
    if let Some(path) = normal_path(asked.uri) {
        assert_one_meaning(asked.uri, &path);
    }
    let Ok(target) = Target::parse(asked.target, Some(443)) else {
        return;
    };
    let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][usize::from(asked.version % 3)];
    let mut request = Request::builder().method(asked.method).uri(asked.uri).version(version);
    for host in &asked.hosts {
        request = request.header("host", *host);
    }
    for (name, value) in &asked.fields {
        request = request.header(NAMES[usize::from(*name) % NAMES.len()], *value);
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let scheme = if asked.https { Scheme::Https } else { Scheme::Http };
    let Ok(ask) = Ask::read(&target, scheme, &parts) else {
        return;
    };
    assert_eq!(ask.target, target);
    let named = asked.hosts.iter().map(|host| std::str::from_utf8(host).unwrap());
    for text in named.chain(parts.uri.authority().map(http::uri::Authority::as_str)) {
        assert_eq!(
            Target::parse(text, Some(scheme.default_port())),
            Ok(target.clone()),
            "{text}"
        );
    }
    assert!(asked.hosts.len() <= 1);
    assert_eq!(ask.path, normal_path(parts.uri.path()));
    assert!(!["CONNECT", "TRACE", "TRACK"].contains(&&*ask.method.as_str().to_ascii_uppercase()));
    let codings: Vec<_> = parts.headers.get_all("transfer-encoding").iter().collect();
    assert!(codings.is_empty() || codings.len() == 1 && codings[0].as_bytes().eq_ignore_ascii_case(b"chunked"));
    // Each method that a header asks for instead is judged as well.
    for name in &NAMES[2..] {
        for value in parts
            .headers
            .get_all(*name)
            .iter()
            .filter_map(|value| value.to_str().ok())
        {
            let wanted = http::Method::from_bytes(value.trim().to_ascii_uppercase().as_bytes());
            assert!(wanted.is_err() || ask.overrides.contains(&wanted.unwrap()), "{value:?}");
        }
    }
});

/// Holds that a server which follows the URL standard comes to the same segments.
fn assert_one_meaning(sent: &str, normal: &str) {
    assert!(normal.starts_with('/'), "{sent:?} {normal:?}");
    assert!(
        !normal.split('/').any(|segment| segment == "." || segment == ".."),
        "{sent:?} {normal:?}"
    );
    assert!(
        !normal.contains("//") && !normal.bytes().any(|b| b < b' ' || b == 0x7f),
        "{sent:?} {normal:?}"
    );
    // A query, a fragment or whitespace is no part of a path that HTTP delivers.
    let delivered = sent.starts_with('/') && !sent.bytes().any(|b| b <= b' ' || b == 0x7f || b"?#".contains(&b));
    if !delivered {
        return;
    }
    let theirs = url::Url::parse(&format!("https://h.test{sent}")).expect("a path that was accepted");
    assert_eq!(decoded(theirs.path()), normal.as_bytes(), "{sent:?}");
}

/// Percent-decoded once, slashes excepted.
fn decoded(path: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = (*first == b'%').then(|| std::str::from_utf8(&tail[..2]).unwrap());
        match escape.map(|digits| u8::from_str_radix(digits, 16).unwrap()) {
            None => out.push(*first),
            Some(b'/') => out.extend_from_slice(b"%2F"),
            Some(byte) => out.push(byte),
        }
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    out
}
