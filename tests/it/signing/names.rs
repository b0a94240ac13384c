//! What a host's name says, against the endpoints that AWS's own library knows.

use crate::rig::tools;
use keyferry::base::aws_host::service;
use std::process::Command;

#[test]
fn every_endpoint_of_botocore_is_known_by_its_name() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/signing/scripts/endpoints.py");
    let output = Command::new(tools::python()).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let [host, expected] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        count += 1;
        match service(host) {
            Some(found) if found.name == expected && found.region.is_none_or(|r| host.contains(r)) => {}
            found => wrong.push(format!("{host}: {expected}, not {found:?}")),
        }
    }
    assert!(count > 300, "only {count} endpoints were listed");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
