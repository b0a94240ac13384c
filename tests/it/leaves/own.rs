//! A CA that the user brings.

use super::{Server, run, said};
use base64::Engine;
use keyferry::ca::Error;
use keyferry::ca::authority::Authority;
use keyferry::config::model::CaSource;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use x509_parser::prelude::FromDer;

/// PEM with a label.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Certificates made the way a company's are: by somebody else's tool.
struct Company {
    folder: TempDir,
}

/// A name as a directory service makes it: parts of one kind twice, and old string types.
const CONFIG: &str = "
string_mask = default
[req]
distinguished_name = dn
prompt = no
[dn]
0.DC = test
1.DC = corp
O = Corp
0.OU = Security
1.OU = Proxies
CN = Corp CA
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issuing]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = 00:01:02:FE:FF
authorityKeyIdentifier = keyid
[narrow]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
nameConstraints = critical, permitted;DNS:own.test
[leaf]
basicConstraints = critical, CA:FALSE
[mute]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature
";

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("openssl.cnf"), CONFIG).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, args: &str) {
        let args: Vec<_> = args
            .split_whitespace()
            .map(|word| match word.strip_prefix('@') {
                Some(file) => self.path(file).display().to_string(),
                None => word.to_owned(),
            })
            .collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let output = run("openssl", &args, &[]);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    }

    fn key(&self, name: &str, kind: &str) {
        self.openssl(&format!("genpkey -quiet -out @{name} -algorithm {kind}"));
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    fn root(&self, name: &str, key: &str, section: &str) {
        self.openssl(&format!(
            "req -x509 -new -config @openssl.cnf -extensions {section} -key @{key} -days 30 -out @{name}"
        ));
    }

    /// `name`, with `key`, issued by `root` with `root_key`, for so many days.
    fn issue(&self, own: (&str, &str), root: (&str, &str), days: u32) {
        self.issue_as("issuing", own, root, days);
    }

    fn issue_as(&self, section: &str, (name, key): (&str, &str), (root, root_key): (&str, &str), days: u32) {
        self.openssl(&format!(
            "req -new -config @openssl.cnf -subj /DC=test/DC=corp/OU=A/OU=B/CN=Issuing -key @{key} -out @csr"
        ));
        self.openssl(&format!(
            "x509 -req -in @csr -CA @{root} -CAkey @{root_key} -CAcreateserial -days {days} \
             -extfile @openssl.cnf -extensions {section} -out @{name}"
        ));
    }

    fn join(&self, name: &str, parts: &[&str]) {
        let all: String = parts
            .iter()
            .map(|p| fs::read_to_string(self.path(p)).unwrap())
            .collect();
        fs::write(self.path(name), all).unwrap();
    }

    fn source(&self, certificate: &str, key: &str) -> CaSource {
        CaSource::Own {
            certificate: self.path(certificate),
            key: self.path(key),
        }
    }

    fn refusal(&self, certificate: &str, key: &str) -> Error {
        Authority::open(&self.source(certificate, key)).unwrap_err()
    }
}

const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "EC -pkeyopt ec_paramgen_curve:P-384";
const P521: &str = "EC -pkeyopt ec_paramgen_curve:P-521";
const RSA: &str = "RSA -pkeyopt rsa_keygen_bits:2048";

/// OpenSSL in strict mode and GnuTLS both find their way from the leaf to `anchor`.
fn accepted(server: &Server, anchor: &Path) {
    let (target, port) = (server.address.to_string(), server.port());
    let ca = anchor.to_str().unwrap();
    let mut args = vec![
        "s_client",
        "-connect",
        &target,
        "-servername",
        "own.test",
        "-verify_hostname",
        "own.test",
    ];
    args.extend(["-brief", "-verify_return_error", "-x509_strict", "-partial_chain"]);
    args.extend(["-no-CApath", "-no-CAstore", "-CAfile", ca]);
    let output = run("openssl", &args, &[]);
    assert!(output.status.success(), "{}", said(&output));

    let file = format!("--x509cafile={ca}");
    let args = [
        "--port",
        &port,
        &file,
        "--sni-hostname=own.test",
        "--verify-hostname=own.test",
        "127.0.0.1",
    ];
    let output = run("gnutls-cli", &args, &[]);
    assert!(output.status.success(), "{}", said(&output));

    let script = super::probe("probe.py");
    let output = run(
        "python3",
        &[script.to_str().unwrap(), ca, &port, "own.test", "127.0.0.1"],
        &[],
    );
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn an_own_root_works_with_every_kind_of_key_file() {
    let company = Company::new();
    company.key("p256.pem", P256);
    company.key("p384.pem", P384);
    company.key("p521.pem", P521);
    company.key("rsa.pem", RSA);
    company.openssl("ec -in @p256.pem -out @sec1.pem");
    company.openssl("rsa -traditional -in @rsa.pem -out @pkcs1.pem");
    for (key, begins) in [
        ("p256.pem", "-----BEGIN PRIVATE KEY"),
        ("p384.pem", "-----BEGIN PRIVATE KEY"),
        ("p521.pem", "-----BEGIN PRIVATE KEY"),
        ("rsa.pem", "-----BEGIN PRIVATE KEY"),
        ("sec1.pem", "-----BEGIN EC PRIVATE KEY"),
        ("pkcs1.pem", "-----BEGIN RSA PRIVATE KEY"),
    ] {
        assert!(fs::read_to_string(company.path(key)).unwrap().starts_with(begins));
        fs::set_permissions(company.path(key), Permissions::from_mode(0o600)).unwrap();
        company.root("root.pem", key, "root");
        let server = Server::start(&company.source("root.pem", key));
        accepted(&server, &company.path("root.pem"));
    }
}

#[test]
fn an_own_intermediate_sends_its_chain_and_lends_leaves_its_odd_key_identifier() {
    let company = Company::new();
    company.key("root.key", P384);
    company.root("root.pem", "root.key", "root");
    company.key("issuing.key", RSA);
    company.issue(("issuing.pem", "issuing.key"), ("root.pem", "root.key"), 20);
    company.join("chain.pem", &["issuing.pem", "root.pem"]);

    // With the root in the file clients trust the root; with the intermediate alone, that.
    for (file, anchor, sent) in [("chain.pem", "root.pem", 2), ("issuing.pem", "issuing.pem", 2)] {
        let server = Server::start(&company.source(file, "issuing.key"));
        let expected = fs::read_to_string(company.path(anchor)).unwrap();
        assert_eq!(server.authority.certificate_pem(), expected);
        accepted(&server, &company.path(anchor));

        let host = keyferry::base::host::Host::parse("own.test").unwrap();
        let leaf = server.authority.mint(&host).unwrap();
        assert_eq!(leaf.certified.cert.len(), sent, "{file}");
        let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&leaf.certified.cert[0]).unwrap();
        let named = leaf.extensions().iter().find_map(|e| match e.parsed_extension() {
            x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
            _ => None,
        });
        assert_eq!(named.unwrap().0, [0, 1, 2, 0xfe, 0xff]);
    }
}

#[test]
fn a_leaf_ends_with_the_intermediate_that_issued_it() {
    let company = Company::new();
    company.key("root.key", P256);
    company.root("root.pem", "root.key", "root");
    company.key("issuing.key", P256);
    company.issue(("issuing.pem", "issuing.key"), ("root.pem", "root.key"), 2);
    company.join("chain.pem", &["issuing.pem", "root.pem"]);
    let authority = Authority::open(&company.source("chain.pem", "issuing.key")).unwrap();
    let leaf = authority
        .mint(&keyferry::base::host::Host::parse("own.test").unwrap())
        .unwrap();
    assert_eq!(leaf.not_after, authority.not_after());
    let left = leaf.not_after.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(left < std::time::Duration::from_secs(2 * 86_400 + 60));
}

#[test]
fn a_narrow_intermediate_is_honoured_and_clients_hold_it_to_its_names() {
    let company = Company::new();
    company.key("root.key", P256);
    company.root("root.pem", "root.key", "root");
    company.key("narrow.key", P256);
    company.issue_as("narrow", ("narrow.pem", "narrow.key"), ("root.pem", "root.key"), 20);
    company.join("chain.pem", &["narrow.pem", "root.pem"]);
    let server = Server::start(&company.source("chain.pem", "narrow.key"));
    let script = super::probe("probe.py");
    let visit = |host| {
        let root = company.path("root.pem");
        let args = [script.to_str().unwrap(), root.to_str().unwrap(), &server.port(), host];
        run("python3", &args, &[])
    };
    assert!(visit("own.test").status.success(), "{}", said(&visit("own.test")));
    assert!(said(&visit("other.test")).contains("permitted subtree violation"));
}

#[test]
fn what_cannot_issue_is_refused_in_words_that_say_why() {
    let company = Company::new();
    company.key("key.pem", P256);
    company.key("other.pem", P256);
    company.root("root.pem", "key.pem", "root");
    company.root("other-root.pem", "other.pem", "root");
    company.root("leaf.pem", "key.pem", "leaf");
    company.root("mute.pem", "key.pem", "mute");
    company.issue(("issuing.pem", "other.pem"), ("root.pem", "key.pem"), 20);
    company.join("reversed.pem", &["root.pem", "issuing.pem"]);
    company.join("broken.pem", &["issuing.pem", "other-root.pem"]);
    fs::write(company.path("empty.pem"), "").unwrap();
    fs::set_permissions(company.path("other-root.pem"), Permissions::from_mode(0o600)).unwrap();

    for (certificate, key, says) in [
        ("leaf.pem", "key.pem", "CA:FALSE"),
        ("mute.pem", "key.pem", "keyCertSign"),
        ("root.pem", "other.pem", "is not that of the key"),
        ("reversed.pem", "other.pem", "is not that of the key"),
        ("broken.pem", "other.pem", "the chain is broken"),
        ("empty.pem", "key.pem", "holds no certificate"),
        ("key.pem", "key.pem", "holds no certificate"),
        ("root.pem", "other-root.pem", "holds no private key"),
        ("missing.pem", "key.pem", "missing.pem"),
        ("root.pem", "missing.pem", "missing.pem"),
    ] {
        let said = company.refusal(certificate, key).to_string();
        assert!(said.contains(says), "{certificate} with {key}: {said}");
    }
}

#[test]
fn an_own_key_is_refused_when_encrypted_or_open_to_everyone() {
    let company = Company::new();
    company.key("key.pem", P256);
    company.root("root.pem", "key.pem", "root");
    company.openssl("pkcs8 -topk8 -in @key.pem -out @sealed.pem -passout pass:four-words");
    fs::set_permissions(company.path("sealed.pem"), Permissions::from_mode(0o600)).unwrap();
    let said = company.refusal("root.pem", "sealed.pem").to_string();
    assert!(said.contains("passphrase"), "{said}");

    for (mode, fine) in [
        (0o644, false),
        (0o660, false),
        (0o604, false),
        (0o440, true),
        (0o400, true),
    ] {
        fs::set_permissions(company.path("key.pem"), Permissions::from_mode(mode)).unwrap();
        let opened = Authority::open(&company.source("root.pem", "key.pem"));
        assert_eq!(opened.is_ok(), fine, "mode {mode:o}");
        if let Err(error) = opened {
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }
}
