//! Requests signed by a keyed hash, as Python's `hmac` checks them; and those that are refused, as they could be read in two
//! ways.

mod page;

use crate::fidelity::by;
use crate::rig::agent::{Raw, get, request};
use crate::rig::origin::{AnyBody, Origin};
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::tools;
use crate::signing::servers::{Server, free};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, Request};
use std::path::Path;
use std::process::Command;

pub const KEY: &str = "hook-key-0a1b2c3d4e5f";

/// A key of bytes that no text holds.
pub fn key64() -> String {
    STANDARD.encode([0, 0xff, b'\n', 7, 200, 31, 99, 0x80, 1, 2, 3, 4])
}

/// As GitHub signs what it sends.
const HOOK: &str =
    "hmac: { key: hook_key, signed: \"${body}\", headers: { x-hub-signature-256: \"sha256=${signature}\" } }";
/// As exchanges have it.
const TRADE: &str = "hmac: { key: trade_key, key_encoding: base64, algorithm: sha512, encoding: base64, \
    signed: \"${timestamp}${nonce}${method}${path_and_query}${body}\", headers: { access-sign: \"${signature}\", \
    access-timestamp: \"${timestamp}\", access-nonce: \"${nonce}\", access-key: \"${secret:key_id}\" } }";
/// Line by line, a header of the agent's among them.
const LIST: &str = "hmac: { key: hook_key, algorithm: sha1, timestamp: rfc3339, signed: \"${method}\\n${path}\\n${query}\\n\
    ${host}\\n${header:content-type}\\n${timestamp}\\n${body_sha256_base64}\", \
    headers: { authorization: \"HMAC ${signature}\", x-date: \"${timestamp}\" } }";

pub async fn verifier(root: &Root, names: &[&str], dir: &Path) -> Server {
    let at = free().await;
    let mut command = Command::new(tools::python());
    bare(&mut command, dir);
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/hmac/scripts/verifier.py"
        ))
        .args([&at.port().to_string(), KEY, &key64()]);
    Server::start(root, names, command, at).await
}

fn rig(root: &Root) -> Rig {
    let rig = Rig::new(root)
        .secret("HOOK_KEY", KEY)
        .secret("TRADE_KEY", &key64())
        .secret("KEY_ID", "key-id-0001");
    [("hook", HOOK), ("trade", TRADE), ("list", LIST)]
        .into_iter()
        .fold(rig, |rig, (name, inject)| {
            rig.rule(&format!(
                "name: {name}, host: api.test, allow: [\"* /{name}/**\"], inject: [{{ {inject} }}]"
            ))
        })
}

async fn before(dir: &Path) -> (Server, Proxy) {
    let root = Root::new();
    let server = verifier(&root, &["api.test"], dir).await;
    let proxy = rig(&root).reach_as("api.test", server.address).serve().await;
    (server, proxy)
}

fn with(mut ask: Request<AnyBody>, fields: &[(&'static str, &'static str)]) -> Request<AnyBody> {
    for (name, value) in fields {
        ask.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    ask
}

/// What an agent's own client may have signed with.
const THEIRS: &[(&str, &str)] = &[
    ("x-hub-signature-256", "sha256=0"),
    ("x_hub_signature_256", "sha256=0"),
    ("access-sign", "0"),
    ("access-timestamp", "1"),
    ("access-nonce", "1"),
    ("authorization", "HMAC 0"),
    ("x-date", "never"),
];

/// What the verifier tells of one request.
async fn told(proxy: &Proxy, http2: bool, path: &str, body: &str) -> serde_json::Value {
    let url = format!("https://api.test{path}");
    let ask = match body {
        "" => get(&url),
        body => with(
            request(Method::POST, &url, body.to_owned()),
            &[("content-type", "text/plain")],
        ),
    };
    let reply = by(&proxy.agent, http2).await.reply(with(ask, THEIRS)).await;
    assert_eq!(reply.status, 200, "{path} {}", reply.text());
    let told: serde_json::Value = reply.json();
    // What some server could take for the header that this rule fills; to another rule it is any header.
    let mut names = told["headers"].as_object().unwrap().keys();
    let alias = names.any(|name| name.eq_ignore_ascii_case("x_hub_signature_256"));
    assert_eq!(alias, !path.starts_with("/hook"), "{told}");
    told
}

#[tokio::test]
async fn what_is_signed_by_a_keyed_hash_is_confirmed_by_pythons_own() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, proxy) = before(dir.path()).await;
    let large = "{\"a\": 1}\n".repeat(200_000);
    for http2 in [false, true] {
        for (path, body) in [
            ("/hook/a", ""),
            ("/hook/a?b=%20&c", "{\"a\": 1}\n"),
            ("/hook/a", &large),
            ("/trade/orders?symbol=A%2FB&limit=1", ""),
            ("/trade/orders", "{\"side\": \"buy\"}"),
            ("/trade/%C3%A9", "\0\u{1}\n"),
            ("/list/a/b?c=d&e", "text"),
            ("/list/", ""),
        ] {
            let told = told(&proxy, http2, path, body).await;
            assert_eq!(
                (&told["ok"], &told["length"]),
                (&true.into(), &body.len().into()),
                "{path}"
            );
        }
    }
    let record = proxy.records(1).await.remove(0);
    assert_eq!(record["credentials"], serde_json::json!(["hook_key"]));
}

#[tokio::test]
async fn what_is_signed_is_what_another_injection_has_left_of_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new();
    let server = verifier(&root, &["api.test"], dir.path()).await;
    let proxy = Rig::new(&root)
        .secret("TRADE_KEY", &key64())
        .secret("KEY_ID", "key-id-0001")
        .reach_as("api.test", server.address)
        .rule(&format!(
            "host: api.test, inject: [{{ {TRADE} }}, {{ query: key, value: \"${{key_id}}\" }}]"
        ))
        .serve()
        .await;
    for http2 in [false, true] {
        for path in ["/trade/orders", "/trade/orders?limit=1&key=mine"] {
            let told = told(&proxy, http2, path, "").await;
            assert_eq!(told["ok"], true, "{path} {told}");
        }
    }
}

#[tokio::test]
async fn a_signature_that_is_told_again_is_masked() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, proxy) = before(dir.path()).await;
    for (path, name) in [
        ("/hook/", "x-hub-signature-256"),
        ("/trade/", "access-sign"),
        ("/list/", "authorization"),
    ] {
        let told = told(&proxy, false, path, "body").await;
        let shown = told["headers"].as_object().unwrap();
        let (_, text) = shown
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .unwrap();
        let digits = text.as_str().unwrap();
        let digits = digits.trim_start_matches("sha256=").trim_start_matches("HMAC ");
        let mask = digits.as_bytes()[0];
        assert!(digits.len() >= 40 && digits.bytes().all(|byte| byte == mask), "{text}");
        let id = shown.iter().find(|(other, _)| other.eq_ignore_ascii_case("access-key"));
        assert!(id.is_none_or(|(_, id)| id != "key-id-0001"), "{id:?}");
    }
}

#[tokio::test]
async fn a_request_whose_signed_parts_could_be_read_in_two_ways_is_refused() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = rig(&root).reach(&origin).serve().await;
    for http2 in [false, true] {
        for fields in [
            &[("content-type", "text/plain"), ("content-type", "text/html")][..],
            &[("content-type", "text/plain"), ("content_type", "text/html")],
            &[("content_type", "text/html")],
            &[("content-type", "")],
            &[("content-type", "a\tb")],
        ] {
            let mut http = by(&proxy.agent, http2).await;
            let reply = http.reply(with(get("https://api.test/list/"), fields)).await;
            assert_eq!(
                (reply.status.as_u16(), reply.code()),
                (422, "request_unsignable"),
                "{fields:?} {}",
                reply.text()
            );
        }
    }
    // A byte that is no ASCII, as one reads Latin-1 and another UTF-8; and what no field may hold at all.
    for bytes in [&b"\xe9"[..], b"a\rb", b"a\nPOST", b"a\0b"] {
        let mut raw: Raw<_> = proxy.agent.raw("api.test").await;
        raw.say(
            [
                b"GET /list/ HTTP/1.1\r\nhost: api.test\r\ncontent-type: ",
                bytes,
                b"\r\n\r\n",
            ]
            .concat(),
        )
        .await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 4"), "{head}");
    }
    let huge = "x".repeat(16 * 1024 * 1024 + 1);
    let reply = by(&proxy.agent, true)
        .await
        .reply(request(Method::POST, "https://api.test/hook/", huge))
        .await;
    assert_eq!(reply.code(), "body_too_large");
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn the_presets_of_exchanges_sign_as_those_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new();
    let server = verifier(&root, &["www.okx.com", "api.bybit.com"], dir.path()).await;
    let proxy = Rig::new(&root)
        .reach_as("www.okx.com", server.address)
        .reach_as("api.bybit.com", server.address)
        .env("OKX_SECRET_KEY", KEY)
        .env("OKX_API_KEY", "key-id-0001")
        .env("OKX_PASSPHRASE", "pass-0001")
        .env("BYBIT_API_SECRET", KEY)
        .env("BYBIT_API_KEY", "key-id-0001")
        .rule("preset: okx")
        .rule("preset: bybit")
        .serve()
        .await;
    for (url, body) in [
        ("https://www.okx.com/api/v5/account/balance?ccy=BTC", ""),
        ("https://www.okx.com/api/v5/trade/order", "{\"sz\": \"1\"}"),
        (
            "https://api.bybit.com/v5/order/realtime?category=spot&symbol=BTCUSDT",
            "",
        ),
        ("https://api.bybit.com/v5/order/create", "{\"qty\": \"1\"}"),
    ] {
        let ask = match body {
            "" => get(url),
            body => request(Method::POST, url, body),
        };
        let host = url.split('/').nth(2).unwrap();
        let reply = proxy.agent.h1(host).await.reply(ask).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["ok"]),
            (200, &true.into()),
            "{url} {}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_refusal_by_a_service_whose_clock_differs_is_told_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new();
    let server = verifier(&root, &["api.test"], dir.path()).await;
    for (offset, words) in [
        ("-600s", Some("ahead of this machine's")),
        ("+600s", Some("behind this machine's")),
        ("+0s", None),
    ] {
        let rig = rig(&root).reach_as("api.test", server.address);
        let proxy = crate::clock::off(rig, offset).serve().await;
        let reply = proxy.agent.get("https://api.test/trade/").await;
        assert_eq!(
            reply.status,
            if words.is_some() { 401 } else { 200 },
            "{}",
            reply.text()
        );
        let record = proxy.record().await;
        let reason = record["reason"].as_str();
        assert_eq!(reason.is_some(), words.is_some(), "{record:#}");
        assert!(words.is_none_or(|words| reason.unwrap().contains(words)), "{record:#}");
        assert_eq!(record["outcome"], "ok");
    }
}

#[tokio::test]
async fn a_key_that_is_not_written_as_the_rule_says_lets_nothing_out() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = Rig::new(&root)
        .secret("HOOK_KEY", KEY)
        .reach(&origin)
        .rule(&format!(
            "host: api.test, inject: [{{ {} }}]",
            HOOK.replace("hook_key,", "hook_key, key_encoding: hex,")
        ))
        .serve()
        .await;
    let reply = proxy.agent.get("https://api.test/").await;
    assert_eq!((reply.status.as_u16(), reply.code()), (502, "credential_unfit"));
    assert_eq!(origin.connections(), 0);
}
