//! The 407, as the clients that people use take it: those that wait to be asked answer on the same
//! connection, those that do not are told what is wrong. (git and pip are asked in `clients`.)

use crate::clients::basic;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig, ended};
use crate::rig::root::Root;
use crate::rig::tap::Tap;
use crate::rig::tools;
use std::path::Path;

const TOKEN: &str = "agent-token-91b2c3";

/// An origin behind rules for one agent, and another in plain HTTP.
async fn setting(listen: &str) -> (Origin, Origin, Proxy, Tap) {
    let root = Root::new();
    let (origin, plain) = (
        Origin::start(&root, "api.test").await,
        Origin::plain("plain.test").await,
    );
    let rig = Rig::new(&root).reach(&origin).reach(&plain).listen(listen);
    let rig = rig
        .secret("CI_TOKEN", TOKEN)
        .config("agents: { ci: { token: ci_token } }");
    let proxy = rig.rule("host: [api.test, plain.test]").serve().await;
    let tap = Tap::before(proxy.address).await;
    (origin, plain, proxy, tap)
}

const TCP: &str = "127.0.0.1:0";

/// The client began without a word of who it is, and then said it.
pub fn asked_twice(line: &str, request: &str) {
    let heads: Vec<&str> = line
        .split(request)
        .skip(1)
        .map(|rest| rest.split("\r\n\r\n").next().unwrap())
        .collect();
    assert_eq!(heads.len(), 2, "two of {request:?} in {line:?}");
    let tells = heads
        .iter()
        .map(|head| head.to_lowercase().contains("\r\nproxy-authorization: basic "));
    assert_eq!(tells.collect::<Vec<_>>(), [false, true], "{heads:#?}");
}

#[tokio::test]
async fn curl_answers_a_407_on_the_same_connection() {
    let (origin, plain, proxy, _) = setting(TCP).await;
    for (url, request) in [
        ("https://api.test/hello", "CONNECT api.test:443 HTTP/1.1\r\n"),
        ("http://plain.test/hello", "GET http://plain.test/hello HTTP/1.1\r\n"),
    ] {
        let tap = Tap::before(proxy.address).await;
        let mut curl = proxy.client("curl");
        curl.args([
            "-sS",
            "--proxy-anyauth",
            "--proxy-user",
            &format!("ci:{TOKEN}"),
            "--cacert",
        ])
        .arg(&proxy.ca);
        let (fine, said) = ended({
            curl.args(["--proxy", &format!("http://{}", tap.address), url]);
            curl
        })
        .await;
        assert!(fine && said == "hello", "{said}");
        let lines = tap.lines();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        asked_twice(&lines[0], request);
    }
    for seen in [origin.only(), plain.only()] {
        assert!(!seen.headers.contains_key("proxy-authorization"), "{seen:#?}");
    }
}

#[tokio::test]
async fn libcurl_8_shows_its_token_over_http_1_and_2() {
    let (origin, _, proxy, _) = setting("{ bind: \"127.0.0.1:0\", tls: true }").await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/identity/proxied.py");
    let ca = proxy.ca.to_str().unwrap();
    // Over HTTP/2 libcurl gives up at a 407 and does not try again, so there it must not wait to be asked.
    for (kind, asked, spoken) in [
        ("http1", "any", "h1"),
        ("http1", "basic", "h1"),
        ("http2", "basic", "h2"),
    ] {
        let tap = Tap::before(proxy.address).await;
        let at = format!("https://localhost:{}", tap.address.port());
        let mut python = proxy.client(tools::python());
        python.arg(&script).args(["https://api.test/hello", &at, kind]);
        python.args([format!("userpwd=ci:{TOKEN}"), format!("auth={asked}")]);
        python.args([format!("cacert={ca}"), format!("proxy_cacert={ca}")]);
        let (_, said) = ended(python).await;
        assert!(said.starts_with(&format!("{spoken} 200 hello")), "{kind}: {said}");
        assert_eq!(tap.lines().len(), 1, "{said}");
    }
    let records = proxy.records(4).await;
    let codes: Vec<_> = records.iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["agent_unknown", "ok", "ok", "ok"]);
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn java_answers_a_407_by_its_authenticator() {
    let (origin, _, proxy, _) = setting(TCP).await;
    let trust = proxy.rig.dir().join("trust.p12");
    let export = ["ca", "export", "--format", "p12", "--out", trust.to_str().unwrap()];
    let exported = proxy.rig.command(&export).output().unwrap();
    assert!(exported.status.success(), "{exported:?}");
    std::fs::write(proxy.rig.dir().join("Asked.java"), include_str!("Asked.java")).unwrap();
    for client in ["HttpClient", "HttpURLConnection"] {
        let tap = Tap::before(proxy.address).await;
        let mut java = proxy.client("java");
        // Java answers no Basic challenge for a tunnel unless it is told that it may.
        java.arg("-Djdk.http.auth.tunneling.disabledSchemes=");
        java.arg(format!("-Djavax.net.ssl.trustStore={}", trust.display()));
        java.args([
            "-Djavax.net.ssl.trustStorePassword=changeit",
            "Asked.java",
            "https://api.test/hello",
        ]);
        java.args([&tap.address.port().to_string(), TOKEN, client]);
        let (fine, said) = ended(java).await;
        assert!(fine && said.lines().any(|line| line == "200"), "{client}: {said}");
        let lines = tap.lines();
        // Both close a connection on which they were asked, and answer on another.
        assert_eq!(lines.len(), 2, "{client}");
        asked_twice(&lines.concat(), "CONNECT api.test:443 HTTP/1.1\r\n");
    }
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn node_shows_the_token_of_its_proxy_url_and_says_what_is_wrong_without() {
    let (origin, _, proxy, tap) = setting(TCP).await;
    std::fs::write(
        proxy.rig.dir().join("client.cjs"),
        include_str!("../clients/scripts/client.cjs"),
    )
    .unwrap();
    let newer = tools::npm(".bin/node").canonicalize().unwrap();
    let undici = tools::npm("undici");
    // Node 24 reads the variables; before, programs bring an agent of undici's.
    let older = format!(
        "const {{ fetch, EnvHttpProxyAgent }} = require({:?}); fetch('https://api.test/node', \
        {{ method: 'POST', body: 'from node', dispatcher: new EnvHttpProxyAgent() }}) \
        .then(async (r) => console.log(r.status, (await r.json()).body)) \
        .catch((e) => {{ console.error(e, e.cause); process.exit(1) }})",
        undici.display().to_string()
    );
    for (node, arguments) in [
        (newer.as_path(), vec!["client.cjs", "fetch"]),
        (newer.as_path(), vec!["client.cjs", "https"]),
        (tools::need("node").as_path(), vec!["-e", older.as_str()]),
    ] {
        for (user, works) in [
            (format!("ci:{TOKEN}@"), true),
            (String::new(), false),
            ("ci:wrong@".to_owned(), false),
        ] {
            let mut node = proxy.client(node);
            node.args(&arguments)
                .env("HTTPS_PROXY", format!("http://{user}{}", tap.address));
            node.env("NODE_USE_ENV_PROXY", "1")
                .env("NODE_EXTRA_CA_CERTS", &proxy.ca);
            let before = origin.seen().len();
            let (fine, said) = ended(node).await;
            assert_eq!(fine, works, "{arguments:?} as {user:?}: {said}");
            let told = if works { "200 from node" } else { "407" };
            assert!(said.contains(told), "{arguments:?} as {user:?}: {said}");
            assert_eq!(origin.seen().len() - before, usize::from(works));
        }
    }
    let all = tap.lines().concat();
    assert!(all.contains(&format!("roxy-authorization: {}", basic("ci", TOKEN))) || all.contains(&basic("ci", TOKEN)));
}
