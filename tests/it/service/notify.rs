//! What a service manager is told (sd_notify(3)): by a socket with a path, and by one in the abstract namespace.

use super::{Followers, ground};
use crate::rig::{eventually, soon};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::net::TcpStream;

struct Manager(tokio::net::UnixDatagram);

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self(tokio::net::UnixDatagram::from_std(socket).unwrap())
    }

    /// The next thing it is told, word for word.
    async fn told(&self) -> String {
        let mut word = [0; 256];
        let count = soon("word of Keyferry", self.0.recv(&mut word)).await.unwrap();
        String::from_utf8(word[..count].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn the_service_manager_hears_when_it_serves_reloads_is_followed_and_stops() {
    let (_, rig) = ground().await;
    let path = rig.dir().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let address = super::free_port();
    let rig = rig
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .listen(&address.to_string());
    let proxy = tokio::spawn(rig.serve());
    assert_eq!(manager.told().await, "READY=1");
    // Ready is who accepts.
    TcpStream::connect(address).await.unwrap();
    let mut proxy = soon("the proxy", proxy).await.unwrap();
    let before = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
    proxy.reload(|text| text.replace("host: api.test", "host: api.test, name: again"));
    let told = manager.told().await;
    let since = told
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap_or_else(|| panic!("{told}"));
    let since: i64 = since.parse().unwrap();
    assert!((before..before + 60).contains(&(since / 1_000_000)), "{told}");
    assert_eq!(manager.told().await, "READY=1");
    // Written and signalled, it may be read twice.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut extra = [0; 256];
    while manager.0.try_recv(&mut extra).is_ok() {}

    let followers = Followers::default();
    let pid = followers.next(&proxy).await;
    // First the manager knows the new one, and then that one may speak.
    assert_eq!(manager.told().await, format!("MAINPID={pid}"));
    assert_eq!(manager.told().await, "READY=1");
    assert!(proxy.child.ended().await.success());
    followers.stop(pid).await;
    assert_eq!(manager.told().await, "STOPPING=1");
}

#[tokio::test]
async fn a_watchdog_is_told_again_and_again_by_the_process_it_watches() {
    let (_, rig) = ground().await;
    let name = format!("keyferry-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let manager = Manager::new(socket);
    let rig = rig
        .env("NOTIFY_SOCKET", &format!("@{name}"))
        .env("WATCHDOG_USEC", "200000")
        // As a manager starts it, which knows its number before; `env` becomes what it starts.
        .through(&["/bin/sh", "-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]);
    let proxy = rig.serve().await;
    let mut told = std::collections::BTreeMap::<_, u32>::new();
    while told.get("WATCHDOG=1").is_none_or(|count| *count < 5) {
        *told.entry(manager.told().await).or_default() += 1;
    }
    assert_eq!(told.get("READY=1"), Some(&1), "{told:?}");
    // Its number is not that of the one that follows, which is watched all the same.
    let followers = Followers::default();
    let pid = followers.next(&proxy).await;
    eventually("the end of the old one", || {
        (!super::is_there(proxy.child.id())).then_some(())
    })
    .await;
    let mut extra = [0; 256];
    while manager.0.try_recv(&mut extra).is_ok() {}
    for _ in 0..3 {
        assert_eq!(manager.told().await, "WATCHDOG=1");
    }
    followers.stop(pid).await;
}

#[tokio::test]
async fn a_manager_that_is_gone_stops_nothing() {
    let (_, rig) = ground().await;
    let gone = rig.dir().join("gone");
    let proxy = rig.env("NOTIFY_SOCKET", gone.to_str().unwrap()).serve().await;
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    assert!(proxy.child.log().contains("cannot tell the service manager `READY=1`"));
}
