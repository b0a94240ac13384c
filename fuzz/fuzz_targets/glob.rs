//! A pattern matches what a plain reading of it matches, alone and in the map.
#![no_main]

use keyferry::base::glob::{Allow, HostMap, HostPattern};
use keyferry::base::host::{Host, Target};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Tried<'a> {
    patterns: Vec<&'a str>,
    target: &'a str,
    allow: &'a str,
    method: &'a str,
    path: &'a str,
}

fuzz_target!(|tried: Tried| {
    hosts(&tried);
    paths(&tried);
});

fn hosts(tried: &Tried) {
    let Ok(target) = Target::parse(tried.target, Some(443)) else {
        return;
    };
    let mut map = HostMap::default();
    let mut expected = Vec::new();
    for (at, text) in tried.patterns.iter().enumerate() {
        let Ok(pattern) = HostPattern::parse(text) else {
            continue;
        };
        if text.matches('*').count() > 6 {
            // The plain reading takes for ever.
            continue;
        }
        map.insert(&pattern, at);
        let matches = pattern.matches(&target);
        assert_eq!(matches, plainly(text, &target), "{text:?} {target}");
        expected.extend(matches.then_some(at));
    }
    assert_eq!(map.lookup(&target), expected, "{:?} {target}", tried.patterns);
}

/// What a pattern means, read in the slowest way.
fn plainly(pattern: &str, target: &Target) -> bool {
    let Some(at) = pattern.find('*') else {
        let exact = Target::parse(pattern, None);
        let host = Host::parse(pattern);
        return match (host, exact) {
            (Ok(host), _) => host == target.host && [80, 443].contains(&target.port),
            (_, exact) => exact.as_ref() == Ok(target),
        };
    };
    let (host, port) = match pattern[at..].rsplit_once(':') {
        Some((tail, port)) => (&pattern[..at + tail.len()], Some(port.parse().unwrap())),
        None => (pattern, None),
    };
    let port_fits = port.map_or([80, 443].contains(&target.port), |port: u16| port == target.port);
    // The rest of the pattern in the one spelling that hosts have.
    let letters = Host::parse(&host.to_ascii_lowercase().replace('*', "xstarx"));
    let globs = match &letters {
        Ok(Host::Name(name)) => name.replace("xstarx", "*"),
        _ => host.to_owned(),
    };
    let fits = match &target.host {
        _ if host == "*" => true,
        Host::Ip(_) => false,
        Host::Name(name) => {
            let (globs, names): (Vec<_>, Vec<_>) = (globs.split('.').collect(), name.split('.').collect());
            match globs.split_first() {
                Some((&"*", rest)) => (1..=names.len()).any(|taken| each_label(rest, &names[taken..])),
                _ => each_label(&globs, &names),
            }
        }
    };
    fits && port_fits
}

fn each_label(globs: &[&str], names: &[&str]) -> bool {
    globs.len() == names.len()
        && globs
            .iter()
            .zip(names)
            .all(|(glob, name)| label(glob.as_bytes(), name.as_bytes()))
}

fn label(glob: &[u8], name: &[u8]) -> bool {
    match glob.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|taken| label(rest, &name[taken..])),
        Some((first, rest)) => name
            .split_first()
            .is_some_and(|(byte, tail)| first == byte && label(rest, tail)),
    }
}

fn paths(tried: &Tried) {
    let Ok(allow) = Allow::parse(tried.allow) else { return };
    let (method, pattern) = match tried.allow.split_once(char::is_whitespace) {
        Some((method, pattern)) => (method, pattern.trim_start()),
        None => ("*", tried.allow),
    };
    let matches = allow.matches(tried.method, tried.path);
    assert!(
        !matches || method == "*" || method == tried.method,
        "{:?} {:?}",
        tried.allow,
        tried.method
    );
    // What is allowed is forbidden by the same words in a rule that denies.
    assert!(
        !matches || allow.forbids(tried.method, tried.path),
        "{:?} {:?}",
        tried.allow,
        tried.path
    );
    let literal = pattern.split(['*', '?', '[', '{', '\\']).next().unwrap();
    let literal = literal
        .strip_suffix('/')
        .filter(|_| pattern.ends_with("/**"))
        .unwrap_or(literal);
    assert!(
        !matches || tried.path.starts_with(literal),
        "{pattern:?} {:?}",
        tried.path
    );
    // Classes, alternatives and escapes are the library's own; all else has a plain reading.
    let plain = !pattern.contains(['[', ']', '{', '}', '\\']) && pattern.matches('*').count() <= 6;
    let stars = pattern
        .split('/')
        .all(|segment| segment == "**" || !segment.contains("**"));
    if plain && stars && (method == "*" || method == tried.method) && tried.path.starts_with('/') {
        let (globs, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), tried.path.split('/').collect());
        assert_eq!(matches, segments(&globs, &path), "{pattern:?} {:?}", tried.path);
    }
}

/// Segment by segment: `**` takes any number of them, none included.
fn segments(globs: &[&str], path: &[&str]) -> bool {
    match globs.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|taken| segments(rest, &path[taken..])),
        Some((glob, rest)) => path
            .split_first()
            .is_some_and(|(segment, tail)| wild(glob.as_bytes(), segment.as_bytes()) && segments(rest, tail)),
    }
}

fn wild(glob: &[u8], text: &[u8]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|taken| wild(rest, &text[taken..])),
        Some((first, rest)) => text
            .split_first()
            .is_some_and(|(byte, tail)| (first == byte || *first == b'?') && wild(rest, tail)),
    }
}
