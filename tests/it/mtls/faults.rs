//! Certificates that cannot be shown, and servers that do not take the one they are shown.

use super::write;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::{Root, Validity};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::process::Command;
use std::sync::Arc;

const RULE: &str = "name: api, host: api.test, inject: [{ mtls: { certificate: ours, private_key: our-key } }]";

fn rig(root: &Root) -> Rig {
    Rig::new(root)
        .secret_spec("ours", "{ file: ours.pem }")
        .secret_spec("our-key", "{ file: ours.key }")
        .rule(RULE)
}

/// A server that ends the handshake of who has no certificate of `clients`.
async fn strict(root: &Root, clients: &Root, version: &'static rustls::SupportedProtocolVersion, alpn: &str) -> Origin {
    let pem = root.leaf(&["api.test", "bare.test"], Validity::Now);
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pem.chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Origin::with_tls(([127, 0, 0, 1], 0).into(), Arc::new(config)).await
}

#[tokio::test]
async fn a_server_that_does_not_take_the_certificate_is_told_by_a_code_of_its_own() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for alpn in ["http/1.1", "h2"] {
            let (root, clients) = (Root::new(), Root::new());
            let origin = strict(&root, &clients, version, alpn).await;
            let rig = rig(&root)
                .reach_as("api.test", origin.address)
                .reach_as("bare.test", origin.address)
                .rule("name: bare, host: bare.test");
            write(rig.dir(), "ours", &Root::new().client(&["ours"], Validity::Now));
            let proxy = rig.serve().await;
            for (url, words) in [
                ("https://api.test/", "does not take the client certificate"),
                (
                    "https://bare.test/",
                    "wants a client certificate, and the rule has none",
                ),
            ] {
                let reply = proxy.agent.get(url).await;
                let told = reply.text();
                assert_eq!(
                    reply.code(),
                    "client_certificate_refused",
                    "{version:?} {alpn} {url} {told}"
                );
                assert!(told.contains(words), "{told}");
            }
            assert_eq!(origin.seen().len(), 0);
        }
    }
}

#[tokio::test]
async fn an_expired_or_early_certificate_is_told_at_the_start_by_the_check_and_to_the_agent() {
    for (validity, words) in [(Validity::Past, "expired on"), (Validity::Future, "is good from")] {
        let root = Root::new();
        let origin = Origin::start(&root, "api.test").await;
        let rig = rig(&root).reach(&origin);
        write(rig.dir(), "ours", &root.client(&["ours"], validity));
        let checked = rig.command(&["secret", "check"]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(
            !checked.status.success() && said.contains("`ours`") && said.contains(words),
            "{said}"
        );
        let proxy = rig.serve().await;
        let log = proxy.child.log();
        assert!(
            log.contains("the client certificate `ours` cannot be shown") && log.contains(words),
            "{log}"
        );
        let reply = proxy.agent.get("https://api.test/").await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "client_certificate_expired")
        );
        let record = proxy.record().await;
        let reason = record["reason"].as_str().unwrap();
        assert!(reason.contains(words) && reason.contains("clock"), "{reason}");
        assert_eq!(origin.connections(), 0);
    }
}

#[tokio::test]
async fn what_is_no_certificate_with_its_key_is_told_in_words_and_never_goes_out() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let good = root.client(&["ours"], Validity::Now);
    let encrypted = {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "plain", &good);
        let mut openssl = Command::new(crate::rig::tools::need("openssl"));
        openssl.args(["pkcs8", "-topk8", "-passout", "pass:x", "-in"]);
        let made = openssl.arg(dir.path().join("plain.key")).output().unwrap();
        String::from_utf8(made.stdout).unwrap()
    };
    assert!(encrypted.contains("ENCRYPTED"), "{encrypted}");
    let others = root.client(&["others"], Validity::Now).key;
    for (chain, key, words) in [
        (good.chain.as_str(), encrypted.as_str(), "its private key is encrypted"),
        (&good.chain, &others, "is not that of the certificate"),
        (&good.chain, "nothing\nof the kind\n", "no private key in PEM"),
        ("nothing\nof the kind\n", &good.key, "no certificate in PEM"),
    ] {
        let rig = rig(&root).reach(&origin);
        std::fs::write(rig.dir().join("ours.pem"), chain).unwrap();
        std::fs::write(rig.dir().join("ours.key"), key).unwrap();
        let checked = rig.command(&["secret", "check"]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(!checked.status.success() && said.contains(words), "{said}");
        let proxy = rig.serve().await;
        assert!(proxy.child.log().contains(words), "{}", proxy.child.log());
        let reply = proxy.agent.get("https://api.test/").await;
        assert_eq!((reply.status.as_u16(), reply.code()), (502, "credential_unfit"));
        assert!(proxy.record().await["reason"].as_str().unwrap().contains(words));
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_certificate_is_not_shown_in_the_clear_even_where_credentials_may_go_so() {
    let root = Root::new();
    let origin = Origin::plain("api.test").await;
    let rig = rig(&root).reach(&origin);
    write(rig.dir(), "ours", &root.client(&["ours"], Validity::Now));
    let rig = rig.rule(
        "name: open, host: open.test, plaintext: true, inject: [{ mtls: { certificate: ours, private_key: our-key } }]",
    );
    let proxy = rig.reach_as("open.test", origin.address).serve().await;
    let mut curl = proxy.client("curl");
    curl.args([
        "-sS",
        "-i",
        "--proxy",
        &format!("http://{}", proxy.address),
        "http://open.test/",
    ]);
    let (_, said) = crate::rig::proxy::ended(curl).await;
    assert!(said.contains("plaintext_refused"), "{said}");
    assert_eq!(origin.seen().len(), 0);
}
