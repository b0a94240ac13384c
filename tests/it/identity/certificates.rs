//! Agents known by a certificate on a TLS listener: by curl, by libcurl over HTTP/2, and by openssl.

use crate::rig::agent::{Raw, get, status};
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig, ended};
use crate::rig::root::{Pem, Root, Validity};
use crate::rig::{soon, tools};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Certificates as files, by name, and the proxy that knows some of them.
struct Setting {
    origin: Origin,
    proxy: Proxy,
    /// The CA that vouches for `ci`.
    authority: Root,
}

const CI: &str = "ci.agents.test";

async fn setting() -> Setting {
    let (root, authority, stranger) = (Root::new(), Root::new(), Root::new());
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin);
    let dir = rig.dir().to_owned();
    std::fs::write(dir.join("agents-ca.pem"), authority.pem()).unwrap();
    for (name, pem) in [
        ("ci", authority.client(&[CI], Validity::Now)),
        ("expired", authority.client(&[CI], Validity::Past)),
        ("renamed", authority.client(&["cd.agents.test"], Validity::Now)),
        ("server", authority.leaf(&[CI], Validity::Now)),
        ("stranger", stranger.client(&[CI], Validity::Now)),
        ("dev", authority.client(&["dev.agents.test"], Validity::Now)),
    ] {
        std::fs::write(dir.join(format!("{name}.pem")), pem.chain).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), pem.key).unwrap();
    }
    let proxy = rig
        .listen("{ bind: \"127.0.0.1:0\", tls: true }")
        .secret("DEV_TOKEN", "agent-token-dev")
        .config(&format!(
            "agents:\n  ci: {{ client_certificate: {{ ca: ./agents-ca.pem, dns: {CI} }} }}
  dev: {{ token: dev_token, client_certificate: {{ ca: ./agents-ca.pem, dns: dev.agents.test }} }}"
        ))
        .rule("host: api.test, agents: [ci]")
        .serve()
        .await;
    Setting {
        origin,
        proxy,
        authority,
    }
}

/// Asks for the origin's greeting with the certificate of that name: curl over HTTP/1.1, libcurl over HTTP/2.
async fn fetch(proxy: &Proxy, http2: bool, certificate: Option<&str>) -> (bool, String) {
    let at = format!("https://localhost:{}", proxy.address.port());
    let (ca, url) = (proxy.ca.to_str().unwrap(), "https://api.test/hello");
    if http2 {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/identity/proxied.py");
        let mut python = proxy.client(tools::python());
        python.arg(script).args([url, &at, "http2"]);
        python.args([format!("cacert={ca}"), format!("proxy_cacert={ca}")]);
        if let Some(name) = certificate {
            python.args([format!("cert={name}.pem"), format!("key={name}.key")]);
        }
        return ended(python).await;
    }
    let mut curl = proxy.client("curl");
    curl.args(["-sS", "--cacert", ca, "--proxy-cacert", ca, "--proxy", &at]);
    if let Some(name) = certificate {
        curl.args([
            "--proxy-cert",
            &format!("{name}.pem"),
            "--proxy-key",
            &format!("{name}.key"),
        ]);
    }
    curl.arg(url);
    ended(curl).await
}

#[tokio::test]
async fn curl_is_known_by_its_certificate_over_http_1_and_2() {
    let Setting { origin, proxy, .. } = setting().await;
    let (fine, said) = fetch(&proxy, false, Some("ci")).await;
    assert!(fine && said == "hello", "{said}");
    let (_, said) = fetch(&proxy, true, Some("ci")).await;
    assert!(said.starts_with("h2 200 hello"), "{said}");
    let records = proxy.records(2).await;
    assert!(records.iter().all(|one| one["agent"] == "ci"), "{records:#?}");
    // Another agent's certificate is that agent's: no rule is for it.
    let (_, said) = fetch(&proxy, false, Some("dev")).await;
    assert!(said.contains("403"), "{said}");
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn a_wrong_expired_or_absent_certificate_is_an_unknown_agent() {
    let Setting { origin, proxy, .. } = setting().await;
    let wrong = [None, Some("expired"), Some("renamed"), Some("server"), Some("stranger")];
    for certificate in wrong {
        for http2 in [false, true] {
            let (_, said) = fetch(&proxy, http2, certificate).await;
            assert!(said.contains("407"), "{certificate:?} over HTTP/2: {http2}: {said}");
        }
    }
    assert_eq!(origin.connections(), 0);
    let records = proxy.records(2 * wrong.len()).await;
    for (record, certificate) in records.iter().zip(wrong.iter().flat_map(|one| [one, one])) {
        assert_eq!(record["code"], "agent_unknown", "{record:#}");
        let reason = record["reason"].as_str().unwrap();
        let told = reason.starts_with("client certificate ");
        assert_eq!(told, certificate.is_some(), "the operator is told which: {record:#}");
    }
    assert!(
        records[2]["reason"].as_str().unwrap().contains("expired"),
        "{records:#?}"
    );
    // Absolute-form is no way round it.
    let mut raw = knock(&proxy, Some("stranger")).await;
    raw.say("GET http://api.test/hello HTTP/1.1\r\nHost: api.test\r\n\r\n")
        .await;
    assert_eq!(status(&raw.head().await), 407);
}

/// A line to the proxy, with the certificate of that name.
async fn knock(proxy: &Proxy, certificate: Option<&str>) -> Raw<TlsStream<TcpStream>> {
    let trusting = proxy.agent.trusting();
    let config = match certificate {
        None => trusting.with_no_client_auth(),
        Some(name) => {
            let file = |end| proxy.rig.dir().join(format!("{name}.{end}"));
            let chain = vec![CertificateDer::from_pem_file(file("pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
            trusting.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    Raw::new(soon("TLS with the proxy", connected).await.unwrap())
}

const CONNECT: &str = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n";

#[tokio::test]
async fn a_certificate_without_its_key_is_no_proof() {
    let Setting { origin, proxy, .. } = setting().await;
    // The certificate of `ci` with a key of somebody else's: openssl does not check that they fit.
    let mut openssl = proxy.client("openssl");
    let at = proxy.address.to_string();
    openssl.args([
        "s_client",
        "-connect",
        &at,
        "-cert",
        "ci.pem",
        "-key",
        "stranger.key",
        "-CAfile",
    ]);
    openssl.arg(&proxy.ca);
    let (_, said) = ended(openssl).await;
    // It refuses by itself, or the handshake fails.
    assert!(said.contains("mismatch") || said.contains("alert"), "{said}");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_session_is_never_resumed_where_certificates_are_asked_for() {
    let Setting { proxy, .. } = setting().await;
    for version in ["-tls1_2", "-tls1_3"] {
        let session = format!("session{version}");
        let said = openssl(
            &proxy,
            version,
            &["-cert", "ci.pem", "-key", "ci.key", "-sess_out", &session],
        )
        .await;
        assert!(said.contains("HTTP/1.1 200"), "{version}: {said}");
        // What the session was has no bearing on the next connection, which shows nothing.
        let kept = proxy.rig.dir().join(&session).exists();
        let again: &[&str] = if kept { &["-sess_in", &session] } else { &[] };
        let said = openssl(&proxy, version, again).await;
        assert!(
            said.contains("HTTP/1.1 407") && !said.contains("Reused, "),
            "{version}: {said}"
        );
    }
}

/// Asks for a tunnel by `openssl s_client`; all that it shows.
async fn openssl(proxy: &Proxy, version: &str, more: &[&str]) -> String {
    let mut shell = proxy.client("sh");
    let at = proxy.address.to_string();
    // Its input stays open until the answer is there: at the end of input it would close first.
    let script = "(printf 'CONNECT api.test:443 HTTP/1.1\\r\\nHost: api.test:443\\r\\n\\r\\n'; sleep 1) | openssl s_client \"$@\"";
    shell.args([
        "-c",
        script,
        "sh",
        version,
        "-connect",
        &at,
        "-servername",
        "localhost",
        "-CAfile",
    ]);
    shell.arg(&proxy.ca).args(more);
    ended(shell).await.1
}

#[tokio::test]
async fn a_reload_asks_anew_whose_a_certificate_is_on_open_connections_too() {
    let Setting { proxy, authority, .. } = setting().await;
    let mut raw = knock(&proxy, Some("ci")).await;
    raw.say(CONNECT).await;
    assert_eq!(status(&raw.head().await), 200);
    let inside = proxy.agent.handshake(raw.io, "api.test", &["h2"]).await.unwrap();
    let (send, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(inside),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let mut http = crate::rig::agent::Http::Two(send);
    assert_eq!(http.reply(get("https://api.test/hello")).await.text(), "hello");
    // The same file, another CA in it: the certificate is nobody's now.
    let ca = proxy.rig.dir().join("agents-ca.pem");
    std::fs::write(&ca, Root::new().pem()).unwrap();
    proxy.reload(|text| text);
    until(&mut http, 407, &proxy).await;
    std::fs::write(&ca, authority.pem()).unwrap();
    proxy.reload(|text| text);
    until(&mut http, 200, &proxy).await;
    // A CA that cannot be read leaves the old one in force.
    std::fs::write(&ca, "no certificate").unwrap();
    proxy.reload(|text| text);
    crate::rig::eventually("word of the CA", || {
        proxy.child.log().contains("cannot read the client CA").then_some(())
    })
    .await;
    assert_eq!(http.reply(get("https://api.test/hello")).await.status, 200);
}

async fn until(http: &mut crate::rig::agent::Http, status: u16, proxy: &Proxy) {
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while http.reply(get("https://api.test/hello")).await.status != status {
        assert!(std::time::Instant::now() < end, "never {status}: {}", proxy.child.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_certificate_made_by_hand_is_known_by_its_fingerprint() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin);
    // As the page on agents says to make one.
    let mut make = std::process::Command::new(tools::need("openssl"));
    crate::rig::proxy::bare(&mut make, rig.dir());
    make.current_dir(rig.dir()).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    make.args(["-days", "30", "-subj", "/CN=ci", "-keyout", "ci.key", "-out", "ci.pem"]);
    assert!(ended(make).await.0);
    let mut print = std::process::Command::new(tools::need("openssl"));
    crate::rig::proxy::bare(&mut print, rig.dir());
    print
        .current_dir(rig.dir())
        .args(["x509", "-in", "ci.pem", "-noout", "-fingerprint", "-sha256"]);
    let (_, said) = ended(print).await;
    let fingerprint = said.trim().split_once('=').unwrap().1;
    let config = format!("agents: {{ ci: {{ client_certificate: {{ sha256: \"{fingerprint}\" }} }} }}");
    let rig = rig
        .listen("{ bind: \"127.0.0.1:0\", tls: true }")
        .rule("host: api.test");
    let proxy = rig.config(&config).serve().await;
    let (fine, said) = fetch(&proxy, false, Some("ci")).await;
    assert!(fine && said == "hello", "{said}");
    let Pem { chain, key } = Root::new().client(&["ci"], Validity::Now);
    std::fs::write(proxy.rig.dir().join("other.pem"), chain).unwrap();
    std::fs::write(proxy.rig.dir().join("other.key"), key).unwrap();
    let (_, said) = fetch(&proxy, false, Some("other")).await;
    assert!(said.contains("407"), "{said}");
}
