//! The quick part of what `scripts/conformance` runs: tools that others wrote to find fault.

use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::tools::need;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// A port that leads through the proxy's CONNECT, for tools that know no proxy, and all behind it.
async fn way() -> (u16, Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::start(&root, "localhost").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rule = format!("host: \"localhost:{port}\", inject: [{{ bearer: api_key }}]");
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", "sk-live-0a1b2c3d4e5f");
    let proxy = rig.rule(&rule).serve().await;
    let address = proxy.address;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(pass(near, address, port));
        }
    });
    (port, origin, proxy)
}

async fn pass(mut near: TcpStream, proxy: SocketAddr, port: u16) -> std::io::Result<()> {
    let mut far = TcpStream::connect(proxy).await?;
    let ask = format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    far.write_all(ask.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await?);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(drop)
}

async fn said(program: &str, argv: &[&str], folder: &std::path::Path) -> String {
    let mut command = Command::new(need(program));
    command.args(argv).current_dir(folder).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(300), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} did not end")).unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_gets_every_answer_over_http2_and_http1() {
    let (port, origin, proxy) = way().await;
    let url = format!("https://localhost:{port}/hello");
    for options in [
        &["-c4", "-m16", "-n2000"][..],
        &["-c50", "-m1", "-n500"],
        &["-c1", "-m100", "-n1000"],
        &["-c8", "--h1", "-n800"],
    ] {
        let count = options.iter().find_map(|one| one.strip_prefix("-n")).unwrap();
        let told = said("h2load", &[options, &[url.as_str()]].concat(), proxy.rig.dir()).await;
        let all = format!("{count} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(
            told.contains(&all) && told.contains(&format!("{count} 2xx")),
            "{options:?}: {told}"
        );
    }
    assert_eq!(origin.seen().len(), 4300);
    assert!(origin.seen().iter().all(|one| one.all("authorization").len() == 1));
    assert_eq!(proxy.records(4300).await.len(), 4300);
}

#[tokio::test(flavor = "multi_thread")]
async fn testssl_finds_no_old_protocol_and_no_weak_cipher_towards_agents() {
    let (port, _origin, proxy) = way().await;
    let (host, ca) = (format!("localhost:{port}"), proxy.ca.display().to_string());
    let quiet = [
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "off",
        "--nodns",
        "none",
        "--ip",
        "127.0.0.1",
    ];
    let parts = ["--add-ca", &ca, "--jsonfile", "found.json", "-p", "-s", &host];
    let told = said("testssl", &[&quiet[..], &parts].concat(), proxy.rig.dir()).await;
    let found = std::fs::read_to_string(proxy.rig.dir().join("found.json")).unwrap_or_else(|_| panic!("{told}"));
    let found: Vec<serde_json::Value> = serde_json::from_str(&found).unwrap();
    let finding = |id: &str| {
        let one = found.iter().find(|one| one["id"] == id);
        one.unwrap_or_else(|| panic!("nothing on {id}: {told}"))["finding"].to_string()
    };
    for old in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
        assert!(finding(old).contains("not offered"), "{old}: {}", finding(old));
    }
    assert!(finding("TLS1_2").contains("offered") && finding("TLS1_3").contains("offered"));
    assert!(finding("ALPN_HTTP2").contains("h2"));
    for one in &found {
        // The last is about the openssl that testssl runs with.
        let grave = !["OK", "INFO"].contains(&one["severity"].as_str().unwrap()) && one["id"] != "engine_problem";
        assert!(!grave, "{one}");
    }
}
