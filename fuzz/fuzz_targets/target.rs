//! Where a request to the proxy leads is what each of its words says, or it leads nowhere.
#![no_main]

use http::Request;
use keyferry::base::host::{Host, Target};
use keyferry::front;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Asked<'a> {
    uri: &'a str,
    connect: bool,
    fields: Vec<(u8, &'a [u8])>,
}

const NAMES: [&str; 3] = ["host", "content-length", "transfer-encoding"];

fuzz_target!(|asked: Asked| {
    let method = if asked.connect { "CONNECT" } else { "GET" };
    let mut request = Request::builder().method(method).uri(asked.uri);
    for (name, value) in &asked.fields {
        request = request.header(NAMES[usize::from(*name) % NAMES.len()], *value);
    }
    let Ok(request) = request.body(()) else { return };
    let headers = request.headers();
    let target = if asked.connect {
        let Ok(target) = front::connect(&request) else { return };
        for host in headers.get_all("host") {
            let named = Target::parse(host.to_str().unwrap(), Some(target.port));
            assert_eq!(named, Ok(target.clone()), "the Host header names another");
        }
        assert!(!headers.contains_key("transfer-encoding"), "a CONNECT with a body");
        assert!(headers.get("content-length").is_none_or(|length| length == "0"));
        // As RFC 9112 §3.2.3 writes it: a host, a colon, a port, and nothing else.
        let authority = request.uri().authority().unwrap().as_str();
        assert!(
            authority
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse() == Ok(target.port))
        );
        target
    } else {
        let Ok(target) = front::absolute(&request) else { return };
        assert_eq!(request.uri().scheme_str(), Some("http"));
        target
    };
    // A second reader, of the same standard as browsers, comes to the same place.
    let authority = request.uri().authority().unwrap().as_str();
    assert!(!authority.contains('@'), "{authority:?}");
    if let Ok(theirs) = url::Url::parse(&format!("http://{authority}/")) {
        let port = theirs.port_or_known_default().unwrap();
        let host = Host::parse(theirs.host_str().unwrap());
        assert_eq!((host.as_ref(), port), (Ok(&target.host), target.port), "{authority:?}");
    }
});
