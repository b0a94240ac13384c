//! Sessions resume, and only with the host they began with.

use super::Server;
use keyferry::config::model::CaSource;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::client::{Tls13ClientSessionValue, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

/// Sessions that are offered to every host, as no honest client does.
#[derive(Debug)]
struct Careless(ClientSessionMemoryCache);

fn anywhere() -> ServerName<'static> {
    ServerName::try_from("anywhere.test").unwrap()
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(anywhere(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&anywhere())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anywhere(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anywhere())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anywhere());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anywhere(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anywhere())
    }
}

fn client(server: &Server, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(server.authority.certificate_der().clone()).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_no_client_auth();
    config.resumption = Resumption::store(Arc::new(Careless(ClientSessionMemoryCache::new(8))));
    Arc::new(config)
}

/// One request to `host`; whether the session was resumed, and what it offered.
fn visit(server: &Server, config: &Arc<ClientConfig>, host: &str) -> HandshakeKind {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let ip = host.parse().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let mut tcp = TcpStream::connect((ip, server.address.port())).unwrap();
    tcp.set_read_timeout(Some(crate::rig::PATIENCE)).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut tcp);
    tls.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = String::new();
    tls.read_to_string(&mut reply).unwrap();
    assert!(reply.ends_with("ok"));
    connection.handshake_kind().unwrap()
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn resumed(kind: HandshakeKind) -> bool {
    kind == HandshakeKind::Resumed
}

#[test]
fn a_session_resumes_with_the_same_host() {
    for version in VERSIONS {
        for host in ["a.test", "127.0.0.2"] {
            let server = Server::start(&CaSource::Memory);
            let client = client(&server, version);
            assert!(!resumed(visit(&server, &client, host)));
            assert!(resumed(visit(&server, &client, host)), "{version:?} {host}");
            assert!(resumed(visit(&server, &client, host)), "{version:?} {host}, again");
        }
    }
}

#[test]
fn a_ticket_of_one_host_does_not_resume_with_another() {
    for version in VERSIONS {
        // Names differ in their SNI; addresses send none, so only the ticket itself can tell.
        for (one, other) in [
            ("a.test", "b.test"),
            ("127.0.0.2", "127.0.0.3"),
            ("a.test", "127.0.0.2"),
        ] {
            let server = Server::start(&CaSource::Memory);
            let client = client(&server, version);
            assert!(!resumed(visit(&server, &client, one)));
            assert!(
                !resumed(visit(&server, &client, other)),
                "{version:?}: {one} at {other}"
            );
            assert!(
                resumed(visit(&server, &client, other)),
                "{version:?}: the next one is {other}'s own"
            );
        }
    }
}
