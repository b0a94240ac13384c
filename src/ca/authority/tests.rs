#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

use super::*;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use time::Duration;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

fn dir() -> (tempfile::TempDir, CaSource) {
    let dir = tempfile::tempdir().unwrap();
    let source = CaSource::Dir(dir.path().join("ca"));
    (dir, source)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn key_ids(certificate: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let (mut subject, mut authority) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    (subject, authority)
}

#[test]
fn a_root_may_sign_leaves_and_nothing_else() {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    let root = parsed(authority.certificate_der());
    let constraints = root.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = root.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    assert_eq!(root.raw_serial().len(), 16);
    assert!(root.subject().to_string().starts_with("CN=Keyferry CA "));
    let (subject, _) = key_ids(&root);
    assert_eq!(subject.unwrap(), authority.issuing.key_id);
    let begun = OffsetDateTime::now_utc() - root.validity().not_before.to_datetime();
    assert!(begun >= Duration::hours(23) && begun <= Duration::hours(25));
}

#[test]
fn a_leaf_says_all_that_strict_clients_ask_for() {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    let root = parsed(authority.certificate_der());
    let leaf = authority.mint(&host("api.example.test")).unwrap();
    assert_eq!(leaf.certified.cert.len(), 1, "a root is not sent");
    let leaf = parsed(&leaf.certified.cert[0]);

    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth && !extended.any);
    let (subject, issuer) = key_ids(&leaf);
    assert_eq!(issuer, key_ids(&root).0, "the authority's identifier is the root's own");
    assert!(subject.is_some() && subject != issuer);
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert_ne!(
        leaf.public_key().raw,
        root.public_key().raw,
        "a leaf never has the CA's key"
    );
    let life = leaf.validity().not_after.to_datetime() - leaf.validity().not_before.to_datetime();
    assert_eq!(life, Duration::days(8));
    assert_eq!(leaf.raw_serial().len(), 16);
}

#[test]
fn serial_numbers_do_not_repeat() {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    let serials: std::collections::HashSet<_> = (0..200)
        .map(|_| {
            let leaf = authority.mint(&host("a.test")).unwrap();
            parsed(&leaf.certified.cert[0]).raw_serial().to_vec()
        })
        .collect();
    assert_eq!(serials.len(), 200);
}

#[test]
fn the_alternative_name_is_a_name_for_a_name_and_an_address_for_an_address() {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    for text in [
        "a.test",
        "under_score.test",
        "xn--bcher-kva.example",
        "127.0.0.1",
        "[2001:db8::1]",
    ] {
        let host = host(text);
        let leaf = authority.mint(&host).unwrap();
        let leaf = parsed(&leaf.certified.cert[0]);
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let [name] = &names.value.general_names[..] else {
            panic!("one name is due, not {:?}", names.value.general_names);
        };
        match (&host, name) {
            (Host::Name(expected), GeneralName::DNSName(name)) => assert_eq!(**expected, **name),
            (Host::Ip(IpAddr::V4(ip)), GeneralName::IPAddress(bytes)) => assert_eq!(ip.octets(), **bytes),
            (Host::Ip(IpAddr::V6(ip)), GeneralName::IPAddress(bytes)) => assert_eq!(ip.octets(), **bytes),
            (host, name) => panic!("{name:?} for {host}"),
        }
        assert!(!names.critical);
    }
}

#[test]
fn a_name_too_long_for_a_subject_stands_in_a_critical_alternative_name() {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    let long = format!(
        "{}.test",
        [
            &*"a".repeat(60),
            &*"b".repeat(60),
            &*"c".repeat(60),
            "dddddddddddddddddddd"
        ]
        .join(".")
    );
    assert!(long.len() > 200);
    let leaf = authority.mint(&host(&long)).unwrap();
    let leaf = parsed(&leaf.certified.cert[0]);
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(leaf.subject_alternative_name().unwrap().unwrap().critical);
}

#[test]
fn a_leaf_never_outlives_the_ca_nor_begins_before_it() {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    let end = authority.issuing.not_after;
    let late = authority.mint_at(&host("a.test"), end - Duration::hours(2)).unwrap();
    assert_eq!(late.not_after, authority.not_after());
    let early = authority
        .mint_at(&host("a.test"), authority.issuing.not_before + Duration::hours(2))
        .unwrap();
    assert_eq!(early.not_before, SystemTime::from(authority.issuing.not_before));
    assert!(matches!(
        authority.mint_at(&host("a.test"), end),
        Err(Error::Expired { .. })
    ));
}

#[test]
fn a_folder_is_made_on_first_use_and_opened_later() {
    let (_keep, source) = dir();
    let CaSource::Dir(path) = &source else { unreachable!() };
    let made = Authority::open(&source).unwrap();
    assert_eq!(mode(path), 0o700);
    assert_eq!(mode(&path.join(KEY_FILE)), 0o600);
    assert_eq!(mode(&path.join(CERTIFICATE_FILE)), 0o644);
    assert_eq!(made.certificate_path(), Some(&*path.join(CERTIFICATE_FILE)));
    let shown = fs::read_to_string(path.join(CERTIFICATE_FILE)).unwrap();
    assert_eq!(shown, made.certificate_pem());
    assert!(!shown.contains("PRIVATE"));

    let opened = Authority::open(&source).unwrap();
    assert_eq!(opened.certificate_der(), made.certificate_der());
    assert_eq!(
        fs::read_dir(path).unwrap().count(),
        2,
        "nothing else is left in the folder"
    );
}

#[test]
fn many_who_start_at_once_share_one_ca() {
    let (_keep, source) = dir();
    let start = std::sync::Barrier::new(16);
    let made: Vec<_> = std::thread::scope(|scope| {
        let open = || {
            start.wait();
            Authority::open(&source).unwrap().certificate_pem()
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(made.iter().all(|pem| *pem == made[0]));
    let CaSource::Dir(path) = &source else { unreachable!() };
    assert_eq!(
        fs::read_dir(path).unwrap().count(),
        2,
        "the losers' keys are not left behind"
    );
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_way_out() {
    let (_keep, source) = dir();
    Authority::open(&source).unwrap();
    let CaSource::Dir(path) = &source else { unreachable!() };
    let key = path.join(KEY_FILE);
    for open in [0o640, 0o604, 0o644, 0o660, 0o620] {
        fs::set_permissions(&key, Permissions::from_mode(open)).unwrap();
        let error = Authority::open(&source).unwrap_err();
        assert!(matches!(error, Error::KeyOpenToOthers { mode, .. } if mode == open));
        assert!(
            error.to_string().contains(&format!("chmod 600 {}", key.display())),
            "{error}"
        );
    }
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    Authority::open(&source).unwrap();
}

#[test]
fn a_certificate_of_another_ca_beside_the_key_is_refused() {
    let (_keep, source) = dir();
    let (_other_keep, other) = dir();
    Authority::open(&source).unwrap();
    let other = Authority::open(&other).unwrap();
    let CaSource::Dir(path) = &source else { unreachable!() };
    fs::write(path.join(CERTIFICATE_FILE), other.certificate_pem()).unwrap();
    assert!(matches!(Authority::open(&source), Err(Error::Mismatch { .. })));

    // The key file's own halves as well.
    let key = fs::read_to_string(path.join(KEY_FILE)).unwrap();
    let end = key.find("-----BEGIN CERTIFICATE").unwrap();
    fs::write(
        path.join(KEY_FILE),
        format!("{}{}", &key[..end], other.certificate_pem()),
    )
    .unwrap();
    assert!(matches!(Authority::open(&source), Err(Error::Mismatch { .. })));
}

#[test]
fn a_certificate_that_was_removed_is_written_again_and_a_lost_key_is_said_so() {
    let (_keep, source) = dir();
    let made = Authority::open(&source).unwrap();
    let CaSource::Dir(path) = &source else { unreachable!() };
    fs::remove_file(path.join(CERTIFICATE_FILE)).unwrap();
    Authority::open(&source).unwrap();
    let shown = fs::read_to_string(path.join(CERTIFICATE_FILE)).unwrap();
    assert_eq!(shown, made.certificate_pem());

    fs::remove_file(path.join(KEY_FILE)).unwrap();
    assert!(matches!(Authority::open(&source), Err(Error::KeyLost { .. })));
    assert!(!path.join(KEY_FILE).exists(), "no other CA takes its place in silence");
}

#[test]
fn a_key_file_of_rubbish_and_a_folder_that_is_a_file_are_refused() {
    let (_keep, source) = dir();
    Authority::open(&source).unwrap();
    let CaSource::Dir(path) = &source else { unreachable!() };
    fs::write(path.join(KEY_FILE), "rubbish").unwrap();
    let error = Authority::open(&source).unwrap_err();
    assert!(error.to_string().contains("holds no private key"), "{error}");

    let file = CaSource::Dir(path.join(KEY_FILE));
    assert!(matches!(
        Authority::open(&file),
        Err(Error::Read { .. } | Error::Write { .. })
    ));
}

#[test]
fn a_ca_whose_time_is_over_or_not_come_is_refused() {
    for (made, expired) in [(-Duration::days(6 * 365), true), (Duration::days(3), false)] {
        let (_keep, source) = dir();
        let CaSource::Dir(path) = &source else { unreachable!() };
        let key = new_key().unwrap();
        let root = new_root(&key, OffsetDateTime::now_utc() + made).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join(KEY_FILE), key.serialize_pem() + &to_pem(&root)).unwrap();
        fs::set_permissions(path.join(KEY_FILE), Permissions::from_mode(0o600)).unwrap();
        let error = Authority::open(&source).unwrap_err();
        match expired {
            true => assert!(matches!(error, Error::Expired { .. }), "{error}"),
            false => assert!(error.to_string().contains("clock"), "{error}"),
        }
    }
}

#[test]
fn debug_does_not_show_the_key() {
    let (_keep, source) = dir();
    let authority = Authority::open(&source).unwrap();
    let shown = format!("{authority:?} {authority:#?}");
    assert!(!shown.contains("key:") && shown.len() < 400, "{shown}");
}
