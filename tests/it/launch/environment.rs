//! The environment of the command, asked of the tools that read it.

use super::{caller, given, made};
use crate::rig::tools;
use keyferry::launch::{Reason, agent_environment};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

const PROXY: &str = "http://127.0.0.1:9";
const WITH_TOKEN: &str = "http://ci:tok123@127.0.0.1:9";

fn ask(program: &str, arguments: &[&str], env: &BTreeMap<String, String>) -> String {
    let output = Command::new(tools::need(program))
        .args(arguments)
        .env_clear()
        .env("PATH", tools::path())
        .envs(env)
        .output()
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn every_spelling_of_proxy_and_roots_is_set_over_the_callers() {
    let dir = tempdir().unwrap();
    let given = given(WITH_TOKEN, dir.path());
    let caller = [
        ("HTTPS_PROXY", "http://corp.example:3128"),
        ("http_proxy", "http://corp.example:3128"),
        ("NO_PROXY", "*"),
        ("no_proxy", ".example"),
        ("SSL_CERT_FILE", "/nowhere.pem"),
        ("SSL_CERT_DIR", "/etc/ssl/own"),
        ("LANG", "C"),
    ];
    let env = made(&caller, &given);
    for scheme in ["http", "https", "all"] {
        assert_eq!(env[&format!("{scheme}_proxy")], WITH_TOKEN);
        assert_eq!(env[&format!("{}_PROXY", scheme.to_uppercase())], WITH_TOKEN);
    }
    assert_eq!(env["NO_PROXY"], "localhost,127.0.0.1,::1");
    assert_eq!(env["no_proxy"], env["NO_PROXY"]);
    let bundle = given.dir.join("bundle.pem");
    for name in [
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "npm_config_cafile",
    ] {
        assert_eq!(Path::new(&env[name]), bundle);
    }
    assert_eq!(Path::new(&env["NODE_EXTRA_CA_CERTS"]), given.dir.join("ca.pem"));
    assert_eq!(
        (env["LANG"].as_str(), env["SSL_CERT_DIR"].as_str()),
        ("C", "/etc/ssl/own")
    );
}

#[test]
fn roots_the_caller_gave_to_one_client_are_trusted_by_all() {
    let dir = tempdir().unwrap();
    let corporate = dir.path().join("corporate.pem");
    std::fs::write(&corporate, "-- corporate root --").unwrap();
    let name = corporate.to_str().unwrap();
    let given = given(PROXY, dir.path());
    let env = made(
        &[
            ("NODE_EXTRA_CA_CERTS", name),
            ("PIP_CERT", name),
            ("AWS_CA_BUNDLE", "/gone"),
        ],
        &given,
    );
    for variable in ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
        let bundle = std::fs::read_to_string(&env[variable]).unwrap();
        assert_eq!(bundle.matches("-- corporate root --").count(), 1);
        let ours = std::fs::read_to_string(&given.ca_pem).unwrap();
        assert!(bundle.contains(ours.trim()));
    }
}

#[test]
fn credentials_stay_behind_and_stand_ins_take_their_place() {
    let dir = tempdir().unwrap();
    let mut given = given(PROXY, dir.path());
    given.placeholders = vec![("GITHUB_TOKEN".into(), "ghp_stand_in".into())];
    given.withheld = vec!["GITHUB_TOKEN".into(), "ODD_SOURCE".into()];
    given.keep = vec!["KEPT_TOKEN".into(), "ODD_SOURCE".into()];
    let vars = [
        ("GITHUB_TOKEN", "ghp_real"),
        ("ODD_SOURCE", "real"),
        ("KEPT_TOKEN", "wanted"),
        ("DB_PASSWORD", "real"),
        ("DATABASE_URL", "postgres://u:real@db/x"),
        ("SSH_AUTH_SOCK", "/run/agent"),
        ("KEYFERRY_PASSPHRASE", "real"),
        ("EMPTY_TOKEN", ""),
        ("EDITOR", "vi"),
    ];
    let made = agent_environment(caller(&vars), &given).unwrap();
    let text = format!("{:?}", made.vars);
    assert!(!text.contains("real"), "{text}");
    assert!(text.contains(r#"("GITHUB_TOKEN", "ghp_stand_in")"#));
    assert!(text.contains(r#"("KEPT_TOKEN", "wanted")"#) && text.contains(r#"("EDITOR", "vi")"#));
    let told: Vec<_> = made
        .withheld
        .iter()
        .map(|it| (it.name.to_str().unwrap(), it.reason))
        .collect();
    let expected = [
        ("DATABASE_URL", Reason::Value),
        ("DB_PASSWORD", Reason::Name),
        ("KEYFERRY_PASSPHRASE", Reason::Access),
        ("ODD_SOURCE", Reason::Source),
        ("SSH_AUTH_SOCK", Reason::Access),
    ];
    assert_eq!(told, expected);
}

#[test]
fn git_keeps_the_callers_settings_and_heeds_ours() {
    let dir = tempdir().unwrap();
    let mut given = given(WITH_TOKEN, dir.path());
    given.git_over_https = vec!["github.com".into()];
    let home = dir.path().to_str().unwrap();
    std::fs::write(
        dir.path().join(".gitconfig"),
        "[credential]\nhelper = store\n[http]\nproxy = http://other\n",
    )
    .unwrap();
    let vars = [
        ("HOME", home),
        ("GIT_CONFIG_COUNT", "2"),
        ("GIT_CONFIG_KEY_0", "user.name"),
        ("GIT_CONFIG_VALUE_0", "Someone Else"),
        ("GIT_CONFIG_KEY_1", "http.extraheader"),
        ("GIT_CONFIG_VALUE_1", "AUTHORIZATION: basic eDp5"),
    ];
    let env = made(&vars, &given);
    let config = |name: &str| ask("git", &["config", "--get-all", name], &env);
    assert_eq!(config("user.name"), "Someone Else\n");
    assert_eq!(config("http.proxyAuthMethod"), "basic\n");
    assert!(config("http.proxy").ends_with(&format!("{WITH_TOKEN}\n")));
    assert_eq!(config("http.extraheader"), "\n");
    assert_eq!(
        config("credential.helper"),
        "store\n\n",
        "an empty last one clears the list"
    );
    let repo = dir.path().join("repo");
    ask("git", &["init", "-q", repo.to_str().unwrap()], &env);
    let at = ["-C", repo.to_str().unwrap()];
    ask(
        "git",
        &[&at[..], &["remote", "add", "o", "git@github.com:acme/x.git"]].concat(),
        &env,
    );
    let remote = ask("git", &[&at[..], &["remote", "get-url", "o"]].concat(), &env);
    assert_eq!(remote, "https://github.com/acme/x.git\n");
}

#[test]
fn java_takes_the_options_even_from_a_directory_with_spaces() {
    let dir = tempdir().unwrap();
    let given = given("http://[::1]:7071", &dir.path().join("with some space"));
    let env = made(&[("JAVA_TOOL_OPTIONS", "-Dcallers.own=\"a b\"")], &given);
    let settings = ask("java", &["-XshowSettings:properties", "-version"], &env);
    let store = given.dir.join("truststore.p12");
    for line in [
        "callers.own = a b",
        "https.proxyHost = ::1",
        "https.proxyPort = 7071",
        "http.proxyHost = ::1",
        "http.nonProxyHosts = localhost|127.0.0.1|[::1]|127.*",
        "javax.net.ssl.trustStoreType = PKCS12",
        &format!("javax.net.ssl.trustStore = {}", store.display()),
    ] {
        assert!(settings.contains(line), "no `{line}` in\n{settings}");
    }
}

#[test]
fn wget_keeps_its_users_settings_without_the_passwords() {
    let dir = tempdir().unwrap();
    let own = "tries = 3\nhttp-password = hunter2\nheader = Authorization: x\nhttps_proxy = http://corp\nquiet = on";
    std::fs::write(dir.path().join(".wgetrc"), own).unwrap();
    let given = given(PROXY, dir.path());
    let env = made(&[("HOME", dir.path().to_str().unwrap())], &given);
    let text = std::fs::read_to_string(&env["WGETRC"]).unwrap();
    assert!(
        text.starts_with("tries = 3\n") && text.contains("quiet = on\n"),
        "{text}"
    );
    assert!(!text.contains("hunter2") && !text.contains("Authorization"), "{text}");
    assert!(text.rfind("https_proxy = http://127.0.0.1:9") > text.rfind("https_proxy = http://corp"));
    // wget itself reads it: a bad line would end it with code 2.
    let said = ask("wget", &["-O-", "http://nowhere.test/"], &env);
    assert!(
        !said.contains("Error in") && !said.contains("unknown command"),
        "{said}"
    );
}

#[test]
fn apt_reads_our_settings_after_the_callers() {
    let dir = tempdir().unwrap();
    let own = dir.path().join("own.conf");
    std::fs::write(
        &own,
        "Keyferry::Test \"kept\";\nAcquire::https::Proxy \"http://corp\";\n",
    )
    .unwrap();
    let given = given(PROXY, dir.path());
    let env = made(&[("APT_CONFIG", own.to_str().unwrap())], &given);
    let settings = ask("apt-config", &["dump"], &env);
    let bundle = given.dir.join("bundle.pem");
    for line in [
        "Keyferry::Test \"kept\";".to_owned(),
        format!("Acquire::https::Proxy \"{PROXY}\";"),
        format!("Acquire::https::CAInfo \"{}\";", bundle.display()),
    ] {
        assert!(settings.contains(&line), "no `{line}`");
    }
    // apt fetches as a user of its own.
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&given.dir), mode(&bundle)), (0o711, 0o644));
    assert_eq!(
        mode(&given.dir.join("apt.conf")),
        0o600,
        "it may hold the proxy's token"
    );
}

#[test]
fn a_directory_that_cannot_be_quoted_is_refused() {
    let dir = tempdir().unwrap();
    let mut given = given(PROXY, dir.path());
    given.dir = dir.path().join("it's");
    let refused = agent_environment(caller(&[]), &given).unwrap_err();
    assert!(refused.to_string().contains("set TMPDIR to a plain absolute path"));
}
