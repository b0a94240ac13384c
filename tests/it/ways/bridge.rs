//! A unix socket, reached through `keyferry bridge` as from a sandbox that has no network.

use super::table::tables;
use super::{TOKEN, Way, connect, on_a_unix_socket};
use crate::pages;
use crate::rig::agent::{Http, Raw, status};
use crate::rig::netns::Networks;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::running::Running;
use crate::rig::{eventually, soon, tools};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};

/// A bridge to the proxy's socket, and where it listens.
struct Bridge {
    proxy: Proxy,
    near: SocketAddr,
    child: Running,
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(tools::KEYFERRY);
    bare(&mut command, home);
    command.arg("bridge").stdin(Stdio::null());
    command
}

/// Starts a bridge to `far` and waits until it listens.
async fn bridge(far: &Path, more: &[&str]) -> (Running, SocketAddr) {
    let mut command = command(Path::new("/nonexistent"));
    command
        .args(["--listen", "127.0.0.1:0", "--to"])
        .arg(format!("unix:{}", far.display()))
        .args(more);
    let child = Running::start(command);
    let near = eventually("the bridge", || {
        let log = child.log();
        let rest = log.lines().find_map(|line| line.strip_prefix("listening on "))?;
        rest.split(' ').next()?.parse().ok()
    })
    .await;
    (child, near)
}

impl Way for Bridge {
    const NAME: &'static str = "proxy";
    const DENIED: &'static str = "403 denied_by_policy";

    async fn start(rig: Rig, _: Option<Networks>) -> Self {
        let proxy = on_a_unix_socket(rig).await;
        let (child, near) = bridge(&proxy.rig.dir().join("p.sock"), &[]).await;
        Self { proxy, near, child }
    }

    fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        let io = connect(TcpStream::connect(self.near).await.unwrap(), host, None).await?;
        Ok(self.proxy.agent.http_over(io, host, http2).await)
    }

    // Past the bridge, by TCP, there is no uid to be known by.
    async fn stranger(&self) -> String {
        connect(self.proxy.agent.dial().await.io, "api.test", None)
            .await
            .err()
            .unwrap()
    }
}

tables!(bridge_table: Bridge);

#[tokio::test]
async fn a_bridge_outlives_the_proxy_and_waits_for_it_to_come_back() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("CI_TOKEN", TOKEN)
        .rule("host: api.test");
    let mut way = Bridge::start(rig, None).await;
    let reply = |mut http: Http| async move { http.reply(crate::rig::agent::get("https://api.test/hello")).await };
    assert_eq!(reply(way.http("api.test", true).await.unwrap()).await.text(), "hello");
    way.proxy.child.signal("TERM");
    assert!(way.proxy.child.ended().await.success());
    // Asked while nobody is there, answered once somebody is.
    let mut early = Raw::new(TcpStream::connect(way.near).await.unwrap());
    early
        .say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    let again = Running::start(way.proxy.rig.command(&["serve"]));
    assert_eq!(status(&early.head().await), 200, "{}\n{}", again.log(), way.child.log());
    assert_eq!(reply(way.http("api.test", false).await.unwrap()).await.text(), "hello");
    way.child.signal("TERM");
    assert!(way.child.ended().await.success());
}

/// A bridge to a socket of the test's own.
async fn alone(more: &[&str]) -> (tempfile::TempDir, UnixListener, Running, SocketAddr) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("far")).unwrap();
    let (child, near) = bridge(&dir.path().join("far"), more).await;
    (dir, listener, child, near)
}

#[tokio::test]
async fn an_end_passes_as_an_end_and_a_slow_reader_holds_up_the_writer() {
    let (_dir, listener, _child, near) = alone(&[]).await;
    let mut near = TcpStream::connect(near).await.unwrap();
    let (mut far, _) = soon("the bridge's connection", listener.accept()).await.unwrap();
    near.write_all(b"ask").await.unwrap();
    near.shutdown().await.unwrap();
    let mut asked = Vec::new();
    soon("the end", far.read_to_end(&mut asked)).await.unwrap();
    assert_eq!(asked, b"ask");
    // The other half is still open, and takes no more than fits into buffers while nobody reads.
    let piece = vec![7; 64 * 1024];
    let mut sent = 0_usize;
    while let Ok(Ok(count)) = tokio::time::timeout(std::time::Duration::from_millis(500), far.write(&piece)).await {
        sent += count;
        assert!(sent < 64 * 1024 * 1024, "nothing holds up the writer");
    }
    let mut got = vec![0; sent];
    soon("what was held up", near.read_exact(&mut got)).await.unwrap();
    far.write_all(b"end").await.unwrap();
    drop(far);
    let mut rest = Vec::new();
    soon("the end", near.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"end");
}

#[tokio::test]
async fn no_more_connections_pass_than_it_may_have() {
    let (_dir, listener, _child, near) = alone(&["--connections", "2"]).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(near).await.unwrap());
    }
    let first = soon("a connection", listener.accept()).await.unwrap();
    let _second = soon("a connection", listener.accept()).await.unwrap();
    let third = tokio::time::timeout(std::time::Duration::from_millis(300), listener.accept()).await;
    assert!(third.is_err(), "a third one passed");
    drop((first, open.remove(0)));
    soon("the third connection", listener.accept()).await.unwrap();
}

async fn run(far: &str, script: &str) -> Output {
    let mut command = command(Path::new("/nonexistent"));
    command.args(["--listen", "127.0.0.1:0", "--to", far, "--", "sh", "-c", script]);
    soon("the command", tokio::process::Command::from(command).output())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_command_behind_it_has_the_proxy_in_its_environment_and_its_own_exit() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = on_a_unix_socket(Rig::new(&root).reach(&origin).rule("host: api.test")).await;
    let far = format!("unix:{}/p.sock", proxy.rig.dir().display());
    let script = format!(
        "curl -sS --cacert {} https://api.test/hello; exit 7",
        proxy.ca.display()
    );
    let output = run(&far, &script).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{output:?}");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(run(&far, "kill -TERM $$").await.status.code(), Some(128 + 15));
    assert_eq!(run(&far, "echo $NO_PROXY").await.stdout, b"localhost,127.0.0.1,::1\n");
    // A signal reaches the command, whose end is the bridge's.
    let mut command = command(Path::new("/nonexistent"));
    command.args(["--listen", "127.0.0.1:0", "--to", &far, "--", "sh", "-c"]);
    command.arg("trap 'exit 9' TERM; echo ready >&2; while :; do sleep 0.1; done");
    let mut child = Running::start(command);
    eventually("the command", || child.log().contains("ready").then_some(())).await;
    child.signal("TERM");
    assert_eq!(child.ended().await.code(), Some(9));
}

#[tokio::test]
async fn a_token_beside_the_bridges_own_address_stays_and_one_for_another_proxy_goes() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("CI_TOKEN", TOKEN)
        .rule("host: api.test, agents: [ci]");
    let socket = rig.dir().join("p.sock");
    let listen = format!("127.0.0.1:0, {{ bind: \"unix:{}\" }}", socket.display());
    let proxy = rig
        .listen(&listen)
        .config("agents: { ci: { token: ci_token } }")
        .serve()
        .await;
    let near = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ask = format!(
        "curl -sS -w '%{{http_connect}}' --cacert {} https://api.test/hello; env",
        proxy.ca.display()
    );
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
    for (named, answer) in [(near, "hello200"), (elsewhere, "407")] {
        for name in ["HTTPS_PROXY", "https_proxy"] {
            let mut command = command(Path::new("/nonexistent"));
            command.env(name, format!("http://ci:{TOKEN}@{named}"));
            command.args(["--listen", &near.to_string(), "--to"]);
            command
                .arg(format!("unix:{}", socket.display()))
                .args(["--", "sh", "-c", &ask]);
            let output = soon("the command", tokio::process::Command::from(command).output())
                .await
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.starts_with(answer), "{name} {named}: {said}");
            assert_eq!(said.contains(TOKEN), named == near, "{name} {named}: {said}");
        }
    }
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_told_and_nothing_starts() {
    let output = run("unix:/nonexistent/proxy.sock", "echo started").await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(125), &b""[..]));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("unix:/nonexistent/proxy.sock") && told.contains("is the socket mounted"),
        "{told}"
    );
    for wrong in ["tcp:127.0.0.1:1", "127.0.0.1:1", "vsock:1"] {
        let output = run(wrong, "true").await;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("unix:/run/keyferry/proxy.sock"), "{told}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _listener = TcpListener::bind(taken).unwrap();
    let mut command = command(Path::new("/nonexistent"));
    command.args(["--listen", &taken.to_string(), "--to", "unix:/x"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the address is in use"));
}

#[tokio::test]
async fn the_page_on_bridges_can_be_followed() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.example.com").await;
    let rig = Rig::new(&root);
    let config = pages::block("bridge.md", "yaml");
    let uid = rustix::process::getuid().as_raw();
    let socket = rig.dir().join("p.sock");
    let rig = rig
        .reach(&origin)
        .listen(&format!(
            "127.0.0.1:0, {{ bind: \"unix:{}\", mode: \"0660\" }}",
            socket.display()
        ))
        .config(&format!("agents: {{ sandbox: {{ peer_uid: {uid} }} }}"))
        .rule(
            config
                .lines()
                .last()
                .unwrap()
                .trim()
                .trim_start_matches("- {")
                .trim_end_matches('}'),
        );
    let proxy = rig.serve().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let changes = [
        ("/run/keyferry/proxy.sock", socket.to_str().unwrap()),
        ("--listen 127.0.0.1:3128", &format!("--listen 127.0.0.1:{port}")),
        ("http://127.0.0.1:3128", &format!("http://127.0.0.1:{port}")),
        ("bridge --to", "bridge --listen 127.0.0.1:0 --to"),
        ("\"$CA\"", proxy.ca.to_str().unwrap()),
    ];
    let output = pages::run(&proxy.rig, "bridge.md", &proxy.rig.yaml(), &changes).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello");
    assert_eq!(origin.seen().len(), 2);
    let records = proxy.records(2).await;
    assert!(records.iter().all(|record| record["agent"] == "sandbox"), "{records:?}");
}
