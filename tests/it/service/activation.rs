//! Sockets that are there before Keyferry is: passed by systemd's own tool (sd_listen_fds(3)).

use super::{Followers, free_port, ground, is_there};
use crate::rig::agent::Agent;
use crate::rig::proxy::Rig;
use crate::rig::running::Running;
use crate::rig::{eventually, soon, tools};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use tokio::net::{TcpStream, UnixStream};

/// `serve` behind `systemd-socket-activate`, which starts it at the first connection.
fn activated(rig: Rig, sockets: &[String], flags: &[&str]) -> (Rig, Running) {
    let mut words = vec![tools::need("systemd-socket-activate").display().to_string()];
    for socket in sockets {
        words.extend(["-l".to_owned(), socket.clone()]);
    }
    words.extend(flags.iter().copied().chain(["-E", "HOME"]).map(str::to_owned));
    let rig = rig.through(&words);
    let child = Running::start(rig.command(&["serve"]));
    (rig, child)
}

/// Connects to what systemd listens on, once it does.
async fn reach(address: SocketAddr) -> TcpStream {
    let end = tokio::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            return stream;
        }
        assert!(tokio::time::Instant::now() < end, "nobody listens on {address}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn agent(rig: &Rig, child: &Running, address: SocketAddr) -> Agent {
    soon("the start", child.listening()).await.unwrap();
    Agent::new(address, &std::fs::read_to_string(rig.dir().join("ca/ca.pem")).unwrap())
}

#[tokio::test]
async fn sockets_that_are_passed_are_taken_by_address_and_by_name() {
    let (_, rig) = ground().await;
    let (by_address, by_name) = (free_port(), free_port());
    let path = rig.dir().join("p.sock");
    let listen = format!(
        "\"{by_address}\", \"systemd:proxy\", \"unix:{}\", \"127.0.0.1:0\"",
        path.display()
    );
    let sockets = [by_name.to_string(), path.display().to_string(), by_address.to_string()];
    let rig = rig
        .listen(&listen)
        .config("agents: { any: { address: 127.0.0.0/8 }, us: { peer_uid: 0 } }");
    let (rig, mut child) = activated(rig, &sockets, &["--fdname=proxy:unix:other"]);
    let first = reach(by_address).await;
    let mut agent = agent(&rig, &child, by_address).await;
    // What came before the proxy did was not lost.
    let log = child.log();
    for (at, address) in [by_address, by_name].iter().enumerate() {
        agent.proxy = *address;
        assert_eq!(agent.get("https://api.test/hello").await.text(), "hello", "{at}: {log}");
    }
    drop(first);
    assert!(log.contains(&format!("listening on unix:{}", path.display())), "{log}");
    UnixStream::connect(&path).await.unwrap();
    // Whoever made the socket's file removes it.
    child.signal("TERM");
    assert!(child.ended().await.success(), "{}", child.log());
    assert!(path.exists());
}

#[tokio::test]
async fn a_socket_that_was_passed_goes_on_to_the_next_process() {
    let (_, rig) = ground().await;
    let address = free_port();
    let rig = rig
        .listen("\"systemd:proxy\"")
        .config("agents: { any: { address: 127.0.0.0/8 } }");
    let (rig, mut child) = activated(rig, &[address.to_string()], &["--fdname=proxy"]);
    drop(reach(address).await);
    let agent = agent(&rig, &child, address).await;
    let followers = Followers::default();
    child.signal("USR2");
    let pid = eventually("the new process", || {
        let log = child.log();
        log.contains("serves now").then(|| followers.read(&log))
    })
    .await;
    assert!(child.ended().await.success(), "{}", child.log());
    assert_eq!(agent.get("https://api.test/hello").await.text(), "hello");
    assert!(is_there(pid));
    followers.stop(pid).await;
}

#[tokio::test]
async fn a_socket_that_no_listener_asks_for_is_a_mistake() {
    let (_, rig) = ground().await;
    let (known, unknown) = (free_port(), free_port());
    let listen = format!("\"{known}\"");
    let (_rig, mut child) = activated(rig.listen(&listen), &[known.to_string(), unknown.to_string()], &[]);
    let _first = reach(unknown).await;
    assert_eq!(child.ended().await.code(), Some(1));
    let said = format!("no listener in the config is for {unknown}");
    assert!(child.log().contains(&said), "{}", child.log());
}

#[tokio::test]
async fn a_listener_that_waits_for_a_socket_nobody_passes_is_a_mistake() {
    let (_, rig) = ground().await;
    let rig = rig
        .listen("\"systemd:proxy\"")
        .config("agents: { any: { address: 127.0.0.0/8 } }");
    let (status, log) = rig.refuses().await;
    assert!(
        status.code() == Some(1) && log.contains("nobody passed a socket named `proxy`"),
        "{log}"
    );
}

#[tokio::test]
async fn a_connection_that_is_passed_is_no_listener() {
    let (_, rig) = ground().await;
    let address = free_port();
    let rig = rig.listen(&format!("\"{address}\""));
    // One process for each connection.
    let (_rig, child) = activated(rig, &[address.to_string()], &["--accept"]);
    let _first = reach(address).await;
    eventually("word of the mistake", || {
        let log = child.log();
        log.contains("is not one that listens for connections").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_unix_socket_that_is_passed_gets_the_mode_of_the_config() {
    let (_, rig) = ground().await;
    let path = rig.dir().join("p.sock");
    let listen = format!("{{ bind: \"unix:{}\", mode: \"0600\" }}", path.display());
    let (_rig, child) = activated(rig.listen(&listen), &[path.display().to_string()], &[]);
    let _waiting = eventually("the socket", || std::os::unix::net::UnixStream::connect(&path).ok()).await;
    let serves = format!("listening on unix:{}", path.display());
    eventually("the start", || child.log().contains(&serves).then_some(())).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
