//! Paths that two servers read in two ways: a rule about paths is not talked round, and what is allowed goes out as
//! it was written.

use super::frames::Frames;
use super::witness::Witness;
use super::{KEY, kept};
use crate::rig::agent::{Raw, content_length, status};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;

const OPEN: &str = "name: open, host: api.test, allow: [\"* /repos/**\"], inject: [{ bearer: api_key }]";
const SHUT: &str = "name: shut, host: api.test, allow: [\"* /admin/**\"], deny: \"not here\"";
const REST: &str = "name: rest, host: api.test, inject: [{ bearer: api_key }]";

async fn before(rules: &[&str]) -> (Witness, Proxy) {
    let root = Root::new();
    let api = Witness::start(&root, "api.test").await;
    let mut rig = Rig::new(&root).reach_as("api.test", api.address).secret("API_KEY", KEY);
    for rule in rules {
        rig = rig.rule(rule);
    }
    (api, rig.serve().await)
}

/// The path over HTTP/1.1, as it is; the status and the body of the answer.
async fn over1(proxy: &Proxy, path: &str) -> (u16, String) {
    let mut raw: Raw<_> = proxy.agent.raw("api.test").await;
    raw.say(format!("GET {path} HTTP/1.1\r\nHost: api.test\r\n\r\n")).await;
    let head = raw.head().await;
    let body = raw.bytes(content_length(&head)).await;
    (status(&head), String::from_utf8_lossy(&body).into_owned())
}

/// The path over HTTP/2.
async fn over2(proxy: &Proxy, path: &str) -> u16 {
    let mut frames = Frames::greet(proxy.agent.tls("api.test", &["h2"]).await).await;
    let list = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "api.test"),
        (":path", path),
    ];
    frames.head(1, &list, true).await;
    frames.outcome(1).await.status()
}

/// What is neither below `/repos` nor free of `/admin` to everyone.
const TRICKS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/keys",
    "/repos/../admin",
    "/repos/../admin/",
    "/repos/./../admin",
    "/repos/a/../../admin",
    "/repos/%2e%2e/admin",
    "/repos/%2E%2E/admin",
    "/repos/.%2e/admin",
    "/repos/%2e./admin",
    "/repos/..%2fadmin",
    "/repos/..%2Fadmin",
    "/repos%2f..%2fadmin",
    "/repos/%2e%2e%2fadmin",
    "/repos/..%5cadmin",
    "/repos/..\\admin",
    "/repos\\..\\admin",
    "/repos/%5c..%5cadmin",
    "/repos/..;/admin",
    "/repos/..;a=b/admin",
    "/repos/.;/../admin",
    "/repos/%2e%2e;/admin",
    "/repos/..%3b/admin",
    "/repos/..%00/admin",
    "/repos/..%20/admin",
    "/repos/%252e%252e/admin",
    "/repos/%25%32%65%25%32%65/admin",
    "/repos/%c0%ae%c0%ae/admin",
    "/repos/%e0%80%ae%e0%80%ae/admin",
    "/repos/..%c0%afadmin",
    "/repos/%u002e%u002e/admin",
    "/repos/..%ef%bc%8fadmin",
    "/repos/..\u{ff0f}admin",
    "//admin",
    "///admin",
    "/./admin",
    "/.//admin",
    "/%2fadmin",
    "/%2Fadmin",
    "/%2e/admin",
    "/repos//../admin",
    "/x/../admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/adm%69n/keys",
    "/admin%00",
    "/admin%00.png",
    "/admin%0a",
    "/admin%20/../admin",
    "/admin;x",
    "/admin;/keys",
    "/;/admin",
    "/;x/admin",
    "/ADMIN",
    "/Admin/keys",
    "/%41dmin",
    "/admin?",
    "/admin?a=/repos/",
    "/admin#/repos/",
    "/admin%2fkeys",
    "/admin%3fx",
    "/admin%23",
    "/admin%",
    "/admin%zz",
    "/admin%2",
    "\\admin",
    "/\\admin",
    "/repos/%",
    "/repos/%g0",
    "*",
    "https://api.test/admin",
    "https://api.test/repos/../admin",
    "https://api.test//admin",
    "https://api.test?/repos/",
    "https://api.test\\admin",
];

#[tokio::test]
async fn no_spelling_of_a_path_leads_out_of_what_a_rule_allows() {
    let (api, proxy) = before(&[OPEN]).await;
    for path in TRICKS {
        let (code, body) = over1(&proxy, path).await;
        assert!([400, 403].contains(&code), "{path}: {code} {body}");
        let code = over2(&proxy, path).await;
        assert!([0, 400, 403].contains(&code), "{path} over HTTP/2: {code}");
    }
    assert_eq!((api.requests(), api.broken()), (vec![], vec![]));
    kept(&proxy, &[]);
}

/// What some server makes of a path: decoded twice at most, backslashes turned, dots resolved, slashes merged,
/// parameters dropped, in lower case.
fn as_some_server_reads(path: &str) -> String {
    let mut text = path.split(['?', '#']).next().unwrap().to_lowercase();
    for _ in 0..2 {
        text = percent_encoding::percent_decode_str(&text)
            .decode_utf8_lossy()
            .into_owned();
    }
    let text = text.replace(['\\', '\u{ff0f}'], "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text
        .split('/')
        .map(|s| s.split([';', '\0', '?', '#']).next().unwrap().trim())
    {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_round_a_rule_that_denies() {
    // Whatever is not denied is allowed here, and still no server may see the denied path in what arrives.
    let (api, proxy) = before(&[SHUT, REST]).await;
    for path in TRICKS {
        over1(&proxy, path).await;
        over2(&proxy, path).await;
    }
    for one in api.requests() {
        let read = as_some_server_reads(&one.target);
        let denied = read == "/admin" || read.starts_with("/admin/");
        assert!(!denied, "{} may be read as {read}", one.target);
    }
    let (code, body) = over1(&proxy, "/admin/keys").await;
    assert!(code == 403 && body.contains("not here"), "{code} {body}");
    let (code, body) = over1(&proxy, "/repos/../admin").await;
    assert!(code == 403 && body.contains("ambiguous_path"), "{code} {body}");
    // It is about that path and no other.
    for path in ["/administrator", "/repos/admin", "/x/admin", "/"] {
        assert_eq!(over1(&proxy, path).await.0, 200, "{path}");
    }
    kept(&proxy, &[]);
}

#[tokio::test]
async fn what_is_allowed_goes_out_byte_for_byte() {
    let (api, proxy) = before(&[OPEN]).await;
    for path in [
        "/repos",
        "/repos/",
        "/repos/a%20b",
        "/repos/%61%62",
        "/repos/@scope%2fname",
        "/repos/@scope%2Fname",
        "/repos/a+b~c!d$e'f(g)h*i,j;k=l:m@n",
        "/repos/%E2%82%AC",
        "/repos/%e2%82%ac",
        "/repos/...",
        "/repos/.git/config",
        "/repos/a..b",
        "/repos/a?x=/../admin&y=%2e%2e#",
        "/repos/?/../../admin",
        "/repos/a?",
        "/repos/a;v=1/b",
        "/repos/a?b={c}|d^e~f",
    ] {
        for http2 in [false, true] {
            let code = if http2 {
                over2(&proxy, path).await
            } else {
                over1(&proxy, path).await.0
            };
            assert_eq!(code, 200, "{path}, HTTP/2: {http2}");
            // A fragment is for the agent alone (RFC 9110 §4.2.5).
            let sent = path.split('#').next().unwrap();
            assert_eq!(api.requests().pop().unwrap().target, sent);
        }
    }
}

#[tokio::test]
async fn raw_utf8_goes_out_percent_encoded_and_is_judged_as_that() {
    let (api, proxy) = before(&[OPEN]).await;
    for (path, sent) in [
        ("/repos/caf\u{e9}?q=\u{e9}", "/repos/caf%C3%A9?q=%C3%A9"),
        // To a server that reads Latin-1, the second byte of this letter is a blank.
        ("/repos/\u{e0}/admin", "/repos/%C3%A0/admin"),
        ("/repos/\u{20ac}%20", "/repos/%E2%82%AC%20"),
    ] {
        assert_eq!(over1(&proxy, path).await.0, 200, "{path}");
        assert_eq!(api.requests().pop().unwrap().target, sent);
    }
    assert_eq!(over1(&proxy, "/caf\u{e9}").await.0, 403);
}

#[tokio::test]
async fn no_header_talks_a_rule_about_methods_round() {
    let rule = "host: api.test, allow: [\"GET /repos/**\", \"POST /repos/**\"], inject: [{ bearer: api_key }]";
    let (api, proxy) = before(&[rule]).await;
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "x-method-override"] {
        for (method, code) in [
            ("DELETE", 403),
            ("delete", 403),
            ("PATCH", 403),
            ("GET", 200),
            ("POST", 200),
        ] {
            let mut raw: Raw<_> = proxy.agent.raw("api.test").await;
            raw.say(format!(
                "POST /repos/a HTTP/1.1\r\nHost: api.test\r\n{name}: {method}\r\n\r\n"
            ))
            .await;
            assert_eq!(status(&raw.head().await), code, "{name}: {method}");
        }
    }
    for method in ["get", "Get", "gET", "DELETE", "GET2", "PROPFIND"] {
        let mut raw: Raw<_> = proxy.agent.raw("api.test").await;
        raw.say(format!("{method} /repos/a HTTP/1.1\r\nHost: api.test\r\n\r\n"))
            .await;
        assert_eq!(status(&raw.head().await), 403, "{method}");
    }
    assert!(api.requests().iter().all(|one| one.method == "POST"));
}
