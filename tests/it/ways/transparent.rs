//! Redirected connections, in network namespaces of the test's own: an agent that knows of no proxy, and a gateway
//! whose firewall sends what it says to Keyferry.

use super::table::{tables, told};
use super::{KEY, Way, pages};
use crate::rig::agent::{Http, Raw, content_length, get, status};
use crate::rig::netns::{AGENT, FAR, GATE, Networks, STRANGER};
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::{soon, tools};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// What the gateway's firewall does with the agent's connections.
const REDIRECT: &str = "table inet keyferry {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        tcp dport { 25, 80, 443, 9000 } redirect to :15001
    }
}";
const TPROXY: &str = "table inet keyferry {
    chain prerouting {
        type filter hook prerouting priority mangle;
        iifname vg meta nfproto ipv4 tcp dport { 25, 80, 443, 9000 } tproxy ip to :15001 meta mark set 1 accept
        iifname vg meta nfproto ipv6 tcp dport { 25, 80, 443, 9000 } tproxy ip6 to :15001 meta mark set 1 accept
    }
}";

/// A gateway with Keyferry on it.
pub(super) struct Gateway {
    pub(super) networks: Networks,
    pub(super) proxy: Proxy,
}

impl Gateway {
    /// Moves to the gateway's side; origins must be started after.
    pub(super) fn networks(tproxy: bool) -> Networks {
        let networks = Networks::enter();
        if tproxy {
            for family in ["", "-6 "] {
                networks.ip(&format!("{family}rule add fwmark 1 lookup 100"));
                networks.ip(&format!("{family}route add local default dev lo table 100"));
            }
        }
        networks.nft(if tproxy { TPROXY } else { REDIRECT });
        networks
    }

    pub(super) async fn serve(networks: Networks, rig: Rig, more: &str) -> Self {
        let listen = format!("{{ bind: \"[::]:15001\", speak: transparent{more} }}");
        // What is far for the agent is an address of the gateway itself, where nothing is dialled unless allowed.
        let rig = rig.allow_networks("127.0.0.0/8, \"203.0.113.0/24\", \"2001:db8::/32\"");
        Self {
            networks,
            proxy: rig.listen(&listen).serve().await,
        }
    }

    pub(super) async fn dial(&self, port: u16) -> Raw<TcpStream> {
        self.dial_from(AGENT[0], FAR[0], port).await
    }

    async fn dial_from(&self, from: &str, to: &str, port: u16) -> Raw<TcpStream> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        let dialled = soon("a redirected connection", self.networks.dial(from, to)).await;
        Raw::new(dialled.unwrap_or_else(|error| panic!("no connection to {to}: {error}")))
    }
}

/// A way in by one redirection and one family of addresses.
struct By<const TPROXIED: bool, const V6: bool>(Gateway);

impl<const TPROXIED: bool, const V6: bool> Way for By<TPROXIED, V6> {
    const NAME: &'static str = "transparent";
    const DENIED: &'static str = "403 denied_by_policy";

    fn enter() -> Option<Networks> {
        Some(Gateway::networks(TPROXIED))
    }

    async fn start(rig: Rig, networks: Option<Networks>) -> Self {
        let address = AGENT[usize::from(V6)];
        let rig = rig.config(&format!("agents: {{ ci: {{ address: \"{address}\" }} }}"));
        let more = if TPROXIED { ", tproxy: true" } else { "" };
        Self(Gateway::serve(networks.unwrap(), rig, more).await)
    }

    fn proxy(&self) -> &Proxy {
        &self.0.proxy
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        let family = usize::from(V6);
        let raw = self.0.dial_from(AGENT[family], FAR[family], 443).await;
        Ok(self.proxy().agent.http_over(raw.io, host, http2).await)
    }

    async fn stranger(&self) -> String {
        let family = usize::from(V6);
        let raw = self.0.dial_from(STRANGER[family], FAR[family], 443).await;
        let mut http = self.proxy().agent.http_over(raw.io, "api.test", false).await;
        told(&http.reply(get("https://api.test/")).await)
    }
}

tables!(
    redirect_v4: By<false, false>,
    redirect_v6: By<false, true>,
    tproxy_v4: By<true, false>,
    tproxy_v6: By<true, true>,
);

/// A gateway with origins for TLS and plain HTTP.
pub(super) async fn ground(more: &str, rules: &[&str]) -> (Gateway, Origin, Origin) {
    let networks = Gateway::networks(false);
    let root = Root::new();
    let (api, plain) = (
        Origin::start(&root, "api.test").await,
        Origin::plain("plain.test").await,
    );
    let mut rig = Rig::new(&root)
        .reach(&api)
        .reach(&plain)
        .rule("host: [api.test, plain.test]");
    for rule in rules {
        rig = rig.rule(rule);
    }
    let rig = rig.config("limits: { head_time: 4s }");
    (Gateway::serve(networks, rig, more).await, api, plain)
}

#[tokio::test]
async fn the_name_decides_where_it_goes_and_not_the_address() {
    let (gateway, api, _) = ground("", &[]).await;
    // Somebody else's server, at the very address that the agent dials.
    let other = TcpListener::bind((FAR[0], 443)).await.unwrap();
    let raw = gateway.dial(443).await;
    let mut http = gateway.proxy.agent.http_over(raw.io, "api.test", false).await;
    assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    assert_eq!(api.seen().len(), 1);
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(100), other.accept()).await;
    assert!(waiting.is_err(), "the address that the agent chose was dialled");
    let record = gateway.proxy.record().await;
    assert_eq!(
        (&record["target"], &record["original"]),
        (&"api.test:443".into(), &"203.0.113.10:443".into())
    );
}

#[tokio::test]
async fn plain_http_goes_by_its_host_and_its_port_is_the_original() {
    let (gateway, _, plain) = ground("", &[]).await;
    let cases = [
        ("plain.test", 80, 200, "ok"),
        ("plain.test:80", 80, 200, "ok"),
        ("plain.test:8080", 80, 421, "misdirected_request"),
        ("plain.test", 9000, 421, "misdirected_request"),
        ("other.test", 80, 403, "denied_by_policy"),
    ];
    for (at, (host, port, expected, code)) in cases.into_iter().enumerate() {
        let mut raw = gateway.dial(port).await;
        raw.say(format!("GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = raw.head().await;
        assert_eq!(status(&head), expected, "{host} {port}: {head}");
        raw.bytes(content_length(&head)).await;
        drop(raw);
        let record = gateway.proxy.records(at + 1).await.remove(at);
        assert_eq!(record["code"], code, "{host} {port}: {record:#}");
    }
    assert_eq!(plain.seen().len(), 2);
}

#[tokio::test]
async fn http_2_in_the_clear_goes_by_its_authority() {
    let (gateway, _, plain) = ground("", &[]).await;
    let mut http = Http::two(gateway.dial(80).await.io).await;
    let reply = http.reply(get("http://plain.test/hello")).await;
    assert_eq!(reply.text(), "hello");
    assert_eq!(
        told(&http.reply(get("http://other.test/")).await),
        "403 denied_by_policy"
    );
    assert_eq!(plain.seen().len(), 1);
}

#[tokio::test]
async fn a_hello_without_a_name_goes_to_the_default_or_is_judged_by_its_address() {
    let (gateway, api, _) = ground(", default: \"api.test:443\"", &[]).await;
    let raw = gateway.dial(443).await;
    // An address is never named in a hello, so this is one without a name; and the leaf is for the default.
    let refused = gateway.proxy.agent.handshake(raw.io, "203.0.113.10", &[]).await;
    assert!(refused.is_err(), "the certificate was for the address");
    let hello = unnamed_hello(&gateway).await;
    assert!(hello, "no TLS session with the default's certificate");
    assert_eq!(api.connections(), 0);

    let (gateway, _, _) = ground("", &[]).await;
    let raw = gateway.dial(443).await;
    let mut http = gateway.proxy.agent.http_over(raw.io, "203.0.113.10", false).await;
    assert_eq!(
        told(&http.reply(get("https://203.0.113.10/")).await),
        "403 denied_by_policy"
    );
    assert_eq!(gateway.proxy.record().await["target"], "203.0.113.10:443");
}

/// Whether curl without SNI sees the certificate of the default.
async fn unnamed_hello(gateway: &Gateway) -> bool {
    let mut openssl = gateway.networks.command("openssl");
    openssl.args([
        "s_client",
        "-connect",
        "203.0.113.10:443",
        "-noservername",
        "-verify_hostname",
        "api.test",
    ]);
    openssl
        .args(["-verify_return_error", "-CAfile"])
        .arg(&gateway.proxy.ca)
        .stdin(std::process::Stdio::null());
    let output = tokio::process::Command::from(openssl).output().await.unwrap();
    output.status.success()
}

#[tokio::test]
async fn each_bad_beginning_is_closed_with_a_code() {
    let (gateway, api, _) = ground("", &[]).await;
    let hello = client_hello("api.test");
    let mut junk_name = hello.clone();
    let at = junk_name.windows(8).position(|eight| eight == b"api.test").unwrap();
    junk_name[at] = 0;
    let cases: [(&[u8], &str); 6] = [
        (b"\0\x01\x02junk", "not_http"),
        (b"SSH-2.0-client\r\n", "not_http"),
        (b"\x16\x03\x01\x00\x05junk!", "agent_tls_failed"),
        (&junk_name, "agent_tls_failed"),
        (&hello[..hello.len() / 2], "first_bytes_incomplete"),
        (b"", "not_http"),
    ];
    for (at, (said, code)) in cases.into_iter().enumerate() {
        let mut raw = gateway.dial(443).await;
        raw.say(said).await;
        assert_eq!(raw.rest().await.0, b"", "{said:?} was answered");
        let record = gateway.proxy.records(at + 1).await.remove(at);
        assert_eq!(
            (&record["code"], &record["way"], &record["original"]),
            (&code.into(), &"transparent".into(), &"203.0.113.10:443".into()),
            "{said:?}: {record:#}"
        );
    }
    assert_eq!(api.connections(), 0);
}

#[tokio::test]
async fn a_large_hello_in_one_byte_pieces_is_judged_as_any_other() {
    let (gateway, api, _) = ground("", &[]).await;
    for (name, expected) in [("api.test", "200 "), ("other.test", "403 denied_by_policy")] {
        let raw = gateway.dial(443).await;
        raw.io.set_nodelay(true).unwrap();
        let slow = OneByOne(raw.io);
        let alpn: Vec<String> = (0..70)
            .map(|n| format!("{n:0>250}"))
            .chain(["http/1.1".to_owned()])
            .collect();
        let alpn: Vec<&str> = alpn.iter().map(String::as_str).collect();
        let tls = gateway.proxy.agent.handshake(slow, name, &alpn).await.unwrap();
        let mut http = Http::one(tls).await;
        let reply = http.reply(get(&format!("https://{name}/hello"))).await;
        assert_eq!(told(&reply), expected);
    }
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_passes_only_by_a_tunnel_to_its_address() {
    let (gateway, _, _) = ground("", &["host: \"203.0.113.10:25\", tunnel: true"]).await;
    let mail = TcpListener::bind((FAR[0], 25)).await.unwrap();
    // The server speaks first, and so does the client.
    for first in [&b""[..], b"\0binary"] {
        let mut raw = gateway.dial(25).await;
        raw.say(first).await;
        let (mut server, _) = soon("the tunnel", mail.accept()).await.unwrap();
        server.write_all(b"220 hello\r\n").await.unwrap();
        assert_eq!(raw.bytes(11).await, b"220 hello\r\n");
        let mut got = vec![0; first.len()];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, first);
    }
    let records = gateway.proxy.records(2).await;
    assert!(
        records
            .iter()
            .all(|one| one["mode"] == "tunnel" && one["target"] == "203.0.113.10:25"),
        "{records:#?}"
    );
}

#[tokio::test]
async fn a_tunnel_rule_by_name_passes_tls_unread() {
    let networks = Gateway::networks(false);
    let root = Root::new();
    let pinned = Origin::start(&root, "pinned.test").await;
    let rig = Rig::new(&root).reach(&pinned).rule("host: pinned.test, tunnel: true");
    let gateway = Gateway::serve(networks, rig, "").await;
    let raw = gateway.dial(443).await;
    // Only the origin's own root vouches for what it shows.
    let pinning = crate::rig::agent::Agent::new(gateway.proxy.address, &root.pem());
    let mut http = pinning.http_over(raw.io, "pinned.test", true).await;
    assert_eq!(http.reply(get("https://pinned.test/hello")).await.text(), "hello");
}

#[tokio::test]
async fn a_connection_to_the_listener_itself_is_refused() {
    for tproxy in [false, true] {
        let networks = Gateway::networks(tproxy);
        let rig = Rig::new(&Root::new()).rule("host: \"*\"");
        let more = if tproxy { ", tproxy: true" } else { "" };
        let gateway = Gateway::serve(networks, rig, more).await;
        let mut raw = gateway.dial_from(AGENT[0], GATE[0], 15001).await;
        raw.say("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        raw.rest().await;
        assert_eq!(gateway.proxy.record().await["code"], "not_redirected");
    }
}

#[tokio::test]
async fn keyferrys_own_connections_sent_back_to_it_are_told_as_a_loop() {
    let networks = Gateway::networks(false);
    networks.nft(
        "table inet own { chain output { type nat hook output priority -100; \
         ip daddr 203.0.113.10 tcp dport 443 redirect to :15001; }\n }",
    );
    let root = Root::new();
    let rig = Rig::new(&root)
        .reach_as("far.test", "203.0.113.10:443".parse().unwrap())
        .rule("host: far.test");
    let gateway = Gateway::serve(networks, rig, "").await;
    told_as_a_loop(&gateway).await;
}

/// What goes to `far.test` comes back to Keyferry, and is on record as a loop.
async fn told_as_a_loop(gateway: &Gateway) {
    let raw = gateway.dial(443).await;
    let mut http = gateway.proxy.agent.http_over(raw.io, "far.test", false).await;
    assert_eq!(http.reply(get("https://far.test/")).await.status, 502);
    let records = gateway.proxy.records(2).await;
    assert_eq!(records.len(), 2, "{records:#?}");
    assert!(records.iter().any(|one| one["code"] == "loop_detected"), "{records:#?}");
}

#[tokio::test]
async fn keyferrys_own_connections_that_tproxy_sends_back_are_told_as_a_loop() {
    for (family, far, to) in [
        ("ip", FAR[0], "203.0.113.10:443"),
        ("ip6", FAR[1], "[2001:db8::10]:443"),
    ] {
        let networks = Gateway::networks(true);
        // What goes to an address of the gateway's own comes in by loopback, where TPROXY takes it too.
        networks.nft(&format!(
            "table inet own {{ chain prerouting {{ type filter hook prerouting priority mangle; \
             iifname lo {family} daddr {far} tcp dport 443 tproxy {family} to :15001 meta mark set 1 accept; }}\n }}"
        ));
        let rig = Rig::new(&Root::new())
            .reach_as("far.test", to.parse().unwrap())
            .rule("host: far.test");
        let gateway = Gateway::serve(networks, rig, ", tproxy: true").await;
        told_as_a_loop(&gateway).await;
    }
}

#[tokio::test]
async fn a_name_that_leads_back_to_keyferry_is_told_as_a_loop() {
    let networks = Gateway::networks(false);
    let rig = Rig::new(&Root::new())
        .reach_as("self.test", "127.0.0.1:15001".parse().unwrap())
        .rule("host: self.test");
    let gateway = Gateway::serve(networks, rig, "").await;
    let raw = gateway.dial(443).await;
    let mut http = gateway.proxy.agent.http_over(raw.io, "self.test", false).await;
    assert_eq!(told(&http.reply(get("https://self.test/")).await), "508 loop_detected");
}

#[tokio::test]
async fn clients_that_know_of_no_proxy_come_through() {
    let networks = Gateway::networks(false);
    networks.hosts(&["api.test"]);
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&api)
        .secret("API_KEY", KEY)
        .rule("host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }]");
    let gateway = Gateway::serve(networks, rig, "").await;
    let python = tools::python();
    let node = "fetch('https://api.test/node').then(r => r.text()).then(t => console.log(t))";
    let urllib = "import urllib.request as u; print(u.urlopen('https://api.test/python').read().decode())";
    let cases: [(&str, &[&str], &str); 4] = [
        ("curl", &["-sS", "https://api.test/curl"], "CURL_CA_BUNDLE"),
        ("node", &["-e", node], "NODE_EXTRA_CA_CERTS"),
        (python.to_str().unwrap(), &["-c", urllib], "SSL_CERT_FILE"),
        ("git", &["ls-remote", "https://api.test/git"], "GIT_SSL_CAINFO"),
    ];
    for (program, args, trust) in cases {
        let name = program.rsplit('/').next().unwrap();
        let mut command = gateway.networks.command(name);
        bare(&mut command, gateway.proxy.rig.dir());
        command.env(trust, &gateway.proxy.ca).args(args);
        let output = tokio::process::Command::from(command).output().await.unwrap();
        let seen = api.saw(name, |one| one.target.starts_with(&format!("/{name}"))).await;
        assert_eq!(seen.all("x-api-key"), [KEY], "{name}: {output:?}");
    }
}

#[tokio::test]
async fn the_page_about_redirection_works_as_it_stands() {
    let networks = Networks::enter();
    networks.hosts(&["api.github.com"]);
    let root = Root::new();
    let github = Origin::start(&root, "api.github.com").await;
    let rule = pages::entry("transparent.md", "rules");
    let rig = Rig::new(&root)
        .reach(&github)
        .config(&pages::line("transparent.md", "agents:"))
        .rule(rule.trim_matches(['{', '}']))
        .listen(&pages::entry("transparent.md", "listen"));
    let proxy = rig.serve().await;
    // The command is the agent's, and so runs in its network.
    let inside = networks.shell("curl");
    let swapped = [("curl", inside.as_str())];
    let printed = pages::run("transparent.md", &proxy, &swapped, &[]).await;
    assert!(printed.last().unwrap().contains("\"/zen\""), "{printed:?}");
    let record = proxy.record().await;
    assert_eq!(
        (&record["agent"], &record["way"]),
        (&"ci".into(), &"transparent".into())
    );
}

#[tokio::test]
async fn the_page_about_tproxy_works_as_it_stands() {
    let networks = Networks::enter();
    networks.hosts(&["api.github.com"]);
    networks.nft(&pages::block("transparent.md", "nft"));
    let routes = pages::block("transparent.md", "sh");
    let made = std::process::Command::new("/bin/sh").args(["-ec", &routes]).status();
    assert!(made.unwrap().success());
    let root = Root::new();
    let github = Origin::start(&root, "api.github.com").await;
    let rig = Rig::new(&root).reach(&github).rule("host: api.github.com");
    let gateway = Gateway::serve(networks, rig, ", tproxy: true").await;
    for family in ["-4", "-6"] {
        let mut curl = gateway.networks.command("curl");
        bare(&mut curl, gateway.proxy.rig.dir());
        curl.args(["-sS", family, "https://api.github.com/zen", "--cacert"])
            .arg(&gateway.proxy.ca);
        let output = tokio::process::Command::from(curl).output().await.unwrap();
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("\"/zen\""),
            "{family}: {output:?}"
        );
    }
}

/// The ClientHello of a client that asks for `name`.
pub(super) fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut sent = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sent).unwrap();
    }
    sent
}

/// A stream that hands on every byte by itself.
struct OneByOne(TcpStream);

impl AsyncRead for OneByOne {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for OneByOne {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
