//! AWS Signature Version 4: the canonical form of a request, the key that a secret gives for a day and a place, and
//! the signatures of a request, of a chunk of its body and of the trailer behind that.

use crate::base::secret::Secret;
use aws_lc_rs::{digest, hmac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::borrow::Cow;
use std::fmt::Write;
use zeroize::Zeroizing;

/// The algorithm's name, as it stands in a header or a query.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The SHA-256 of nothing.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// RFC 3986 §2.3: everything else is encoded.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// When and for whom a signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The second of signing, as `20150830T123600Z`.
    pub stamp: String,
    /// Such as `eu-west-1`.
    pub region: String,
    /// The service's signing name, such as `s3`.
    pub service: String,
}

/// How a service reads a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStyle {
    /// As a key, byte for byte: S3 and its kin.
    Key,
    /// As a hierarchy, without dot segments and empty ones, and encoded once more: every other service.
    Hierarchy,
}

/// A request, as far as it is signed.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path as it is sent.
    pub path: &'a str,
    /// Its query as it is sent, without the mark and without a signature.
    pub query: &'a str,
    /// The fields that are signed, names in lower case; several of one name in their order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The SHA-256 of its body in hexadecimal, or the word that stands for it.
    pub payload: &'a str,
    /// How the service reads the path.
    pub style: PathStyle,
}

/// The key of one day, region and service: signs there and nowhere else. aws-lc wipes it when it is dropped.
pub struct SigningKey {
    key: hmac::Key,
    scope: Scope,
}

impl Scope {
    /// `20150830/eu-west-1/s3/aws4_request`: what stands behind the key's id.
    pub fn credential(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day(), self.region, self.service)
    }

    pub(super) fn day(&self) -> &str {
        self.stamp.split('T').next().unwrap_or_default()
    }
}

impl SigningKey {
    /// Derives the key from the secret access key.
    pub fn new(secret: &Secret, scope: Scope) -> Self {
        let first = secret.expose(|secret| Zeroizing::new([b"AWS4", secret].concat()));
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, &first);
        for part in [scope.day(), &scope.region, &scope.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        Self { key, scope }
    }

    /// When and for whom it signs.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The signature of a request, in hexadecimal.
    pub fn sign(&self, request: &Request<'_>) -> String {
        let canonical = sha256(canonical(request).as_slice());
        self.signature(ALGORITHM, &[&canonical])
    }

    /// The signature of a chunk of a body whose request, or whose chunk before, has the signature `before`.
    pub fn sign_chunk(&self, before: &str, chunk_sha256: &str) -> String {
        self.signature("AWS4-HMAC-SHA256-PAYLOAD", &[before, EMPTY_SHA256, chunk_sha256])
    }

    /// The signature of the trailer behind the chunks. `trailer` is of lines `name:value`, each with its end.
    pub fn sign_trailer(&self, before: &str, trailer: &[u8]) -> String {
        self.signature("AWS4-HMAC-SHA256-TRAILER", &[before, &sha256(trailer)])
    }

    fn signature(&self, algorithm: &str, lines: &[&str]) -> String {
        let text = format!(
            "{algorithm}\n{}\n{}\n{}",
            self.scope.stamp,
            self.scope.credential(),
            lines.join("\n")
        );
        hex(hmac::sign(&self.key, text.as_bytes()).as_ref())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// The names of the fields that are signed, in order, as `host;x-amz-date`.
pub fn signed_names(headers: &[(&str, &[u8])]) -> String {
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

/// The SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Encodes what stands in a query, as both sides of a signature must.
pub fn encoded(text: &str) -> Cow<'_, str> {
    percent_encode(text.as_bytes(), UNRESERVED).into()
}

/// The form of a request that both sides bring it to.
pub(super) fn canonical(request: &Request<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| text.extend_from_slice(part));
        text.push(b'\n');
    };
    line(&[request.method.as_bytes()]);
    line(&[canonical_path(request.path, request.style).as_bytes()]);
    line(&[canonical_query(request.query).as_bytes()]);
    let mut headers: Vec<_> = request.headers.iter().collect();
    // Stable: several fields of one name keep their order.
    headers.sort_by_key(|(name, _)| *name);
    for fields in headers.chunk_by(|(one, _), (other, _)| one == other) {
        let name = fields.first().map_or("", |(name, _)| *name);
        let values: Vec<_> = fields.iter().map(|(_, value)| one_spaced(value)).collect();
        line(&[name.as_bytes(), b":", &values.join(&b","[..])]);
    }
    line(&[]);
    line(&[signed_names(request.headers).as_bytes()]);
    text.extend_from_slice(request.payload.as_bytes());
    text
}

fn canonical_path(path: &str, style: PathStyle) -> String {
    let encode = |text: &[u8], set| percent_encode(text, set).to_string();
    if style == PathStyle::Key {
        // What was encoded stays so, and once.
        let segments = path.split('/').map(|segment| {
            let plain: Vec<u8> = percent_decode_str(segment).collect();
            encode(&plain, UNRESERVED)
        });
        let path = segments.collect::<Vec<_>>().join("/");
        return if path.is_empty() { "/".to_owned() } else { path };
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    encode(format!("/{}{end}", kept.join("/")).as_bytes(), PATH)
}

fn canonical_query(query: &str) -> String {
    let recoded = |text: &str| {
        // A plus sign is a space here, as in forms.
        let plain: Vec<u8> = percent_decode_str(&text.replace('+', " ")).collect();
        percent_encode(&plain, UNRESERVED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<_> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (recoded(name), recoded(value))
        })
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// A value without spaces around it, and with one where there are several.
fn one_spaced(value: &[u8]) -> Vec<u8> {
    let words = value
        .split(|b| *b == b' ' || *b == b'\t')
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b" "[..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key() -> SigningKey {
        let secret = Secret::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec()).unwrap();
        let scope = Scope {
            stamp: "20130524T000000Z".to_owned(),
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
        };
        SigningKey::new(&secret, scope)
    }

    fn put(headers: &[(&str, &[u8])], payload: &str) -> String {
        key().sign(&Request {
            method: "PUT",
            path: "/examplebucket/chunkObject.txt",
            query: "",
            headers,
            payload,
            style: PathStyle::Key,
        })
    }

    /// The example of AWS's page "Signature calculations for the authorization header: transferring payload in
    /// multiple chunks".
    #[test]
    fn chunks_get_the_signatures_that_aws_publishes() {
        let seed = put(
            &[
                ("content-encoding", b"aws-chunked"),
                ("content-length", b"66824"),
                ("host", b"s3.amazonaws.com"),
                ("x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
                ("x-amz-date", b"20130524T000000Z"),
                ("x-amz-decoded-content-length", b"66560"),
                ("x-amz-storage-class", b"REDUCED_REDUNDANCY"),
            ],
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        );
        assert_eq!(seed, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
        let first = key().sign_chunk(&seed, &sha256(&[b'a'; 65536]));
        assert_eq!(
            first,
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
        );
        let second = key().sign_chunk(&first, &sha256(&[b'a'; 1024]));
        assert_eq!(
            second,
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
        );
        let last = key().sign_chunk(&second, EMPTY_SHA256);
        assert_eq!(last, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9");
    }

    /// The example of AWS's page "Signature calculations: including trailing headers".
    #[test]
    fn a_trailer_gets_the_signature_that_aws_publishes() {
        let seed = put(
            &[
                ("content-encoding", b"aws-chunked"),
                ("host", b"s3.amazonaws.com"),
                ("x-amz-content-sha256", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
                ("x-amz-date", b"20130524T000000Z"),
                ("x-amz-decoded-content-length", b"66560"),
                ("x-amz-storage-class", b"REDUCED_REDUNDANCY"),
                ("x-amz-trailer", b"x-amz-checksum-crc32c"),
            ],
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        );
        assert_eq!(seed, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e");
        let chunks = [&[b'a'; 65536][..], &[b'a'; 1024], &[]];
        let last = chunks
            .iter()
            .fold(seed, |before, chunk| key().sign_chunk(&before, &sha256(chunk)));
        assert_eq!(last, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992");
        let trailer = key().sign_trailer(&last, b"x-amz-checksum-crc32c:sOO8/Q==\n");
        assert_eq!(
            trailer,
            "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
        );
    }

    #[test]
    fn a_path_is_read_as_its_service_reads_it() {
        for (path, key, hierarchy) in [
            ("/", "/", "/"),
            ("", "/", "/"),
            ("/a/../b//c/", "/a/../b//c/", "/b/c/"),
            ("/a%20b+c", "/a%20b%2Bc", "/a%2520b%2Bc"),
            ("/a%2fb/~x", "/a%2Fb/~x", "/a%252fb/~x"),
        ] {
            assert_eq!(canonical_path(path, PathStyle::Key), key, "{path}");
            assert_eq!(canonical_path(path, PathStyle::Hierarchy), hierarchy, "{path}");
        }
    }

    #[test]
    fn a_query_is_sorted_and_encoded_once() {
        for (query, canonical) in [
            ("", ""),
            ("b=2&a=1&&a=%31", "a=1&a=1&b=2"),
            ("acl&x=a+b%2fc", "acl=&x=a%20b%2Fc"),
            ("A=1&a=2&a-b=3", "A=1&a=2&a-b=3"),
        ] {
            assert_eq!(canonical_query(query), canonical, "{query}");
        }
    }
}
