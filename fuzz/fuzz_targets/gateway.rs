//! What a base URL leads to is what follows its prefix, and never another upstream.
#![no_main]

use http::Request;
use http::header::{HeaderValue, LOCATION, SET_COOKIE};
use keyferry::base::ask::normal_path;
use keyferry::config::Config;
use keyferry::front::gateway::Gateway;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::{Arc, LazyLock};

static GATEWAY: LazyLock<Arc<Gateway>> = LazyLock::new(|| {
    let rules = "rules: [{ host: a.test, gateway: /a }, { host: b.test, gateway: /b/c }]";
    let loaded = Config::parse(rules, Path::new("keyferry.yaml")).expect("a config");
    Arc::new(Gateway::new(&loaded.config))
});

fuzz_target!(|input: (&str, Option<&[u8]>, &[u8], &[u8])| {
    let (uri, host, location, cookie) = input;
    let mut request = Request::get(uri);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    let Ok(mut request) = request.body(()) else { return };
    let asked = request.uri().path().to_owned();
    let Ok(routed) = GATEWAY.route(&[], &mut request) else {
        return;
    };
    let path = request.uri().path();
    let prefix = asked.strip_suffix(path).or(asked.strip_suffix('/')).unwrap_or(&asked);
    match prefix {
        "/a" => assert_eq!(routed.target.to_string(), "a.test:443"),
        "/b/c" => assert_eq!(routed.target.to_string(), "b.test:443"),
        // By its host; one that names a host and no path asks for the root.
        _ => assert!(path == asked || asked.is_empty() && path == "/", "{asked} became {path}"),
    }
    if path != asked {
        assert!(normal_path(path).is_some(), "{path}");
    }
    let mut headers = http::HeaderMap::new();
    for (name, value) in [(LOCATION, location), (SET_COOKIE, cookie)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    routed.reply(&mut headers, false);
});
