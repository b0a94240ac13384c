//! Whatever an agent asks for, its record is one line without a query's values.
#![no_main]

use keyferry::audit::{MaskedPath, Record};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Asked<'a> {
    path: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
    method: &'a str,
    reason: &'a str,
    peer: &'a str,
}

fuzz_target!(|asked: Asked| {
    let query: Vec<_> = asked
        .pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let sent = format!("{}?{}", asked.path, query.join("&"));
    let masked = MaskedPath::new(&sent);
    let kept = masked.as_str();
    assert!(kept.len() <= 2048);
    let (path, told) = kept.split_once('?').unwrap_or((kept, ""));
    assert!(sent.starts_with(path), "{sent:?} {kept:?}");
    // What is told of the query is a beginning of its names, each with a mask for its value.
    let (_, query) = sent.split('#').next().unwrap().split_once('?').unwrap_or_default();
    let names: Vec<_> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            None if pair.is_empty() => String::new(),
            None => "***".to_owned(),
        })
        .collect();
    assert!(names.join("&").starts_with(told), "{sent:?} {kept:?}");

    let mut record = Record::begin("r");
    record.path = Some(masked);
    record.method = Some(asked.method.into());
    record.reason = Some(asked.reason.into());
    record.peer = Some(asked.peer.into());
    let line = serde_json::to_vec(&record).unwrap();
    assert!(line.iter().all(|b| *b >= b' '), "a control byte in the log");
    assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
});
