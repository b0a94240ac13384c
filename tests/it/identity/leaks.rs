//! Whatever Keyferry tells anybody, at its most talkative: no token and no credential is in it, in no spelling.

use crate::clients::basic;
use crate::rig::agent::{Agent, Http, Raw, get};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::{Root, Validity};
use crate::rig::script::Script;
use crate::rig::soon;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::net::SocketAddr;
use tokio::net::TcpStream;

const TOKEN: &str = "agent+token/91b2c3?d4e5";
const KEY: &str = "sk-live/0a1b+2c3d=4e5f6a7b8c";
const ADMIN: &str = "admin-token-5e6f7a8b9c0d";

/// The secret as it may be written: plain, percent-encoded, in hex, and in base64 wherever it may stand in a text.
fn spellings(secret: &str) -> Vec<String> {
    let percent: String = secret
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                (b as char).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let mut all = vec![
        secret.to_owned(),
        percent,
        hex.to_uppercase(),
        hex,
        secret.replace('/', "\\/"),
    ];
    for skipped in 0..3 {
        // What is the same in the base64 of any text with the secret in it, at this alignment.
        let text = [&b"\0\0\0"[..skipped], secret.as_bytes()].concat();
        for coded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            let from = [0, 2, 3][skipped];
            let to = coded.trim_end_matches('=').len() - 2;
            all.push(coded[from..to].to_owned());
        }
    }
    all
}

fn is_told(place: &str, said: &str, secrets: &[&str]) {
    for secret in secrets {
        for spelled in spellings(secret) {
            let at = said.find(&spelled);
            let near = at.map(|at| &said[said.floor_char_boundary(at.saturating_sub(200))..at]);
            assert!(at.is_none(), "{place} holds a secret as {spelled:?}, after {near:?}");
        }
    }
}

async fn setting() -> Proxy {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", Speaks::Both).await;
    let expired = Script::tls(
        root.server(&["expired.test"], Validity::Past, &["http/1.1"]),
        "expired.test",
        |_| async {},
    )
    .await;
    // It says what it got in places where an error is made of what it says.
    let rude = Script::start(&root, "rude.test", |mut line| async move {
        let head = line.head().await.unwrap_or_default();
        let key = head
            .lines()
            .find_map(|l| l.strip_prefix("x-api-key: "))
            .unwrap_or_default()
            .to_owned();
        line.say(format!(
            "HTTP/1.1 200 {key}\r\nContent-Length: {key}\r\nX-{key}: {key}\r\n\r\n"
        ))
        .await;
        line.bye().await;
    })
    .await;
    Rig::new(&root)
        .reach(&origin)
        .reach_script(&expired)
        .reach_script(&rude)
        .env("KEYFERRY_LOG", "trace")
        .secret("API_KEY", KEY)
        .secret("CI_TOKEN", TOKEN)
        .secret("ADMIN_TOKEN", ADMIN)
        .config("agents: { ci: { token: ci_token } }\nadmin: { bind: 127.0.0.1:0, token: admin_token }")
        .rule("name: query, host: api.test, allow: [GET /query], inject: [{ query: key, value: \"${api_key}\" }]")
        .rule("name: basic, host: api.test, allow: [GET /basic], inject: [{ basic: { user: u, password: api_key } }]")
        .rule("name: rest, host: [api.test, expired.test, rude.test], inject: [{ header: x-api-key, value: \"${api_key}\" }]")
        .serve()
        .await
}

#[tokio::test]
async fn no_token_or_credential_is_in_anything_that_is_told() {
    let proxy = setting().await;
    let agent = Agent {
        offer: Some(basic("ci", TOKEN)),
        ..proxy.agent.clone()
    };
    let mut told = String::new();
    for path in ["/hello", "/query?a=1", "/basic", "/redirect", "/status/500"] {
        for http2 in [false, true] {
            told += &asked(
                &mut crate::fidelity::by(&agent, http2).await,
                &format!("https://api.test{path}"),
            )
            .await;
        }
    }
    for host in ["rude.test", "expired.test"] {
        told += &asked(&mut agent.h1(host).await, &format!("https://{host}/hello")).await;
    }
    // Tokens in the wrong form or place, and lines that break off.
    for head in [
        format!(
            "CONNECT api.test:443 HTTP/1.1\r\nHost: b.test\r\nProxy-Authorization: {}\r\n\r\n",
            basic("ci", TOKEN)
        ),
        format!(
            "CONNECT nowhere.test:443 HTTP/1.1\r\nHost: nowhere.test:443\r\nProxy-Authorization: Bearer {TOKEN}\r\n\r\n"
        ),
        format!("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nProxy-Authorization: Token {TOKEN}\r\n\r\n"),
        format!("GET http://ci:{TOKEN}@api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        format!(
            "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nProxy-Authorization: Bearer {TOKEN}\r\nBad Header: {TOKEN}\r\n\r\n"
        ),
    ] {
        let mut raw = proxy.agent.dial().await;
        raw.say(head).await;
        told += &raw.head().await;
    }
    proxy.records(15).await;
    let secrets = [TOKEN, KEY, ADMIN];
    is_told("a reply", &told, &secrets);
    is_told("the audit log", &format!("{:?}", proxy.rig.audit()), &secrets);
    let log = proxy.child.log();
    assert!(
        log.contains("TRACE") && log.contains("DEBUG"),
        "the log is not at its most talkative"
    );
    is_told("the program's log", &log, &secrets);
    let admin = proxy.admin().await;
    for path in ["/metrics", "/status", "/audit?tail=1000", "/nothing"] {
        let said = ask(admin, path).await;
        assert!(said.starts_with("HTTP/1.1 200") || path == "/nothing", "{path}: {said}");
        is_told(path, &said, &secrets);
    }
}

/// All that comes back, whole or not.
async fn asked(http: &mut Http, url: &str) -> String {
    let mut ask = get(url);
    ask.headers_mut()
        .insert("proxy-authorization", basic("ci", TOKEN).parse().unwrap());
    let Ok(response) = http.send(ask).await else {
        return String::new();
    };
    let head = format!("{:?}", response.headers());
    let body = crate::rig::agent::Reply::read(response).await.map(|reply| reply.text());
    head + &body.unwrap_or_default()
}

async fn ask(admin: SocketAddr, path: &str) -> String {
    let mut raw = Raw::new(soon("the admin listener", TcpStream::connect(admin)).await.unwrap());
    raw.say(format!(
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {ADMIN}\r\nConnection: close\r\n\r\n"
    ))
    .await;
    String::from_utf8_lossy(&raw.rest().await.0).into_owned()
}

#[tokio::test]
async fn nothing_is_left_behind_in_a_core_file() {
    let root = Root::new();
    let proxy = Rig::new(&root).rule("host: a.test").serve().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.child.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
