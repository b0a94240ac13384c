//! Secrets that stores of others keep: each by its real server where there is one, and all of them by one table of faults.

mod aws;
mod aws_clocks;
mod aws_roles;
mod clouds;
mod keyring;
mod kubernetes;
mod onepassword;
mod secret_service;
mod services;
mod table;
mod vault;

use crate::rig::agent::get;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::{PATIENCE, eventually};
use std::net::SocketAddr;

/// The rule by which the API gets the secret `key`.
pub const RULE: &str = "name: api, host: api.test, inject: [{ bearer: key }]";

/// What goes out to the API with one request; nothing when it is refused.
pub async fn given(proxy: &Proxy, api: &Origin) -> Option<String> {
    let mut http = proxy.agent.h2("api.test").await;
    let reply = http.reply(get("https://api.test/hello")).await;
    match reply.status.as_u16() {
        200 => {
            let shown = api.seen().pop().unwrap().all("authorization").remove(0);
            Some(shown.strip_prefix("Bearer ").unwrap().to_owned())
        }
        _ => {
            assert_eq!(reply.code(), "credential_unavailable");
            None
        }
    }
}

/// Asks until `value` goes out.
pub async fn until_given(proxy: &Proxy, api: &Origin, value: &str) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let last = given(proxy, api).await;
        if last.as_deref() == Some(value) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "{last:?} is given, and not the newer one: {}",
            proxy.child.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The record of a request that is refused for want of its credential, and all else that was said meanwhile.
pub async fn refusal(proxy: &Proxy, api: &Origin) -> String {
    assert_eq!(given(proxy, api).await, None);
    let record = eventually("the record of the refusal", || {
        proxy.rig.audit().into_iter().rfind(|record| record["status"] == 502)
    });
    format!("{}{}", record.await, proxy.child.log())
}

/// Runs `keyferry secret check`, and returns how it ended and what it said.
pub fn tried(rig: &Rig) -> (Option<i32>, String) {
    let output = rig.command(&["secret", "check"]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// An example of the page, by its number, for the test's API, and with further changes.
pub fn example(number: usize, changes: &[(&str, &str)]) -> String {
    let page = crate::pages::blocks("stores.md", "yaml").remove(number);
    let changes = [("api.stripe.com", "api.test")].iter().chain(changes);
    changes.fold(page, |page, (from, to)| {
        assert!(page.contains(from), "the example does not say {from}: {page}");
        page.replace(from, to)
    })
}

/// Does what the page says with an example of its: the API is asked once. These names lead to these addresses; `changes`
/// are for what is typed.
pub async fn follow(rig: &Rig, page: &str, api: &Origin, servers: &[(&str, SocketAddr)], changes: &[(&str, &str)]) {
    let port = crate::signing::servers::free().await.port();
    let names = servers.iter().copied().chain([("api.test", api.address)]);
    let names: Vec<_> = names.map(|(name, at)| format!("\"{name}\": \"{at}\"")).collect();
    let config = format!(
        "listen: [127.0.0.1:{port}]\nupstream:\n  roots: [{}]\n  resolve: {{ {} }}\n  allow_networks: [127.0.0.0/8]\n{page}",
        rig.dir().join("root.pem").display(),
        names.join(", "),
    );
    let at = format!("127.0.0.1:{port}");
    let usual = [("127.0.0.1:8080", &*at), ("api.stripe.com", "api.test")];
    let changes: Vec<_> = usual.into_iter().chain(changes.iter().copied()).collect();
    let output = crate::pages::run(rig, "stores.md", &config, &changes).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("stripe") && said.contains("ok: "), "{said}");
    assert!(said.contains("`stripe` as `Authorization: Bearer`"), "{said}");
}

#[test]
fn a_credential_of_systemd_is_wanted_where_systemd_passes_none() {
    let root = crate::rig::root::Root::new();
    let rig = Rig::new(&root).rule(RULE).secret_spec("key", "{ credential: api_key }");
    let (code, said) = tried(&rig);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("add `LoadCredential=api_key:PATH` to the unit"), "{said}");
    std::fs::write(rig.dir().join("api_key"), "sk-passed-0123456789\n").unwrap();
    let there = rig.dir().to_str().unwrap().to_owned();
    let (code, said) = tried(&rig.env("CREDENTIALS_DIRECTORY", &there));
    assert_eq!(code, Some(0), "{said}");
}

/// A document whose field is wanted.
const DOCUMENT: &str =
    r#"{"key": "of-NAME-0123456789", "deep": {"list": ["x", "deep-NAME-0123456789"]}, "lines": "a\nb"}"#;

fn set(rig: &Rig, entry: &str, text: &str) {
    let mut command = rig.command(&["secret", "set", entry]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A rig with a secret from each source, each a field of a document, and a rule that shows all of them.
fn from_everywhere(root: &crate::rig::root::Root, api: &Origin, of: impl Fn(&str) -> String) -> Rig {
    let rig = Rig::new(root)
        .reach(api)
        .env("A_VARIABLE", &of("variable"))
        .secret_spec("variable", "{ env: A_VARIABLE, field: key, agent_env: [] }")
        .secret_spec("file", "{ file: a.json, field: key }")
        .secret_spec("program", "{ exec: [cat, program.json], field: /deep/list/1 }")
        .secret_spec("passed", "{ credential: passed.json, field: key }")
        .secret_spec("stored", "{ store: a, field: key }");
    let there = rig.dir().to_str().unwrap().to_owned();
    for (file, name) in [
        ("a.json", "file"),
        ("program.json", "program"),
        ("passed.json", "passed"),
    ] {
        std::fs::write(rig.dir().join(file), of(name)).unwrap();
    }
    let names = ["variable", "file", "program", "passed", "stored"];
    let inject = names
        .map(|name| format!("{{ header: x-{name}, value: \"${{{name}}}\" }}"))
        .join(", ");
    rig.env("CREDENTIALS_DIRECTORY", &there)
        .rule(&format!("host: api.test, inject: [{inject}]"))
}

#[tokio::test]
async fn a_field_is_picked_of_what_a_variable_a_file_a_program_systemd_or_the_encrypted_file_holds() {
    let root = crate::rig::root::Root::new();
    let api = Origin::start(&root, "api.test").await;
    let of = |name: &str| DOCUMENT.replace("NAME", name);
    let rig = from_everywhere(&root, &api, of);
    set(&rig, "a", &of("stored"));
    let proxy = rig.serve().await;
    let seen = async |name: &str| {
        assert_eq!(
            proxy.agent.get("https://api.test/hello").await.status,
            200,
            "{}",
            proxy.child.log()
        );
        api.seen().pop().unwrap().all(&format!("x-{name}")).remove(0)
    };
    for (name, value) in [
        ("variable", "of-variable"),
        ("file", "of-file"),
        ("program", "deep-program"),
        ("passed", "of-passed"),
        ("stored", "of-stored"),
    ] {
        assert_eq!(seen(name).await, format!("{value}-0123456789"));
    }
    // A new document is taken up, and one without the field is not.
    std::fs::write(proxy.rig.dir().join("a.json"), "{\"other\": \"never-0123456789\"}").unwrap();
    eventually("the complaint", || {
        proxy
            .child
            .log()
            .contains("no JSON object with a text under its `field`")
            .then_some(())
    })
    .await;
    assert_eq!(seen("file").await, "of-file-0123456789");
    std::fs::write(proxy.rig.dir().join("a.json"), of("newer")).unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    while seen("file").await != "of-newer-0123456789" {
        assert!(tokio::time::Instant::now() < end, "{}", proxy.child.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let log = proxy.child.log();
    assert!(!log.contains("0123456789"), "{log}");
}
