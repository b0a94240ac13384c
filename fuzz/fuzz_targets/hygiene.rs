//! No hop's own header gets through, and `Connection` cannot take out what a request is made of.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use keyferry::proxy::hygiene;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 14] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "te",
    "proxy-authorization",
    "proxy-authenticate",
    "host",
    "content-length",
    "cookie",
    "authorization",
    "x-own",
];

fuzz_target!(|lines: Vec<(u8, &[u8])>| {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_static(NAMES[usize::from(name) % NAMES.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let sent = headers.clone();
    let mut reply = headers.clone();
    hygiene::request(&mut headers);
    hygiene::response(&mut reply);
    for name in NAMES.iter().take(9).filter(|name| **name != "te") {
        assert!(!headers.contains_key(*name) && !reply.contains_key(*name), "{name}");
    }
    assert!(!reply.contains_key("te"));
    assert!(headers.get_all("te").iter().all(|te| te == "trailers"));
    for name in ["host", "content-length", "cookie"] {
        assert!(headers.get_all(name).iter().eq(sent.get_all(name)), "{name}");
    }
    let once = headers.clone();
    hygiene::request(&mut headers);
    assert_eq!(headers, once, "a second cleaning finds something");
});
