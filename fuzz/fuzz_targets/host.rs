//! A host has one spelling, and whoever else reads it reads the same.
#![no_main]

use keyferry::base::host::{Host, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(host) = Host::parse(text) {
        let spelled = host.to_string();
        assert_eq!(
            Host::parse(&spelled),
            Ok(host.clone()),
            "{spelled:?} is not read as itself"
        );
        assert!(spelled.len() <= 253 && spelled.is_ascii(), "{spelled:?}");
        assert!(
            !spelled
                .bytes()
                .any(|b| b <= b' ' || b.is_ascii_uppercase() || b"%@/\\?#".contains(&b)),
            "{spelled:?}"
        );
        // A browser's view of the same text: never an address where we see a name, nor another name.
        match (url::Host::parse(text), &host) {
            (Ok(url::Host::Domain(name)), Host::Name(ours)) => assert_eq!(name.trim_end_matches('.'), &**ours),
            (Ok(url::Host::Domain(name)), Host::Ip(ours)) => panic!("{ours} is the name {name}"),
            (Ok(url::Host::Ipv4(address)), ours) => assert_eq!(ours.ip(), Some(address.into())),
            (Ok(url::Host::Ipv6(address)), ours) => assert_eq!(*ours, Host::from(std::net::IpAddr::V6(address))),
            (Err(_), _) => {}
        }
    }
    if let Ok(target) = Target::parse(text, Some(443)) {
        assert_ne!(target.port, 0);
        assert_eq!(Target::parse(&target.to_string(), None), Ok(target));
    }
});
