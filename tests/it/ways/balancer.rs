//! PROXY protocol: the agent is known by the address that a load balancer tells of, HAProxy among them.

use super::gateway::dial_from;
use super::table::tables;
use super::{Way, connect, pages};
use crate::rig::agent::{Http, Raw, status};
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::{eventually, tools};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tokio::net::TcpStream;

/// An HAProxy that tells Keyferry who is behind it.
struct Haproxy {
    address: SocketAddr,
    child: Child,
}

impl Haproxy {
    async fn before(proxy: &Proxy, version: &str) -> Self {
        // HAProxy cannot be asked which port the kernel chose, so it gets one that was free a moment ago.
        let address = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        // As the page has it, with the addresses of the test.
        let listen = pages::block("proxy-protocol.md", "haproxy")
            .replace("bind :8080", &format!("bind {address}"))
            .replace("10.0.0.2:8080", &proxy.address.to_string())
            .replace("send-proxy-v2", version);
        let timeouts = "defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n";
        let config = format!("{timeouts}{listen}\n");
        let file = proxy.rig.dir().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(tools::need("haproxy"));
        bare(&mut command, proxy.rig.dir());
        command
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        eventually("HAProxy", || std::net::TcpStream::connect(address).ok()).await;
        Self { address, child }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LISTEN: &str = "{ bind: \"127.0.0.1:0\", proxy_protocol: [127.0.0.1] }";

struct Balanced {
    haproxy: Haproxy,
    proxy: Proxy,
}

impl Balanced {
    async fn from(&self, from: [u8; 4], host: &str, http2: bool) -> Result<Http, String> {
        let tcp = dial_from(from, self.haproxy.address).await;
        Ok(self
            .proxy
            .agent
            .http_over(connect(tcp, host, None).await?, host, http2)
            .await)
    }
}

impl Way for Balanced {
    const NAME: &'static str = "proxy";
    const DENIED: &'static str = "403 denied_by_policy";

    async fn start(rig: Rig, _: Option<crate::rig::netns::Networks>) -> Self {
        let rig = rig.config("agents: { ci: { address: 127.0.0.2 } }");
        let proxy = rig.listen(LISTEN).serve().await;
        let haproxy = Haproxy::before(&proxy, "send-proxy-v2").await;
        Self { haproxy, proxy }
    }

    fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        self.from([127, 0, 0, 2], host, http2).await
    }

    async fn stranger(&self) -> String {
        self.from([127, 0, 0, 3], "api.test", false).await.err().unwrap()
    }
}

tables!(balanced: Balanced);

/// A listener where a header is due from 127.0.0.1, and agents of two addresses.
async fn ground() -> Proxy {
    let rig = Rig::new(&Root::new()).rule("host: api.test, agents: [told]");
    rig.config("agents: { told: { address: 192.0.2.7 }, near: { address: 127.0.0.0/8 } }\nlimits: { head_time: 500ms }")
        .listen(LISTEN)
        .serve()
        .await
}

const ASK: &str = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n";

#[tokio::test]
async fn haproxy_with_the_text_header_is_understood() {
    let proxy = ground().await;
    let haproxy = Haproxy::before(&proxy, "send-proxy").await;
    let mut raw = Raw::new(TcpStream::connect(haproxy.address).await.unwrap());
    raw.say(ASK).await;
    assert_eq!(status(&raw.head().await), 403);
    let records = proxy.records(1).await;
    assert!(records.iter().any(|one| one["agent"] == "near"), "{records:#?}");
}

#[tokio::test]
async fn the_address_that_is_told_is_the_agents() {
    let proxy = ground().await;
    let v2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x02\x12\x34\x01\xbb";
    for header in [&b"PROXY TCP4 192.0.2.7 192.0.2.2 4660 443\r\n"[..], v2] {
        let mut raw = proxy.agent.dial().await;
        for byte in header {
            raw.say([*byte]).await;
        }
        raw.say(ASK).await;
        assert_eq!(status(&raw.head().await), 200);
    }
    // A balancer's own connection counts as coming from the balancer.
    let mut raw = proxy.agent.dial().await;
    raw.say([b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", ASK.as_bytes()].concat())
        .await;
    assert_eq!(status(&raw.head().await), 403);
    let records = proxy.records(3).await;
    let count = |agent: &str| records.iter().filter(|one| one["agent"] == agent).count();
    assert_eq!((count("told"), count("near")), (2, 1), "{records:#?}");
}

#[tokio::test]
async fn a_header_that_is_missing_wrong_or_from_elsewhere_opens_nothing() {
    let proxy = ground().await;
    let cases = [
        ASK.as_bytes(),
        b"PROXY TCP4 192.0.2.7 192.0.2",
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.2 99999 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x00",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\x04abcd",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"",
    ];
    for (at, said) in cases.into_iter().enumerate() {
        let mut raw = proxy.agent.dial().await;
        raw.say(said).await;
        assert_eq!(raw.rest().await.0, b"", "{said:?} was answered");
        let record = proxy.records(at + 1).await.remove(at);
        assert_eq!(record["code"], "proxy_header_refused", "{said:?}: {record:#}");
    }
    // From an address that is no balancer's a header is nothing but a malformed request.
    let mut raw = Raw::new(dial_from([127, 0, 0, 9], proxy.address).await);
    raw.say(["PROXY TCP4 192.0.2.7 192.0.2.2 4660 443\r\n", ASK].concat())
        .await;
    let head = raw.head().await;
    assert!(!head.starts_with("HTTP/1.1 200"), "{head}");
}
