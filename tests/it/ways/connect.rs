//! CONNECT, which every other way is compared with: over TCP, to a listener that is TLS itself, and to a unix socket.

use super::table::tables;
use super::{TOKEN, Way, connect, pages};
use crate::clients::basic;
use crate::rig::agent::Http;
use crate::rig::netns::Networks;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::service::free_port;
use tokio::net::UnixStream;

/// Over TCP, or TLS over that.
struct Connect<const TLS: bool>(Proxy);

impl<const TLS: bool> Connect<TLS> {
    async fn offering(&self, offer: Option<&str>, host: &str, http2: bool) -> Result<Http, String> {
        let agent = &self.0.agent;
        let tcp = agent.dial().await.io;
        if TLS {
            let outer = agent.handshake(tcp, "localhost", &["http/1.1"]).await.unwrap();
            let outer = connect(outer, host, offer).await?;
            return Ok(agent.http_over(outer, host, http2).await);
        }
        Ok(agent.http_over(connect(tcp, host, offer).await?, host, http2).await)
    }
}

impl<const TLS: bool> Way for Connect<TLS> {
    const NAME: &'static str = "proxy";
    const DENIED: &'static str = "403 denied_by_policy";

    async fn start(rig: Rig, _: Option<Networks>) -> Self {
        let rig = rig.config("agents: { ci: { token: ci_token } }");
        let listen = format!("{{ bind: \"127.0.0.1:0\", tls: {TLS} }}");
        Self(rig.listen(&listen).serve().await)
    }

    fn proxy(&self) -> &Proxy {
        &self.0
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        self.offering(Some(&basic("ci", TOKEN)), host, http2).await
    }

    async fn stranger(&self) -> String {
        self.offering(None, "api.test", false).await.err().unwrap()
    }
}

tables!(tcp: Connect<false>, tls: Connect<true>);

/// A socket whose other side the kernel knows.
struct Unix(Proxy);

impl Way for Unix {
    const NAME: &'static str = "proxy";
    const DENIED: &'static str = "403 denied_by_policy";

    async fn start(rig: Rig, _: Option<Networks>) -> Self {
        Self(super::on_a_unix_socket(rig).await)
    }

    fn proxy(&self) -> &Proxy {
        &self.0
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        let socket = UnixStream::connect(self.0.rig.dir().join("p.sock")).await.unwrap();
        Ok(self
            .0
            .agent
            .http_over(connect(socket, host, None).await?, host, http2)
            .await)
    }

    // By TCP there is no uid to be known by.
    async fn stranger(&self) -> String {
        let tcp = self.0.agent.dial().await.io;
        connect(tcp, "api.test", None).await.err().unwrap()
    }
}

tables!(unix: Unix);

#[tokio::test]
async fn the_commands_on_the_page_about_proxying_work() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.github.com").await;
    let (tcp, tls) = (free_port().to_string(), free_port().to_string());
    let rig = Rig::new(&root).reach(&origin).env("CI_TOKEN", TOKEN);
    let socket = format!("{}/p.sock", rig.dir().display());
    let swapped = [
        ("127.0.0.1:8080", tcp.as_str()),
        ("127.0.0.1:8443", &tls),
        ("/run/keyferry/proxy.sock", &socket),
    ];
    let swap = |text: String| swapped.iter().fold(text, |text, (from, to)| text.replace(from, to));
    let listen = swap(pages::entry("proxy.md", "listen")).replacen(&tcp, &format!("\"{tcp}\""), 1);
    let agents = [pages::line("proxy.md", "secrets:"), pages::line("proxy.md", "agents:")];
    let rule = pages::entry("proxy.md", "rules");
    let rig = rig
        .listen(&listen)
        .config(&agents.join("\n"))
        .rule(rule.trim_matches(['{', '}']));
    let proxy = rig.serve().await;
    let printed = pages::run("proxy.md", &proxy, &swapped, &[("CI_TOKEN", TOKEN)]).await;
    assert_eq!(printed.len(), 3);
    assert!(printed.iter().all(|text| text.contains("\"/zen\"")), "{printed:?}");
    let records = proxy.records(3).await;
    assert!(records.iter().all(|record| record["agent"] == "ci"), "{records:#?}");
}
