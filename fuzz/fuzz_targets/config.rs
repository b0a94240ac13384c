//! A config is refused in words or makes a policy; nothing else happens.
#![no_main]

use keyferry::base::host::Target;
use keyferry::base::ids::AgentId;
use keyferry::config::Config;
use keyferry::policy::Policy;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    match Config::parse(text, Path::new("keyferry.yaml")) {
        Ok(loaded) => {
            let policy = Policy::new(&loaded.config);
            let target = Target::parse("api.example.com:443", None).unwrap();
            let _ = policy.reach(AgentId(0), &target);
            assert!(!format!("{:?}", loaded.config).is_empty());
        }
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
});
