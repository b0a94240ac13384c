//! A machine whose clock is far off fails in ways that name the clock, not only the certificate.

use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::tools;

/// What fakes the clock of a program that it is loaded into.
pub fn library() -> String {
    let faketime = tools::need("faketime");
    let prefix = faketime.parent().unwrap().parent().unwrap().join("lib");
    let library = ["x86_64-linux-gnu", "aarch64-linux-gnu", ""]
        .map(|folder| prefix.join(folder).join("faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| path.exists())
        .expect("the faketime package has no library where it is looked for");
    library.to_str().unwrap().to_owned()
}

/// The same rig, in a process whose clock is off by `offset`.
pub fn off(rig: Rig, offset: &str) -> Rig {
    rig.env("LD_PRELOAD", &library())
        .env("FAKETIME", offset)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

#[tokio::test]
async fn a_ca_made_in_the_clocks_future_is_refused_at_the_start() {
    let root = Root::new();
    let mut proxy = Rig::new(&root).rule("host: a.test").serve().await;
    proxy.child.signal("TERM");
    proxy.child.ended().await;
    let (status, log) = off(proxy.rig, "-900d").refuses().await;
    assert!(!status.success());
    assert!(log.contains("clock"), "{log}");
}

#[tokio::test]
async fn an_upstream_certificate_judged_by_a_wrong_clock_makes_the_record_ask_after_it() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    for (offset, word) in [("-900d", "not valid"), ("+900d", "expired")] {
        let rig = off(Rig::new(&root).reach(&origin).rule("host: api.test"), offset);
        let ran = rig.run(&["curl", "-sS", "-k", "https://api.test/"]).await;
        assert_eq!(ran.json()["error"], "upstream_certificate", "{}", ran.stderr);
        let record = rig.audit().pop().unwrap();
        assert!(record["reason"].as_str().unwrap().contains(word), "{record:#}");
        assert!(record["reason"].as_str().unwrap().contains("clock"), "{record:#}");
    }
    assert_eq!(origin.seen().len(), 0);
}
