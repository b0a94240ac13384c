//! A new process that does not come to serve changes nothing.

use super::{ground, is_there, kill, replace_program, upgrade};
use crate::rig::proxy::Proxy;
use crate::rig::{eventually, soon};
use http_body_util::BodyExt;

/// Asks for an upgrade that must fail with these words, and sees that all is as before.
async fn fails(proxy: &Proxy, because: &str) {
    let (code, said) = upgrade(proxy).await;
    assert!(code == Some(1) && said.contains(because), "{because}: {code:?} {said}");
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
}

#[tokio::test]
async fn a_new_process_that_crashes_leaves_the_old_one_serving() {
    let (origin, rig) = ground().await;
    let mut proxy = rig.serve().await;
    let mut http = proxy.agent.h2("api.test").await;
    let begun = http
        .send(crate::rig::agent::get("https://api.test/gated?n=2"))
        .await
        .unwrap()
        .into_body();
    for (program, because) in [
        ("exit 7", "it ended before it served (exit status: 7)"),
        ("kill -SEGV $$", "it ended before it served (signal: 11"),
        // One that takes the sockets, and goes with them.
        (
            "head -c 1 >/dev/null; exit 3",
            "it ended before it served (exit status: 3)",
        ),
    ] {
        replace_program(&proxy, program);
        fails(&proxy, because).await;
    }
    std::fs::remove_file(proxy.rig.dir().join("keyferry")).unwrap();
    fails(&proxy, "it could not be started: No such file or directory").await;
    origin.gate.add_permits(2);
    let whole = soon("what was begun", begun.collect()).await.unwrap().to_bytes();
    assert_eq!(whole, "0;1;");
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success());
}

#[tokio::test]
async fn a_config_that_does_not_load_leaves_the_old_process_serving() {
    let (_, rig) = ground().await;
    let dir = rig.dir().display().to_string();
    let proxy = rig.listen(&format!("127.0.0.1:0, \"unix:{dir}/p.sock\"")).serve().await;
    let file = proxy.rig.dir().join("keyferry.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("host: api.test", "hots: api.test")).unwrap();
    // Whoever asks by the command line hears of it at once; a signal ends in the new process' own words.
    let (code, said) = upgrade(&proxy).await;
    assert!(code == Some(2) && said.contains("hots"), "{said}");
    proxy.child.signal("USR2");
    eventually("the end of the upgrade", || {
        let log = proxy.child.log();
        (log.contains("no new process took over") && log.contains("(exit status: 2)")).then_some(())
    })
    .await;
    // Right in itself, but it cannot be had: a secret is missing, or a port is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("127.0.0.1:0, {}", taken.local_addr().unwrap());
    for (changed, because) in [
        (text.clone() + "secrets: { away: { env: NOWHERE } }\n", "NOWHERE"),
        (text.replace("127.0.0.1:0", &more), "the address is in use"),
    ] {
        std::fs::write(&file, changed).unwrap();
        fails(&proxy, "it ended before it served (exit status: 1)").await;
        assert!(proxy.child.log().contains(because), "{}", proxy.child.log());
    }
    assert!(
        proxy.rig.dir().join("p.sock").exists(),
        "the new process took the socket along"
    );
}

#[tokio::test]
async fn a_new_process_that_only_waits_ends_with_a_stop() {
    let (_, rig) = ground().await;
    let mut proxy = rig.serve().await;
    replace_program(&proxy, "echo $$ > waiting; exec sleep 300");
    proxy.child.signal("USR2");
    let written = proxy.rig.dir().join("waiting");
    let read = || std::fs::read_to_string(&written).ok()?.trim().parse::<u32>().ok();
    let waiting = eventually("the new process", read).await;
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success());
    let there = std::path::PathBuf::from(format!("/proc/{waiting}"));
    if there.exists() {
        kill(waiting, "KILL");
        panic!("the new process was left behind");
    }
    assert!(!is_there(proxy.child.id()));
}

#[tokio::test]
async fn with_a_ca_in_memory_there_is_no_upgrade() {
    let (_, rig) = ground().await;
    let rig = rig.config("ca: { memory: true }");
    let child = crate::rig::running::Running::start(rig.command(&["serve"]));
    let address = child.listening().await.unwrap();
    let mut reload = rig.command(&["reload"]);
    let output = reload.arg("--upgrade").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("another CA"), "{said}");
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
}
