//! What a redirected ClientHello may hide: an encrypted one within it, or an address where a name belongs.

use super::table::told;
use super::transparent::{Gateway, client_hello, ground};
use crate::rig::agent::{Http, get};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::soon;
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::ALL_SUPPORTED_SUITES;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, EchConfigListBytes, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A list with one ECH configuration (RFC 9849 §4) for clients of whoever is called `public`; nobody has its key.
fn ech_list(public: &str) -> EchConfigListBytes<'static> {
    // X25519 with HKDF-SHA256; HKDF-SHA256 and AES-128-GCM (RFC 9180 §7).
    let key = [&[0, 32][..], &[9; 32]].concat();
    let named = [&[u8::try_from(public.len()).unwrap()][..], public.as_bytes()].concat();
    let contents = [&[1, 0, 0x20][..], &key, &[0, 4, 0, 1, 0, 1], &[64], &named, &[0, 0]].concat();
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    sized(&[&[0xfe, 0x0d][..], &sized(&contents)].concat()).into()
}

/// The handshake of a client with an encrypted hello, that trusts the root in `ca`.
async fn handshake(io: TcpStream, ca: &Path, inner: &str, mode: EchMode) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_ech(mode).unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(inner.to_owned()).unwrap();
    soon("the handshake", TlsConnector::from(Arc::new(config)).connect(name, io)).await
}

fn encrypted(public: &str) -> EchMode {
    EchMode::Enable(EchConfig::new(ech_list(public), ALL_SUPPORTED_SUITES).unwrap())
}

#[tokio::test]
async fn of_an_encrypted_hello_the_outer_name_is_judged_and_the_inner_one_reached_by_nobody() {
    let (gateway, api, plain) = ground("", &[]).await;
    let cases = [
        ("api.test", "other.test", "agent_tls_failed"),
        ("other.test", "api.test", "denied_by_policy"),
        ("api.test", "plain.test", "agent_tls_failed"),
    ];
    for (at, (outer, inner, code)) in cases.into_iter().enumerate() {
        let raw = gateway.dial(443).await;
        // The client sees a certificate for the outer name, and that its hello was not read: it gives up.
        let refused = handshake(raw.io, &gateway.proxy.ca, inner, encrypted(outer))
            .await
            .unwrap_err();
        assert!(format!("{refused:?}").contains("EncryptedClientHello"), "{refused:?}");
        let record = gateway.proxy.records(at + 1).await.remove(at);
        assert_eq!(record["target"], format!("{outer}:443"), "{record:#}");
        assert_eq!(record["code"], code, "{record:#}");
    }
    assert_eq!((api.connections(), plain.connections()), (0, 0));
}

#[tokio::test]
async fn a_client_that_only_pretends_to_encrypt_its_hello_is_served() {
    let (gateway, api, _) = ground("", &[]).await;
    let suite = ALL_SUPPORTED_SUITES[0];
    let (key, _) = suite.generate_key_pair().unwrap();
    for (name, expected) in [("api.test", "200 "), ("other.test", "403 denied_by_policy")] {
        let raw = gateway.dial(443).await;
        let pretends = EchMode::Grease(EchGreaseConfig::new(suite, key.clone()));
        let tls = handshake(raw.io, &gateway.proxy.ca, name, pretends).await.unwrap();
        let mut http = Http::one(tls).await;
        assert_eq!(told(&http.reply(get(&format!("https://{name}/hello"))).await), expected);
    }
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test]
async fn in_a_tunnel_it_is_the_outer_name_that_must_be_the_targets() {
    let networks = Gateway::networks(false);
    let root = Root::new();
    let pinned = Origin::start(&root, "pinned.test").await;
    let rig = Rig::new(&root).reach(&pinned).rule("host: pinned.test, tunnel: true");
    let gateway = Gateway::serve(networks, rig, "").await;
    // The origin, which has no key for it either, reads the outer hello: it is what was let through.
    let raw = gateway.dial(443).await;
    let ca = gateway.proxy.rig.dir().join("root.pem");
    let refused = handshake(raw.io, &ca, "hidden.test", encrypted("pinned.test"))
        .await
        .unwrap_err();
    assert!(format!("{refused:?}").contains("EncryptedClientHello"), "{refused:?}");
    let record = gateway.proxy.record().await;
    assert_eq!(
        (&record["target"], &record["mode"]),
        (&"pinned.test:443".into(), &"tunnel".into())
    );
    assert!(
        record["bytes_out"].as_u64() > Some(0),
        "the host said nothing: {record:#}"
    );
    let raw = gateway.dial(443).await;
    let hidden = handshake(raw.io, &ca, "pinned.test", encrypted("hidden.test")).await;
    assert!(hidden.is_err());
    let record = gateway.proxy.records(2).await.remove(1);
    assert_eq!(
        (&record["target"], &record["code"]),
        (&"hidden.test:443".into(), &"denied_by_policy".into())
    );
}

#[tokio::test]
async fn an_address_in_place_of_a_name_names_nobody() {
    let mut hello = client_hello("abcde.test");
    let at = hello.windows(10).position(|ten| ten == b"abcde.test").unwrap();
    for (address, default, target) in [
        // It is not the address in the hello that is judged, but the one that was dialled.
        ("192.0.2.10", "", "203.0.113.10:443"),
        ("192.0.2.10", ", default: \"api.test:443\"", "api.test:443"),
    ] {
        let (gateway, api, _) = ground(default, &[]).await;
        hello[at..at + 10].copy_from_slice(address.as_bytes());
        let mut raw = gateway.dial(443).await;
        raw.say(&hello).await;
        raw.bytes(1).await;
        drop(raw);
        assert_eq!(gateway.proxy.record().await["target"], target);
        assert_eq!(api.connections(), 0);
    }
}
