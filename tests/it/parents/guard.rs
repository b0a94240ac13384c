//! What can be known of an address before a parent is asked for it is judged as ever.

use super::absolute;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::script::Script;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn an_address_that_is_known_here_is_judged_before_the_parent_is_asked() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = asked.clone();
    let parent = Script::tcp("parent.test", move |_tcp| {
        counting.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    })
    .await;
    let root = Root::new();
    let proxy = Rig::new(&root)
        .reach_as("inside.test", "10.1.2.3:80".parse().unwrap())
        .allow_networks("")
        .rule("host: \"*\"")
        .upstream(&format!("parent: \"http://{}\"", parent.address))
        .serve()
        .await;
    for host in [
        "127.0.0.1",
        "2130706433",
        "169.254.169.254",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "inside.test",
    ] {
        let (status, body) = absolute(&proxy.agent, host, "/").await;
        assert_eq!(status, 403, "{host}: {body}");
        assert!(body.contains("address_refused"), "{host}: {body}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the parent was asked");
    // Any other name is the parent's to resolve, and to judge.
    let (status, body) = absolute(&proxy.agent, "somewhere.test", "/").await;
    assert_eq!((status, body.contains("parent_unreachable")), (502, true), "{body}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
