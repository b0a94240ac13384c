//! Each TLS library accepts what is minted, and each of these tests shows first that it would have
//! refused: with another CA trusted, the same visit fails.

use super::{Server, hosts, probe, run, said};
use crate::rig::tools;
use keyferry::ca::authority::Authority;
use keyferry::config::model::CaSource;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A server, and the trust file of a CA that has nothing to do with it.
fn server_and_stranger() -> (Server, PathBuf) {
    let server = Server::start(&CaSource::Memory);
    let stranger = server.folder.path().join("stranger.pem");
    let other = Authority::open(&CaSource::Memory).unwrap();
    std::fs::write(&stranger, other.certificate_pem()).unwrap();
    (server, stranger)
}

/// `visit` succeeds for all hosts with our CA and fails with the other.
fn accepted(server: &Server, stranger: &Path, visit: impl Fn(&Path, &[&str]) -> Output) {
    let hosts = hosts();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for host in &hosts {
        let refused = visit(stranger, &[host]);
        assert!(
            !refused.status.success(),
            "{host} with a CA nobody trusts: {}",
            said(&refused)
        );
    }
    let output = visit(server.ca(), &hosts);
    assert!(output.status.success(), "{}", said(&output));
    let lines = String::from_utf8_lossy(&output.stdout);
    for host in &hosts {
        assert!(lines.contains(&format!("accepted {host}")), "{}", said(&output));
    }
}

fn openssl(server: &Server, ca: &Path, host: &str, more: &[&str]) -> Output {
    let target = server.address.to_string();
    let ca = ca.to_str().unwrap();
    let mut args = vec![
        "s_client",
        "-connect",
        &target,
        "-brief",
        "-verify_return_error",
        "-x509_strict",
    ];
    args.extend(["-purpose", "sslserver", "-no-CApath", "-no-CAstore", "-CAfile", ca]);
    match host.parse::<std::net::IpAddr>() {
        Ok(_) => args.extend(["-noservername", "-verify_ip", host]),
        Err(_) => args.extend(["-servername", host, "-verify_hostname", host]),
    }
    args.extend(more);
    run("openssl", &args, &[])
}

#[test]
fn openssl_accepts_leaves_in_its_strict_mode() {
    let (server, stranger) = server_and_stranger();
    for host in hosts() {
        assert!(!openssl(&server, &stranger, &host, &[]).status.success());
        for version in ["-tls1_3", "-tls1_2"] {
            let output = openssl(&server, server.ca(), &host, &[version]);
            assert!(output.status.success(), "{host} {version}: {}", said(&output));
        }
    }
    // The name is checked, not only the chain.
    let target = server.address.to_string();
    let ca = server.ca().to_str().unwrap();
    let args = [
        "s_client",
        "-connect",
        &target,
        "-servername",
        "leaf.test",
        "-verify_hostname",
        "other.test",
    ];
    let other = run(
        "openssl",
        &[&args[..], &["-verify_return_error", "-CAfile", ca]].concat(),
        &[],
    );
    assert!(!other.status.success());
}

#[test]
fn alpn_offers_h2_and_http_1_1() {
    let server = Server::start(&CaSource::Memory);
    for protocol in ["h2", "http/1.1"] {
        // -brief does not print the protocol agreed on.
        let target = server.address.to_string();
        let output = run(
            "openssl",
            &[
                "s_client",
                "-connect",
                &target,
                "-servername",
                "a.test",
                "-alpn",
                protocol,
            ],
            &[],
        );
        assert!(
            said(&output).contains(&format!("ALPN protocol: {protocol}")),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn gnutls_accepts_leaves() {
    let (server, stranger) = server_and_stranger();
    let port = server.port();
    let visit = |ca: &Path, host: &str, priority: &str| {
        let file = format!("--x509cafile={}", ca.display());
        let (verify, sni) = (format!("--verify-hostname={host}"), format!("--sni-hostname={host}"));
        let priority = format!("--priority={priority}");
        let mut args = vec!["--port", &port, &file, &verify, &priority];
        match host.parse::<std::net::IpAddr>() {
            Ok(_) => args.push("--disable-sni"),
            Err(_) => args.push(&sni),
        }
        args.push("127.0.0.1");
        run("gnutls-cli", &args, &[])
    };
    for host in hosts() {
        assert!(!visit(&stranger, &host, "NORMAL").status.success());
        for priority in ["NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.2"] {
            let output = visit(server.ca(), &host, priority);
            assert!(output.status.success(), "{host} {priority}: {}", said(&output));
        }
    }
}

#[test]
fn certtool_verifies_a_leaf_against_the_root() {
    let authority = Authority::open(&CaSource::Memory).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (root, chain) = (folder.path().join("root.pem"), folder.path().join("chain.pem"));
    std::fs::write(&root, authority.certificate_pem()).unwrap();
    let leaf = authority
        .mint(&keyferry::base::host::Host::parse("leaf.test").unwrap())
        .unwrap();
    std::fs::write(&chain, super::own::pem("CERTIFICATE", &leaf.certified.cert[0])).unwrap();
    let output = run(
        "certtool",
        &[
            "--verify",
            "--verify-hostname=leaf.test",
            "--verify-profile=high",
            &format!("--load-ca-certificate={}", root.display()),
            &format!("--infile={}", chain.display()),
        ],
        &[],
    );
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn python_accepts_leaves_as_strictly_as_3_13_does() {
    let (server, stranger) = server_and_stranger();
    let script = probe("probe.py");
    accepted(&server, &stranger, |ca, hosts| {
        let port = server.port();
        let args = [&[script.to_str().unwrap(), ca.to_str().unwrap(), &port], hosts].concat();
        run("python3", &args, &[])
    });
}

#[test]
fn node_accepts_leaves() {
    let (server, stranger) = server_and_stranger();
    let script = probe("probe.js");
    accepted(&server, &stranger, |ca, hosts| {
        let port = server.port();
        let args = [&[script.to_str().unwrap(), &*port], hosts].concat();
        run("node", &args, &[("NODE_EXTRA_CA_CERTS", ca.to_str().unwrap())])
    });
}

#[test]
fn go_accepts_leaves() {
    let (server, stranger) = server_and_stranger();
    let program = server.folder.path().join("probe");
    let built = run(
        "go",
        &[
            "build",
            "-o",
            program.to_str().unwrap(),
            probe("probe.go").to_str().unwrap(),
        ],
        &[("GO111MODULE", "off")],
    );
    assert!(built.status.success(), "{}", said(&built));
    accepted(&server, &stranger, |ca, hosts| {
        let port = server.port();
        let args = [&[ca.to_str().unwrap(), &*port], hosts].concat();
        std::process::Command::new(&program)
            .args(args)
            .env_clear()
            .output()
            .unwrap()
    });
}

#[test]
fn java_accepts_leaves_with_the_trust_store_that_is_written() {
    let (server, _) = server_and_stranger();
    let names = server.folder.path().join("hosts");
    let [name, long, ip] = hosts();
    std::fs::write(&names, format!("127.0.0.1 {name}\n127.0.0.1 {long}\n")).unwrap();
    let visit = |options: &[&str]| {
        let names = format!("-Djdk.net.hosts.file={}", names.display());
        let source = probe("Probe.java");
        let port = server.port();
        let rest = [&names, source.to_str().unwrap(), &port, &name, &long, &ip];
        run("java", &[options, &rest[..]].concat(), &[])
    };
    let refused = visit(&[]);
    assert!(
        !refused.status.success(),
        "Java trusts what it was not told of: {}",
        said(&refused)
    );
    let store = format!(
        "-Djavax.net.ssl.trustStore={}",
        server.bundle.truststore_p12().display()
    );
    for more in [&[][..], &["-Djavax.net.ssl.trustStorePassword=changeit"]] {
        let output = visit(&[&[store.as_str()], more].concat());
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn keytool_lists_our_ca_and_the_systems_roots_as_trusted() {
    let server = Server::start(&CaSource::Memory);
    tools::need("keytool");
    let store = server.bundle.truststore_p12().to_str().unwrap();
    for password in [&["-storepass", "changeit"][..], &["-storepass", "any-other"]] {
        let args = [&["-list", "-keystore", store], password].concat();
        let output = run("keytool", &args, &[]);
        assert!(output.status.success(), "{}", said(&output));
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let trusted = listed.matches("trustedCertEntry").count();
        assert!(listed.contains("keyferry, "), "{listed}");
        assert_eq!(trusted, 1 + server.bundle.other_roots(), "{listed}");
        assert!(
            server.bundle.other_roots() > 50,
            "this machine has no system roots; install ca-certificates"
        );
    }
}
