//! SOCKS5: on its own port, on the proxy's, over TLS; what it is told; and real clients.

use super::table::tables;
use super::{TOKEN, Way, pages};
use crate::rig::agent::{Agent, Http, Raw, content_length, status};
use crate::rig::netns::Networks;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::tools;
use std::process::Command;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// Greets, logs in if there is a `token`, and asks for `host`.
async fn socks<I>(raw: &mut Raw<I>, token: Option<&str>, host: &str, port: u16) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    raw.say(if token.is_some() { &[5, 2, 0, 2][..] } else { &[5, 1, 0] })
        .await;
    let chosen = raw.bytes(2).await;
    match (chosen.as_slice(), token) {
        ([5, 0], _) => {}
        ([5, 2], Some(token)) => {
            let length = u8::try_from(token.len()).unwrap();
            raw.say([&[1, 2, b'c', b'i', length], token.as_bytes()].concat()).await;
            let status = raw.bytes(2).await;
            if status != [1, 0] {
                return Err(format!("login {status:?}"));
            }
        }
        (chosen, _) => return Err(format!("method {chosen:?}")),
    }
    raw.say(named(host.as_bytes(), port)).await;
    match raw.bytes(10).await.as_slice() {
        [5, 0, 0, 1, ..] => Ok(()),
        [5, code, ..] => Err(format!("reply {code}")),
        other => Err(format!("{other:?}")),
    }
}

/// A CONNECT to a name.
fn named(name: &[u8], port: u16) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[5, 1, 0, 3, length], name, &port.to_be_bytes()].concat()
}

/// On a port of its own, or TLS over that.
struct Socks<const TLS: bool>(Proxy);

impl<const TLS: bool> Socks<TLS> {
    async fn asking(&self, token: Option<&str>, host: &str, http2: bool) -> Result<Http, String> {
        let agent = &self.0.agent;
        let mut raw = agent.dial().await;
        if TLS {
            let mut outer = Raw::new(agent.handshake(raw.io, "127.0.0.1", &[]).await.unwrap());
            socks(&mut outer, token, host, 443).await?;
            return Ok(agent.http_over(outer.io, host, http2).await);
        }
        socks(&mut raw, token, host, 443).await?;
        Ok(agent.http_over(raw.io, host, http2).await)
    }
}

impl<const TLS: bool> Way for Socks<TLS> {
    const NAME: &'static str = "socks";
    const DENIED: &'static str = "reply 2";

    async fn start(rig: Rig, _: Option<Networks>) -> Self {
        let rig = rig.config("agents: { ci: { token: ci_token } }");
        let listen = format!("{{ bind: \"127.0.0.1:0\", speak: socks, tls: {TLS} }}");
        Self(rig.listen(&listen).serve().await)
    }

    fn proxy(&self) -> &Proxy {
        &self.0
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        self.asking(Some(TOKEN), host, http2).await
    }

    async fn stranger(&self) -> String {
        self.asking(None, "api.test", false).await.err().unwrap()
    }
}

tables!(plain: Socks<false>, tls: Socks<true>);

/// A proxy with a rule for `api.test`, and for a tunnel to `raw.test`.
async fn ground(listen: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .reach_as("gone.test", "127.0.0.1:9".parse().unwrap());
    let rig = rig
        .listen(listen)
        .rule("host: [api.test, gone.test, nowhere.invalid]")
        .rule("host: [\"raw.test\", \"raw.test:25\", \"closed.test:1\"], tunnel: true");
    (origin, rig.serve().await)
}

/// A proxy that wants the login of `ci`.
async fn with_a_login(root: &Root, origin: &Origin) -> Socks<false> {
    let rig = Rig::new(root).reach(origin);
    Socks::start(rig.secret("CI_TOKEN", TOKEN).rule("host: api.test"), None).await
}

const SOCKS: &str = "{ bind: \"127.0.0.1:0\", speak: socks }";

#[tokio::test]
async fn the_proxy_port_speaks_socks_too_and_over_tls() {
    for (listen, tls) in [("127.0.0.1:0", false), ("{ bind: \"127.0.0.1:0\", tls: true }", true)] {
        let (origin, proxy) = ground(listen).await;
        let agent = &proxy.agent;
        let tcp = agent.dial().await.io;
        let reply = if tls {
            let outer = agent.handshake(tcp, "127.0.0.1", &[]).await.unwrap();
            fetch(agent, Raw::new(outer)).await
        } else {
            fetch(agent, Raw::new(tcp)).await
        };
        assert_eq!(reply, "hello");
        assert_eq!(origin.seen().len(), 1);
    }
}

async fn fetch<I>(agent: &Agent, mut raw: Raw<I>) -> String
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    socks(&mut raw, None, "api.test", 443).await.unwrap();
    let mut http = agent.http_over(raw.io, "api.test", false).await;
    http.reply(crate::rig::agent::get("https://api.test/hello"))
        .await
        .text()
}

#[tokio::test]
async fn a_wrong_password_is_told_and_leads_nowhere() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let way = with_a_login(&root, &origin).await;
    for wrong in ["", "wrong", &TOKEN[1..]] {
        let mut raw = way.0.agent.dial().await;
        assert_eq!(
            socks(&mut raw, Some(wrong), "api.test", 443).await,
            Err("login [1, 1]".to_owned())
        );
        assert_eq!(raw.rest().await.0, b"");
    }
    assert_eq!(origin.connections(), 0);
    let records = way.0.records(3).await;
    assert!(records.iter().all(|one| one["code"] == "agent_unknown"), "{records:#?}");
}

#[tokio::test]
async fn each_bad_message_gets_its_answer_and_a_code() {
    let (origin, proxy) = ground(SOCKS).await;
    let v4 = [127, 0, 0, 1, 0, 80];
    let ask = |command: u8, kind: u8, rest: &[u8]| [&[5, command, 0, kind], rest].concat();
    let cases: Vec<(Vec<u8>, &[u8], &str)> = vec![
        (
            vec![4, 1, 0, 80, 127, 0, 0, 1, 0],
            &[0, 91, 0, 0, 0, 0, 0, 0],
            "method_refused",
        ),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[5, 0xff], "malformed_request"),
        (vec![5, 0], &[5, 0xff], "malformed_request"),
        (vec![5, 1, 1], &[5, 0xff], "malformed_request"),
        (ask(2, 1, &v4), &[5, 7], "method_refused"),
        (ask(3, 1, &v4), &[5, 7], "method_refused"),
        (ask(1, 9, &v4), &[5, 8], "malformed_request"),
        (named(b"evil.test\0.api.test", 443), &[5, 1], "malformed_request"),
        (named(b"api.test\r\n", 443), &[5, 1], "malformed_request"),
        (named(b"", 443), &[5, 1], "malformed_request"),
        (named(b"api.test", 0), &[5, 1], "malformed_request"),
        (ask(1, 1, &v4), &[5, 2], "denied_by_policy"),
        (named(b"other.test", 443), &[5, 2], "denied_by_policy"),
        (named(b"raw.test", 25), &[5, 4], "upstream_unresolved"),
        (named(b"closed.test", 1), &[5, 4], "upstream_unresolved"),
    ];
    for (at, (said, answer, code)) in cases.into_iter().enumerate() {
        let mut raw = proxy.agent.dial().await;
        // A request follows a greeting that goes well.
        if said.starts_with(&[5]) && said.len() > 3 {
            raw.say([5, 1, 0]).await;
            assert_eq!(raw.bytes(2).await, [5, 0]);
        }
        raw.say(&said).await;
        let got = raw.bytes(answer.len()).await;
        assert_eq!(got, answer, "{said:?}");
        let record = proxy.records(at + 1).await.remove(at);
        assert_eq!(record["code"], code, "{said:?}: {record:#}");
        assert_eq!(record["way"], "socks", "{record:#}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn what_comes_in_one_byte_pieces_is_read_as_a_whole() {
    let (_, proxy) = ground(SOCKS).await;
    let mut raw = proxy.agent.dial().await;
    raw.io.set_nodelay(true).unwrap();
    for byte in [5, 2, 0, 1] {
        raw.say([byte]).await;
    }
    assert_eq!(raw.bytes(2).await, [5, 0]);
    for byte in named(b"api.test", 443) {
        raw.say([byte]).await;
    }
    assert_eq!(raw.bytes(10).await[..2], [5, 0]);
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_answers_is_served() {
    let (_, proxy) = ground(SOCKS).await;
    let mut raw = proxy.agent.dial().await;
    raw.say([&[5, 1, 0][..], &named(b"api.test", 80)].concat()).await;
    raw.bytes(12).await;
    raw.say("GET /hello HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    // The origin speaks TLS only, so it is reached, and fails there.
    assert_eq!(status(&raw.head().await), 502);
}

#[tokio::test]
async fn plain_http_inside_is_judged_by_host_and_junk_is_refused() {
    let root = Root::new();
    let plain = Origin::plain("plain.test").await;
    let proxy = Rig::new(&root)
        .reach(&plain)
        .rule("host: plain.test")
        .listen(SOCKS)
        .serve()
        .await;
    let mut raw = proxy.agent.dial().await;
    socks(&mut raw, None, "plain.test", 80).await.unwrap();
    for (host, expected) in [("plain.test", 200), ("other.test", 421)] {
        raw.say(format!("GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = raw.head().await;
        assert_eq!(status(&head), expected, "{head}");
        raw.bytes(content_length(&head)).await;
    }
    let mut raw = proxy.agent.dial().await;
    socks(&mut raw, None, "plain.test", 80).await.unwrap();
    raw.say("\0\x01junk").await;
    assert_eq!(raw.rest().await.0, b"");
    let records = proxy.records(3).await;
    assert_eq!(records[2]["code"], "not_http", "{records:#?}");
    assert_eq!(plain.seen().len(), 1);
}

#[tokio::test]
async fn a_tunnel_passes_what_a_server_says_first() {
    let root = Root::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new(&root).reach_as("mail.test", listener.local_addr().unwrap());
    let proxy = rig
        .rule("host: \"mail.test:25\", tunnel: true")
        .listen(SOCKS)
        .serve()
        .await;
    let mut raw = proxy.agent.dial().await;
    socks(&mut raw, None, "mail.test", 25).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"220 hello\r\n").await.unwrap();
    assert_eq!(raw.bytes(11).await, b"220 hello\r\n");
    drop((raw, server));
    let record = proxy.record().await;
    assert_eq!((&record["mode"], &record["way"]), (&"tunnel".into(), &"socks".into()));
}

#[tokio::test]
async fn half_a_greeting_costs_no_more_than_its_time() {
    let root = Root::new();
    let rig = Rig::new(&root)
        .rule("host: api.test")
        .config("limits: { head_time: 300ms }");
    let proxy = rig.listen(SOCKS).serve().await;
    for said in [&b""[..], &[5], &[5, 3, 0], &[5, 1, 0, 5, 1, 0, 3, 200, b'a']] {
        let mut raw = proxy.agent.dial().await;
        raw.say(said).await;
        raw.rest().await;
    }
    assert_eq!(proxy.rig.audit().len(), 0, "nobody asked for anything");
}

/// A client in a bare environment; its output.
async fn client(proxy: &Proxy, program: &str, args: &[&str]) -> std::process::Output {
    let mut command = Command::new(tools::need(program));
    bare(&mut command, proxy.rig.dir());
    command
        .args(args)
        .env("CURL_CA_BUNDLE", &proxy.ca)
        .current_dir(proxy.rig.dir());
    tokio::process::Command::from(command).output().await.unwrap()
}

#[tokio::test]
async fn curl_comes_in_by_socks5_hostname_with_a_login() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let way = with_a_login(&root, &origin).await;
    let address = way.0.address.to_string();
    let login = format!("ci:{TOKEN}");
    let args = [
        "-sS",
        "--socks5-hostname",
        &address,
        "--proxy-user",
        &login,
        "https://api.test/hello",
    ];
    let output = client(&way.0, "curl", &args).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{output:?}");
    let args = [&args[..5], &["https://other.test/"]].concat();
    let output = client(&way.0, "curl", &args).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("(2)"), "{told}");
    let args = ["-sS", "--socks5-hostname", &address, "https://api.test/hello"];
    let output = client(&way.0, "curl", &args).await;
    assert_eq!(output.status.code(), Some(97), "{output:?}");
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn proxychains_brings_in_a_client_that_knows_no_proxy() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let way = with_a_login(&root, &origin).await;
    let config = format!(
        "strict_chain\nproxy_dns\nquiet_mode\n[ProxyList]\nsocks5 127.0.0.1 {} ci {TOKEN}\n",
        way.0.address.port()
    );
    std::fs::write(way.0.rig.dir().join("chains.conf"), config).unwrap();
    let args = ["-f", "chains.conf", "curl", "-sS", "https://api.test/hello"];
    let output = client(&way.0, "proxychains4", &args).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{output:?}");
    let record = way.0.record().await;
    assert_eq!((&record["way"], &record["agent"]), (&"socks".into(), &"ci".into()));
}

#[tokio::test]
async fn a_taken_port_is_told_and_nothing_starts() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let root = Root::new();
    let rig = Rig::new(&root).listen(&format!("127.0.0.1:0, {{ bind: \"{address}\", speak: socks }}"));
    let (status, log) = rig.refuses().await;
    assert!(!status.success());
    let told = format!("cannot listen on {address}: the address is in use");
    assert!(log.contains(&told), "{log}");
}

#[tokio::test]
async fn the_commands_on_the_page_about_socks_work() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.github.com").await;
    let listen = pages::entry("socks.md", "listen").replace("127.0.0.1:1080", "\"127.0.0.1:0\"");
    let agents = [pages::line("socks.md", "secrets:"), pages::line("socks.md", "agents:")];
    let rule = pages::entry("socks.md", "rules");
    let rig = Rig::new(&root)
        .reach(&origin)
        .listen(&listen)
        .env("CI_TOKEN", TOKEN)
        .config(&agents.join("\n"))
        .rule(rule.trim_matches(['{', '}']));
    let proxy = rig.serve().await;
    let port = proxy.address.port();
    let (at, in_chain) = (proxy.address.to_string(), format!("127.0.0.1 {port}"));
    let swapped = [("127.0.0.1:1080", at.as_str()), ("127.0.0.1 1080", &in_chain)];
    let printed = pages::run("socks.md", &proxy, &swapped, &[("CI_TOKEN", TOKEN)]).await;
    assert_eq!(
        printed.iter().filter(|text| text.contains("\"/zen\"")).count(),
        3,
        "{printed:?}"
    );
}
