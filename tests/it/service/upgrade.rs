//! A new process takes over: nobody is refused, nothing is cut, and the old one goes.

use super::{Followers, ground, is_there, replace_program, upgrade};
use crate::rig::agent::{Agent, Http, Raw, get, status};
use crate::rig::proxy::{Proxy, bare};
use crate::rig::{eventually, soon, tools};
use http_body_util::BodyExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// Clients that connect, ask and leave, again and again.
struct Crowd {
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Crowd {
    /// New connections over TCP, over the unix socket, and by curl, all at once.
    fn gather(proxy: &Proxy) -> Self {
        let mut crowd = Self {
            over: Arc::default(),
            served: Arc::default(),
            clients: Vec::new(),
        };
        for http2 in [false, true, false] {
            let (agent, address) = (proxy.agent.clone(), proxy.address);
            crowd.join(move || {
                let agent = agent.clone();
                async move { ask(&agent, TcpStream::connect(address).await, http2).await }
            });
        }
        let (agent, path) = (proxy.agent.clone(), proxy.rig.dir().join("p.sock"));
        crowd.join(move || {
            let (agent, path) = (agent.clone(), path.clone());
            async move { ask(&agent, UnixStream::connect(path).await, false).await }
        });
        let (ca, home, address) = (proxy.ca.clone(), proxy.rig.dir().to_owned(), proxy.address);
        crowd.join(move || curl(ca.clone(), home.clone(), format!("http://{address}")));
        crowd
    }

    fn join<F>(&mut self, once: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (over, served) = (self.over.clone(), self.served.clone());
        self.clients.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                once().await?;
                served.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }));
    }

    /// Waits until so many more were served.
    async fn more(&self, count: usize) {
        let until = self.served.load(Ordering::SeqCst) + count;
        eventually("the clients", || {
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            (failed || self.served.load(Ordering::SeqCst) >= until).then_some(())
        })
        .await;
    }

    /// Ends it: every single exchange must have gone well.
    async fn leave(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        for client in self.clients {
            soon("a client", client).await.unwrap().unwrap();
        }
        self.served.load(Ordering::SeqCst)
    }
}

/// One exchange on a connection of its own, from the CONNECT to the last byte.
async fn ask<I>(agent: &Agent, dialled: std::io::Result<I>, http2: bool) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut raw = Raw::new(dialled.map_err(|error| format!("connecting: {error}"))?);
    raw.say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    let head = raw.head().await;
    if status(&head) != 200 {
        return Err(format!("CONNECT: `{head}`"));
    }
    let alpn: &[&str] = if http2 { &["h2"] } else { &["http/1.1"] };
    let tls = agent.handshake(raw.io, "api.test", alpn).await;
    let tls = tls.map_err(|error| format!("TLS: {error}"))?;
    let mut http = if http2 {
        Http::two(tls).await
    } else {
        Http::one(tls).await
    };
    let answer = http.send(get("https://api.test/hello")).await;
    let body = answer
        .map_err(|error| format!("asking: {error}"))?
        .into_body()
        .collect();
    let body = body.await.map_err(|error| format!("reading: {error}"))?.to_bytes();
    (body == "hello").then_some(()).ok_or_else(|| format!("{body:?}"))
}

async fn curl(ca: PathBuf, home: PathBuf, proxy: String) -> Result<(), String> {
    let mut command = Command::new(tools::need("curl"));
    bare(&mut command, &home);
    command
        .args(["-sS", "--proxy", &proxy, "https://api.test/hello", "--cacert"])
        .arg(ca);
    let output = tokio::process::Command::from(command).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    (output.stdout == b"hello")
        .then_some(())
        .ok_or_else(|| format!("curl: {said}"))
}

#[tokio::test]
async fn an_upgrade_refuses_no_connection_and_ends_what_was_begun_where_it_began() {
    let (origin, rig) = ground().await;
    let listen = format!(
        "127.0.0.1:0, {{ bind: \"unix:{}/p.sock\", mode: \"0660\" }}",
        rig.dir().display()
    );
    let mut proxy = rig.listen(&listen).serve().await;
    let followers = Followers::default();
    let old = proxy.child.id();
    let mut stream = proxy.agent.h1("api.test").await;
    let mut begun = stream
        .send(get("https://api.test/gated?n=3"))
        .await
        .unwrap()
        .into_body();
    origin.gate.add_permits(1);
    assert_eq!(begun.frame().await.unwrap().unwrap().into_data().unwrap(), "0;");

    let crowd = Crowd::gather(&proxy);
    crowd.more(20).await;
    replace_program(
        &proxy,
        &format!("echo a newer version >&2; exec {} \"$@\"", tools::KEYFERRY),
    );
    let mut pids = vec![old];
    for _ in 0..3 {
        pids.push(followers.next(&proxy).await);
        crowd.more(20).await;
    }
    let served = crowd.leave().await;
    assert!(served > 80, "only {served} exchanges in all that time");
    assert!(proxy.child.log().contains("a newer version"), "{}", proxy.child.log());
    pids.dedup();
    assert_eq!(pids.len(), 4, "{pids:?}");

    // The first one still has its stream; those between had nothing left to do.
    assert!(is_there(old));
    origin.gate.add_permits(2);
    let rest = soon("the rest", begun.collect()).await.unwrap().to_bytes();
    assert_eq!(rest, "1;2;");
    assert!(proxy.child.ended().await.success(), "{}", proxy.child.log());
    for pid in &pids[1..3] {
        eventually("the end of one between", || (!is_there(*pid)).then_some(())).await;
    }
    let socket = proxy.rig.dir().join("p.sock");
    assert!(socket.exists(), "one that went took the socket along");
    let records = proxy.rig.audit();
    assert_eq!(records.len(), served + 1, "an exchange has no record, or two");
    assert!(records.iter().all(|record| record["outcome"] == "ok"));
    followers.stop(pids[3]).await;
    assert!(!socket.exists(), "the last one left the socket behind");
}

#[tokio::test]
async fn who_had_connected_and_said_nothing_yet_is_still_heard() {
    let (_, rig) = ground().await;
    let mut proxy = rig.serve().await;
    let followers = Followers::default();
    // At each step of a beginning: connected, CONNECT granted, TLS agreed on, and once more over HTTP/2.
    let mut silent = proxy.agent.dial().await;
    let (_, _, granted) = proxy.agent.connect("api.test:443").await;
    let mut agreed = [proxy.agent.h1("api.test").await, proxy.agent.h2("api.test").await];
    tokio::time::sleep(Duration::from_millis(200)).await;
    followers.next(&proxy).await;

    silent
        .say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    assert_eq!(status(&silent.head().await), 200);
    for raw in [silent, granted] {
        let tls = proxy.agent.handshake(raw.io, "api.test", &["http/1.1"]).await.unwrap();
        let mut http = Http::one(tls).await;
        assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    }
    for http in &mut agreed {
        assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    }
    assert!(proxy.child.ended().await.success(), "{}", proxy.child.log());
}

#[tokio::test]
async fn an_upgrade_takes_up_what_a_reload_cannot() {
    let (_, rig) = ground().await;
    let dir = rig.dir().display().to_string();
    let listen =
        format!("127.0.0.1:0, \"unix:{dir}/gone.sock\", {{ bind: \"unix:{dir}/stays.sock\", mode: \"0660\" }}");
    let proxy = rig.listen(&listen).config("admin: 127.0.0.1:0").serve().await;
    let (followers, admin) = (Followers::default(), proxy.admin().await);
    let file = proxy.rig.dir().join("keyferry.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let fewer = format!("127.0.0.1:0, {{ bind: \"unix:{dir}/stays.sock\" }}, \"unix:{dir}/new.sock\"");
    std::fs::write(&file, text.replace(&listen, &fewer)).unwrap();
    let pid = followers.next(&proxy).await;

    let mode = std::fs::metadata(format!("{dir}/stays.sock")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
    for name in ["stays", "new"] {
        let dialled = UnixStream::connect(format!("{dir}/{name}.sock")).await;
        ask(&proxy.agent, dialled, false).await.unwrap();
    }
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
    assert!(!PathBuf::from(format!("{dir}/gone.sock")).exists());
    // The operator's listener came along, with its port.
    let told = crate::rig::admin::page(&proxy, "/healthz").await;
    assert!(told.starts_with("HTTP/1.1 200"), "{admin}: {told}");
    // Who reloads reaches the new one.
    std::fs::write(
        &file,
        text.replace(&listen, &fewer)
            .replace("host: api.test", "host: else.test"),
    )
    .unwrap();
    eventually("the reload", || {
        proxy.child.log().contains("the config was reloaded").then_some(())
    })
    .await;
    assert_eq!(proxy.agent.connect("api.test:443").await.0, 403);
    followers.stop(pid).await;
}

#[tokio::test]
async fn connections_wait_while_the_proxy_is_full_and_go_to_the_new_one() {
    let (_, rig) = ground().await;
    let proxy = rig.config("limits: { connections: 1 }").serve().await;
    let followers = Followers::default();
    let _held = proxy.agent.connect("api.test:443").await;
    let mut waiting = proxy.agent.dial().await;
    waiting
        .say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    followers.next(&proxy).await;
    assert_eq!(status(&waiting.head().await), 200);
}

#[tokio::test]
async fn two_upgrades_at_once_are_one_after_the_other() {
    let (_, rig) = ground().await;
    let proxy = rig.serve().await;
    let followers = Followers::default();
    let both = tokio::join!(upgrade(&proxy), upgrade(&proxy));
    for (code, said) in [&both.0, &both.1] {
        assert_eq!(*code, Some(0), "{said}");
        followers.read(said);
    }
    assert_eq!(proxy.agent.get("https://api.test/hello").await.text(), "hello");
}
