//! Who is known by what: tables over every kind of proof.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::base::secret::Secret;
use crate::config::Config;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::pki_types::CertificateDer;
use std::path::Path;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The agents of `yaml`, each token being its own name.
fn identity(yaml: &str) -> Identity {
    let secrets = "ca: { memory: true }\naudit: none\nsecrets: { one: { env: ONE }, two: { env: TWO } }\nrules: []\n";
    let config = Config::parse(&format!("{secrets}{yaml}"), Path::new("/keyferry.yaml"));
    let config = config.map_err(|m| m.render(false)).unwrap().config;
    let token = |id: SecretId| {
        let secret = Secret::new(config.secrets[id.index()].name.as_bytes().to_vec()).unwrap();
        IsToken::new(move |offered| secret.matches(offered))
    };
    Identity::new(&config, token).unwrap()
}

fn found(
    identity: &Identity,
    peer: Peer,
    shown: Option<&Shown>,
    offered: Option<&'static str>,
) -> Result<u32, Unknown> {
    let offered = offered.map(HeaderValue::from_static);
    identity.agent(&peer, shown, offered.as_ref()).map(|agent| agent.0)
}

const TCP: fn(&str) -> Peer = |address| Peer::Tcp(address.parse().unwrap());

#[test]
fn each_kind_of_proof_knows_its_own_agent_and_no_other() {
    let identity = identity(
        "agents:
  a: { token: one, vsock_cid: 3 }
  b: { token: two, peer_uid: 7 }
  c: { address: [10.1.0.0/16, \"fd00::/8\"] }
  d: { token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, vsock_cid: 7 }
",
    );
    let (nobody, basic) = (TCP("192.0.2.1:9"), |text: &'static str| Some(text));
    for (peer, offered, expected) in [
        (nobody, Some("Bearer one"), Ok(0)),
        (nobody, Some("bearer  two "), Ok(1)),
        // `a:one`, `:two` and `ä:te:st`, of which the password is all after the first colon.
        (nobody, basic("Basic YTpvbmU="), Ok(0)),
        (nobody, basic("bAsIc OnR3bw=="), Ok(1)),
        (nobody, Some("Bearer test"), Ok(3)),
        (nobody, basic("Basic w6Q6dGU6c3Q="), Err(Unknown::Wrong)),
        (nobody, Some("Bearer on"), Err(Unknown::Wrong)),
        (nobody, Some("Bearer onee"), Err(Unknown::Wrong)),
        (nobody, Some("one"), Err(Unknown::Wrong)),
        (nobody, Some("Basic one"), Err(Unknown::Wrong)),
        (nobody, Some("Digest one"), Err(Unknown::Wrong)),
        (nobody, Some(""), Err(Unknown::Wrong)),
        (nobody, None, Err(Unknown::Silent)),
        (Peer::Vsock { cid: 3 }, None, Ok(0)),
        (Peer::Vsock { cid: 7 }, None, Ok(3)),
        (Peer::Vsock { cid: 4 }, None, Err(Unknown::Silent)),
        (Peer::Unix { uid: 7 }, None, Ok(1)),
        (Peer::Unix { uid: 3 }, None, Err(Unknown::Silent)),
        (TCP("10.1.2.3:7"), None, Ok(2)),
        (TCP("[::ffff:10.1.2.3]:7"), None, Ok(2)),
        (TCP("[fd12::1]:7"), None, Ok(2)),
        (TCP("10.2.0.1:3"), None, Err(Unknown::Silent)),
        // A token says more than an address that several may share.
        (TCP("10.1.2.3:7"), Some("Bearer one"), Ok(0)),
        (Peer::Unix { uid: 7 }, Some("Bearer one"), Ok(0)),
    ] {
        assert_eq!(found(&identity, peer, None, offered), expected, "{peer} {offered:?}");
    }
    assert!(!identity.asks_for_certificates());
}

#[test]
fn two_offers_are_none() {
    let mut headers = HeaderMap::new();
    assert_eq!(offer(&headers), None);
    headers.append(PROXY_AUTHORIZATION, HeaderValue::from_static("Bearer one"));
    assert!(offer(&headers).is_some_and(|value| value.is_sensitive() && value == "Bearer one"));
    headers.append(PROXY_AUTHORIZATION, HeaderValue::from_static("Bearer two"));
    let identity = identity("agents: { a: { token: one }, b: { token: two } }");
    let both = offer(&headers);
    assert_eq!(
        identity.agent(&TCP("192.0.2.1:9"), None, both.as_ref()),
        Err(Unknown::Wrong)
    );
}

fn issuer(under: Option<&Issuer>) -> Issuer {
    let mut params = CertificateParams::default();
    let key = KeyPair::generate().unwrap();
    let name = format!("ca {:?}", &key.public_key_raw()[40..]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    match under {
        None => CertifiedIssuer::self_signed(params, key),
        Some(above) => CertifiedIssuer::signed_by(params, key, above),
    }
    .unwrap()
}

/// A client's certificate with these names, good from and until so many days from now.
fn params(names: &[&str], days: (i64, i64)) -> CertificateParams {
    let mut params = CertificateParams::default();
    let san = |name: &&str| match name.contains("://") {
        true => SanType::URI((*name).try_into().unwrap()),
        false => SanType::DnsName((*name).try_into().unwrap()),
    };
    params.subject_alt_names = names.iter().map(san).collect();
    // A name where no one may look for it.
    params.distinguished_name.push(DnType::CommonName, "ci.agents.test");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now + Duration::days(days.0), now + Duration::days(days.1));
    params
}

fn shown(chain: &[&[u8]]) -> Shown {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    Shown::new(Some(&chain)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
}

/// Two CAs, a client's key, and agents known by certificates of the one or the other, or by an address.
struct Clients {
    ours: Issuer,
    theirs: Issuer,
    key: KeyPair,
    identity: Identity,
}

impl Clients {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (issuer(None), issuer(None));
        let (ca, other) = (dir.path().join("ours.pem"), dir.path().join("theirs.pem"));
        std::fs::write(&ca, ours.pem()).unwrap();
        std::fs::write(&other, theirs.pem()).unwrap();
        let (ca, other) = (ca.display(), other.display());
        let identity = identity(&format!(
            "listen: {{ bind: 127.0.0.1:8443, tls: true }}
agents:
  ci: {{ client_certificate: {{ ca: {ca}, dns: CI.agents.test }} }}
  bot: {{ client_certificate: {{ ca: {ca}, uri: \"spiffe://agents.test/bot\" }} }}
  guest: {{ client_certificate: {{ ca: {other}, dns: ci.agents.test }} }}
  local: {{ address: 127.0.0.1 }}
"
        ));
        let key = KeyPair::generate().unwrap();
        Self {
            ours,
            theirs,
            key,
            identity,
        }
    }

    /// A certificate with these names, good now.
    fn signed(&self, names: &[&str], by: &Issuer) -> Vec<u8> {
        self.lasting(names, (-1, 1), by)
    }

    fn lasting(&self, names: &[&str], days: (i64, i64), by: &Issuer) -> Vec<u8> {
        let signed = params(names, days).signed_by(&self.key, by);
        signed.unwrap().der().to_vec()
    }

    fn knows(&self, what: &str, chain: &[&[u8]], expected: Option<u32>) {
        let shown = shown(chain);
        let agent = found(&self.identity, TCP("192.0.2.1:9"), Some(&shown), None).ok();
        assert_eq!(agent, expected, "{what}");
        // Where it counts it says more than the address; where it does not, the address is what it was.
        let near = found(&self.identity, TCP("127.0.0.1:9"), Some(&shown), None).ok();
        assert_eq!(near, expected.or(Some(3)), "{what}, from an address that is known");
    }
}

#[test]
fn a_certificate_counts_below_its_own_ca_with_its_whole_name() {
    let clients = Clients::new();
    let Clients { ours, theirs, .. } = &clients;
    assert!(clients.identity.asks_for_certificates());
    for (what, names, by, expected) in [
        ("its name", &["ci.agents.test"][..], ours, Some(0)),
        ("its name in another case", &["Ci.Agents.TEST"], ours, Some(0)),
        (
            "one name of several",
            &["x.test", "spiffe://agents.test/bot"],
            ours,
            Some(1),
        ),
        ("the same name by another CA", &["ci.agents.test"], theirs, Some(2)),
        ("a URI by another CA", &["spiffe://agents.test/bot"], theirs, None),
        ("another name", &["cd.agents.test"], ours, None),
        ("a longer name", &["x.ci.agents.test"], ours, None),
        ("a longer URI", &["spiffe://agents.test/bot/x"], ours, None),
        ("a URI in another case", &["spiffe://agents.test/Bot"], ours, None),
        ("a wildcard", &["*.agents.test"], ours, None),
        ("a common name only", &[], ours, None),
    ] {
        clients.knows(what, &[&clients.signed(names, by)], expected);
    }
    let between = issuer(Some(ours));
    let below = clients.signed(&["ci.agents.test"], &between);
    clients.knows("below an intermediate", &[&below, between.der()], Some(0));
    clients.knows("an intermediate left out", &[&below], None);
}

#[test]
fn a_certificate_that_is_not_a_clients_or_not_in_its_time_is_nobodys() {
    let clients = Clients::new();
    let Clients { ours, key, .. } = &clients;
    let names = &["ci.agents.test"];
    let mut server = params(names, (-1, 1));
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (what, der) in [
        ("expired", clients.lasting(names, (-9, -1), ours)),
        ("not valid yet", clients.lasting(names, (1, 9), ours)),
        ("a server's", server.signed_by(key, ours).unwrap().der().to_vec()),
        (
            "self-signed",
            params(names, (-1, 1)).self_signed(key).unwrap().der().to_vec(),
        ),
        ("the CA itself", ours.der().to_vec()),
        ("no certificate at all", b"\x30\x03\x02\x01\x01".to_vec()),
        ("nothing", Vec::new()),
    ] {
        clients.knows(what, &[&der], None);
    }
}

#[test]
fn a_pinned_certificate_is_that_one_and_a_pinned_key_any_with_it_in_their_time() {
    let (ours, key, other) = (issuer(None), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let made = |days, key: &KeyPair| params(&[], days).self_signed(key).unwrap().der().to_vec();
    let (pinned, renewed, strange) = (made((-1, 1), &key), made((-1, 2), &key), made((-1, 1), &other));
    let (expired, early) = (made((-9, -1), &key), made((1, 9), &key));
    let issued = params(&[], (-1, 1)).signed_by(&key, &ours).unwrap().der().to_vec();
    let spki = hex(digest::digest(&digest::SHA256, &rcgen::PublicKeyData::subject_public_key_info(&key)).as_ref());
    let print = |der: &[u8]| hex(digest::digest(&digest::SHA256, der).as_ref());
    let by_hash = identity(&format!(
        "listen: {{ bind: 127.0.0.1:8443, tls: true }}
agents: {{ a: {{ client_certificate: [{{ sha256: \"{}\" }}, {{ sha256: \"{}\" }}] }} }}",
        print(&pinned),
        print(&expired).to_lowercase().replace(':', "")
    ));
    let by_key = identity(&format!(
        "listen: {{ bind: 127.0.0.1:8443, tls: true }}
agents: {{ a: {{ client_certificate: {{ public_key_sha256: \"{spki}\" }} }} }}"
    ));
    for (what, der, hash_fits, key_fits) in [
        ("the pinned one", &pinned, true, true),
        ("renewed with the same key", &renewed, false, true),
        ("issued by a CA", &issued, false, true),
        ("of another key", &strange, false, false),
        ("expired", &expired, false, false),
        ("not valid yet", &early, false, false),
    ] {
        let shown = shown(&[der]);
        assert_eq!(
            found(&by_hash, TCP("192.0.2.1:9"), Some(&shown), None).is_ok(),
            hash_fits,
            "{what}"
        );
        assert_eq!(
            found(&by_key, TCP("192.0.2.1:9"), Some(&shown), None).is_ok(),
            key_fits,
            "{what}"
        );
    }
    let why = found(&by_hash, TCP("192.0.2.1:9"), Some(&shown(&[&expired])), None).unwrap_err();
    assert!(
        matches!(&why, Unknown::Uncertified(reason) if reason.contains("expired")),
        "{why:?}"
    );
    let wrong = found(
        &by_hash,
        TCP("192.0.2.1:9"),
        Some(&shown(&[&strange])),
        Some("Bearer x"),
    );
    assert_eq!(wrong, Err(Unknown::Wrong));
}

#[test]
fn a_client_ca_that_cannot_be_read_is_told_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let config = |path: &Path| {
        let yaml = format!(
            "ca: {{ memory: true }}\naudit: none\nrules: []\nlisten: {{ bind: 127.0.0.1:8443, tls: true }}
agents: {{ a: {{ client_certificate: {{ ca: {}, dns: a.test }} }} }}",
            path.display()
        );
        Arc::new(Config::parse(&yaml, Path::new("/keyferry.yaml")).unwrap().config)
    };
    for content in [
        None,
        Some(""),
        Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = Identity::new(&config(&path), |_| IsToken::new(|_| false)).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{content:?}: {error}");
    }
}
