#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use proptest::prelude::*;

fn target(text: &str) -> Target {
    Target::parse(text, Some(443)).unwrap()
}

#[test]
fn a_host_pattern_matches_what_it_says_and_no_neighbour() {
    for (pattern, host, expected) in [
        ("a.test", "a.test", true),
        ("a.test", "a.test:80", true),
        ("a.test", "a.test:8443", false),
        ("a.test:8443", "a.test:8443", true),
        ("a.test:8443", "a.test", false),
        ("*.a.test", "x.a.test", true),
        ("*.a.test", "x.y.a.test", true),
        ("*.a.test", "a.test", false),
        ("*.a.test", "xa.test", false),
        ("api-*.a.test", "api-1.a.test", true),
        ("api-*.a.test", "api-1.b.a.test", false),
        ("*.s3.*.aws.test", "b.u.s3.eu.aws.test", true),
        ("*.s3.*.aws.test", "b.s3.eu.x.aws.test", false),
        ("API-*.a.test.", "api-1.a.test", true),
        ("api-*.bücher.test", "api-1.bücher.test", true),
        ("*ü.test", "ü.test", false),
        ("*", "anything.test", true),
        ("*", "10.0.0.1", true),
        ("*.0.0.1", "10.0.0.1", false),
        ("10.0.0.1", "10.0.0.1", true),
    ] {
        let Ok(parsed) = HostPattern::parse(pattern) else {
            assert!(!expected, "{pattern} was refused");
            continue;
        };
        assert_eq!(parsed.matches(&target(host)), expected, "{pattern} {host}");
        let mut map = HostMap::default();
        map.insert(&parsed, 1);
        assert_eq!(!map.lookup(&target(host)).is_empty(), expected, "map: {pattern} {host}");
    }
}

#[test]
fn the_map_returns_in_order_and_once() {
    let mut map = HostMap::default();
    for (at, pattern) in ["*", "*.a.test", "x.a.test", "x*.a.test", "x.a.test:443"]
        .iter()
        .enumerate()
    {
        map.insert(&HostPattern::parse(pattern).unwrap(), at);
    }
    assert_eq!(map.lookup(&target("x.a.test")), [0, 1, 2, 3, 4]);
    assert_eq!(map.lookup(&target("x.a.test:80")), [0, 1, 2, 3]);
}

#[test]
fn an_allow_entry_matches_method_and_path() {
    for (allow, method, path, expected) in [
        ("GET /v1/models/**", "GET", "/v1/models/x/y", true),
        ("GET /v1/models/**", "GET", "/v1/models", true),
        ("GET /v1/models/**", "GET", "/v1/modelsx", false),
        ("GET /v1/models/**", "POST", "/v1/models/x", false),
        ("* /acme/*", "PUT", "/acme/x", true),
        ("* /acme/*", "PUT", "/acme/x/y", false),
        ("/repos/*/issues", "GET", "/repos/a/issues", true),
        ("/repos/*/**", "GET", "/repos/a", true),
        ("/repos/*/**", "GET", "/repos/a/b/c", true),
        ("/repos/*/**", "GET", "/repos", false),
        ("/a/**/b", "GET", "/a/b", true),
        ("/a/**/b", "GET", "/a/x/y/b", true),
        ("/a/**/b", "GET", "/ab", false),
        ("/**/**", "GET", "/", true),
        ("/*/**/**", "GET", "/", true),
        ("POST /v1/messages", "POST", "/v1/messages", true),
        ("POST /v1/messages", "POST", "/v1/messages/", false),
        ("/**", "GET", "/", true),
    ] {
        assert_eq!(
            Allow::parse(allow).unwrap().matches(method, path),
            expected,
            "{allow} {method} {path}"
        );
    }
    assert!(Allow::parse("get /x").is_err() && Allow::parse("GET x").is_err() && Allow::parse("GET /{a").is_err());
}

/// What a host pattern means, read label by label in the slowest way.
fn each_label(globs: &[&str], names: &[&str]) -> bool {
    globs.len() == names.len()
        && globs
            .iter()
            .zip(names)
            .all(|(glob, name)| wild(glob.as_bytes(), name.as_bytes()))
}

/// A `*` takes any run, a `?` any one byte.
fn wild(glob: &[u8], text: &[u8]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|taken| wild(rest, &text[taken..])),
        Some((first, rest)) => text
            .split_first()
            .is_some_and(|(byte, tail)| (first == byte || *first == b'?') && wild(rest, tail)),
    }
}

/// What a path pattern means: `**` takes any number of segments, none included.
fn each_segment(globs: &[&str], path: &[&str]) -> bool {
    match globs.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|taken| each_segment(rest, &path[taken..])),
        Some((glob, rest)) => path
            .split_first()
            .is_some_and(|(segment, tail)| wild(glob.as_bytes(), segment.as_bytes()) && each_segment(rest, tail)),
    }
}

proptest! {
    #[test]
    fn host_patterns_mean_what_a_plain_reading_says(
        patterns in proptest::collection::vec("(\\*\\.)?[ab*]{1,3}(\\.[ab*]{1,3}){0,2}(:[48]43)?", 1..6),
        name in "[ab]{1,3}(\\.[ab]{1,3}){0,3}", port in prop_oneof![Just(443_u16), Just(80), Just(843)],
    ) {
        let target = target(&format!("{name}:{port}"));
        let names: Vec<_> = name.split('.').collect();
        let (mut map, mut expected) = (HostMap::default(), Vec::new());
        for (at, text) in patterns.iter().enumerate() {
            let Ok(pattern) = HostPattern::parse(text) else { continue };
            let (host, wanted) = text.split_once(':').map_or((text.as_str(), None), |(host, port)| (host, port.parse().ok()));
            let globs: Vec<_> = host.split('.').collect();
            let fits = match globs.split_first() {
                Some((&"*", [])) => true,
                Some((&"*", rest)) => (1..=names.len()).any(|taken| each_label(rest, &names[taken..])),
                _ => each_label(&globs, &names),
            };
            let fits = fits && wanted.map_or(port != 843, |wanted: u16| wanted == port);
            prop_assert_eq!(pattern.matches(&target), fits, "{} {}", text, target);
            map.insert(&pattern, at);
            expected.extend(fits.then_some(at));
        }
        prop_assert_eq!(map.lookup(&target), expected, "{:?} {}", patterns, target);
    }

    #[test]
    fn path_patterns_mean_what_a_plain_reading_says(
        pattern in "(/(\\*\\*|[ab*?]{1,3})){1,4}", path in "(/[ab]{0,3}){1,5}", method in "GET|PUT",
    ) {
        prop_assume!(pattern.split('/').all(|segment| segment == "**" || !segment.contains("**")));
        let allow = Allow::parse(&format!("GET {pattern}")).unwrap();
        let (globs, segments): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        let fits = method == "GET" && each_segment(&globs, &segments);
        prop_assert_eq!(allow.matches(&method, &path), fits, "{} {} {}", pattern, method, path);
        // A rule that denies takes at least as much for forbidden.
        prop_assert!(!fits || allow.forbids(&method, &path));
    }
}
