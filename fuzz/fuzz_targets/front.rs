//! The first bytes of a connection are read to one end, however few of them are there yet.
#![no_main]

use keyferry::base::host::Target;
use keyferry::front::{dns, first, proxy_protocol, socks};
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

fuzz_target!(|input: (&[u8], Vec<u16>)| {
    let (bytes, cuts) = input;
    let mut reading = first::Reading::default();
    let mut ends: Vec<usize> = cuts
        .iter()
        .map(|cut| usize::from(*cut))
        .filter(|cut| *cut < bytes.len())
        .collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    // What is decided in pieces is decided the same, and no sooner or later, as a whole.
    let decided = ends.iter().find_map(|end| reading.more(&bytes[..*end]));
    assert_eq!(decided, first::read(bytes));
    for cut in &cuts {
        let Some(some) = bytes.get(..usize::from(*cut)) else {
            continue;
        };
        agree(first::spoken(some), first::spoken(bytes));
        agree(first::read(some), first::read(bytes));
        consumed(socks::methods, some, bytes);
        consumed(socks::password, some, bytes);
        consumed(socks::connect, some, bytes);
        consumed(proxy_protocol::read, some, bytes);
    }
    if let dns::Message::Question(question) = dns::read(bytes) {
        let addresses = [IpAddr::from([192, 0, 2, 1]); 20];
        for answer in [
            dns::Answer::Addresses(&addresses),
            dns::Answer::NoName,
            dns::Answer::Refused,
        ] {
            let reply = question.reply(answer);
            assert!((12..=1232).contains(&reply.len()), "a reply of {} bytes", reply.len());
            assert!(
                matches!(dns::read(&reply), dns::Message::Nothing),
                "a reply is a question"
            );
        }
    }
    if let Ok(Some((target, _))) = socks::connect(bytes) {
        assert_eq!(
            Target::parse(&target.to_string(), None),
            Ok(target),
            "what was read is no target"
        );
    }
});

/// What some bytes decide, more bytes do not change.
fn agree<T: PartialEq + std::fmt::Debug>(some: Option<T>, all: Option<T>) {
    assert!(some.is_none() || some == all, "{some:?} became {all:?}");
}

/// The same of a message, which takes no more bytes than there are.
fn consumed<T, E>(read: fn(&[u8]) -> Result<Option<(T, usize)>, E>, some: &[u8], all: &[u8])
where
    T: PartialEq + std::fmt::Debug,
    E: PartialEq + std::fmt::Debug,
{
    let (part, whole) = (read(some), read(all));
    if let Ok(Some((_, taken))) = &part {
        assert!(*taken <= some.len());
    }
    agree(part.transpose(), whole.transpose());
}
