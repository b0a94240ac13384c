//! The files that clients are pointed at.

use super::{run, said};
use keyferry::ca::authority::Authority;
use keyferry::ca::bundle::Bundle;
use keyferry::config::model::CaSource;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_bundle_trusts_the_caller_the_system_and_us_each_once() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::open(&CaSource::Memory).unwrap();
    let corporate = Authority::open(&CaSource::Memory).unwrap().certificate_pem();
    // The caller's file holds one of its own twice, ours, and a system root, with text in between.
    let system = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").expect("install ca-certificates");
    let end = system.find("-----END CERTIFICATE-----\n").unwrap() + 26;
    let one_root = &system[..end];
    let callers = folder.path().join("callers.pem");
    let content = format!("# corp\n{corporate}\n{corporate}{}{one_root}", ours.certificate_pem());
    fs::write(&callers, content).unwrap();

    let bundle = Bundle::write(&folder.path().join("trust"), &ours, Some(&callers)).unwrap();
    let merged = fs::read_to_string(bundle.bundle_pem()).unwrap();
    for pem in [&corporate, &ours.certificate_pem(), one_root] {
        assert_eq!(merged.matches(pem.trim()).count(), 1);
    }
    let roots = system.matches("BEGIN CERTIFICATE").count();
    assert_eq!(merged.matches("BEGIN CERTIFICATE").count(), roots + 2);
    assert_eq!(bundle.other_roots(), roots + 1);
    assert_eq!(fs::read_to_string(bundle.ca_pem()).unwrap(), ours.certificate_pem());
    for file in [bundle.ca_pem(), bundle.bundle_pem(), bundle.truststore_p12()] {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o644, "{}", file.display());
    }
    assert_eq!(fs::read_dir(folder.path().join("trust")).unwrap().count(), 3);
}

#[test]
fn openssl_reads_the_trust_store_without_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::open(&CaSource::Memory).unwrap();
    let bundle = Bundle::write(folder.path(), &ours, None).unwrap();
    let store = bundle.truststore_p12().to_str().unwrap();
    let output = run(
        "openssl",
        &["pkcs12", "-in", store, "-nokeys", "-nomacver", "-passin", "pass:"],
        &[],
    );
    assert!(output.status.success(), "{}", said(&output));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(listed.contains(ours.certificate_pem().trim()), "{listed}");
    assert_eq!(listed.matches("BEGIN CERTIFICATE").count(), 1 + bundle.other_roots());
}

#[test]
fn a_callers_file_that_is_missing_or_empty_is_an_error_that_names_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::open(&CaSource::Memory).unwrap();
    let missing = folder.path().join("missing.pem");
    let said = Bundle::write(folder.path(), &ours, Some(&missing))
        .unwrap_err()
        .to_string();
    assert!(said.contains("SSL_CERT_FILE") && said.contains("missing.pem"), "{said}");

    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing\n").unwrap();
    let said = Bundle::write(folder.path(), &ours, Some(&empty))
        .unwrap_err()
        .to_string();
    assert!(said.contains("empty.pem") && said.contains("no certificate"), "{said}");
}
