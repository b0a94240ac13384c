//! No hop's own header gets through, and `Connection` cannot take out what a request is made of.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use keyferry::proxy::hygiene;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 16] = [
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
    "content-type",
    "max-forwards",
];

const KEPT: [&str; 4] = ["host", "content-length", "content-type", "cookie"];

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
    for name in KEPT {
        assert!(headers.get_all(name).iter().eq(sent.get_all(name)), "{name}");
        assert!(reply.get_all(name).iter().eq(sent.get_all(name)), "{name}");
    }
    // What `Connection` names is gone, all else of the agent's own is there.
    let connection: Vec<_> = sent
        .get_all("connection")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    let named = connection.join(",").to_ascii_lowercase();
    let named: Vec<_> = named.split(',').map(|token| token.trim_matches([' ', '\t'])).collect();
    for name in ["authorization", "x-own"] {
        for cleaned in [&headers, &reply] {
            let kept = if named.contains(&name) {
                0
            } else {
                sent.get_all(name).iter().count()
            };
            assert_eq!(cleaned.get_all(name).iter().count(), kept, "{name}");
        }
    }
    // Hops are counted down to an end.
    let hops = |value: &HeaderValue| value.to_str().unwrap().parse::<u64>().unwrap();
    if let Some(left) = headers.get("max-forwards") {
        assert_eq!(sent.get("max-forwards").map(hops), Some(hops(left) + 1));
    }
    headers.remove("max-forwards");
    let once = headers.clone();
    hygiene::request(&mut headers);
    assert_eq!(headers, once, "a second cleaning finds something");
});
