//! The stand-in that the agent holds is worth nothing anywhere but in its own place, once, towards its own host:
//! anywhere else it is stopped, explained and on record.

use super::witness::Witness;
use super::{KEY, kept};
use crate::rig::agent::{Raw, content_length, status};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncWrite};

/// What the agent holds in the place of [`KEY`].
const HELD: &str = "sk-test-00112233445566778899aabb";

struct Before {
    api: Witness,
    other: Witness,
    proxy: Proxy,
}

async fn before(places: &str) -> Before {
    let root = Root::new();
    let api = Witness::start(&root, "api.test").await;
    let other = Witness::start(&root, "other.test").await;
    let plain = Witness::plain().await;
    let proxy = Rig::new(&root)
        .reach_as("api.test", api.address)
        .reach_as("other.test", other.address)
        .reach_as("plain.test", plain.address)
        .env("API_KEY", KEY)
        .secret_spec("api_key", &format!("{{ env: API_KEY, placeholder: {HELD} }}"))
        .rule(&format!(
            "host: api.test, inject: [{{ placeholder: api_key, in: [{places}] }}]"
        ))
        .rule("host: other.test")
        .rule("host: plain.test")
        .serve()
        .await;
    Before { api, other, proxy }
}

async fn answer<I: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<I>) -> (u16, String) {
    let head = raw.head().await;
    let body = raw.bytes(content_length(&head)).await;
    (status(&head), String::from_utf8_lossy(&body).into_owned())
}

impl Before {
    async fn says(&self, host: &str, head: &str) -> (u16, String) {
        let mut raw = self.proxy.agent.raw(host).await;
        raw.say(head.replace("{held}", HELD)).await;
        answer(&mut raw).await
    }
}

#[tokio::test]
async fn a_stand_in_out_of_its_place_is_stopped_explained_and_on_record() {
    let before = before("\"header:authorization\"").await;
    let basic = STANDARD.encode(format!("user:{HELD}"));
    let as_user = STANDARD.encode(format!("{HELD}:x"));
    let mut count = 0;
    for (host, lines) in [
        // Another field than its own.
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nX-Api-Key: {held}\r\n\r\n",
        ),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nCookie: a=1; token={held}\r\n\r\n",
        ),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nReferer: https://api.test/?t={held}\r\n\r\n",
        ),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nUser-Agent: x {held}\r\n\r\n",
        ),
        ("api.test", "GET / HTTP/1.1\r\nHost: api.test\r\nOrigin: {held}\r\n\r\n"),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nX-Basic: Basic {basic}\r\n\r\n",
        ),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization2: {held}\r\n\r\n",
        ),
        // The path and the query.
        ("api.test", "GET /?token={held} HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        ("api.test", "GET /a/{held}/b HTTP/1.1\r\nHost: api.test\r\n\r\n"),
        // More than once.
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: {held} {held}\r\n\r\n",
        ),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: {held}{held}\r\n\r\n",
        ),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: {held}\r\nAuthorization: {held}\r\n\r\n",
        ),
        (
            "api.test",
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: {held}\r\nX-Copy: {held}\r\n\r\n",
        ),
        // Another host.
        (
            "other.test",
            "GET / HTTP/1.1\r\nHost: other.test\r\nAuthorization: Bearer {held}\r\n\r\n",
        ),
        (
            "other.test",
            "GET / HTTP/1.1\r\nHost: other.test\r\nAuthorization: Basic {basic}\r\n\r\n",
        ),
        (
            "other.test",
            "GET / HTTP/1.1\r\nHost: other.test\r\nAuthorization: basic   {as_user}\r\n\r\n",
        ),
        ("other.test", "GET /{held} HTTP/1.1\r\nHost: other.test\r\n\r\n"),
        ("other.test", "GET /?a={held} HTTP/1.1\r\nHost: other.test\r\n\r\n"),
        (
            "other.test",
            "GET / HTTP/1.1\r\nHost: other.test\r\nCookie: {held}\r\n\r\n",
        ),
    ] {
        let lines = lines.replace("{basic}", &basic).replace("{as_user}", &as_user);
        let (code, body) = before.says(host, &lines).await;
        let explained = body.contains("placeholder_misplaced") && body.contains("`api_key`") && !body.contains(HELD);
        assert!(code == 403 && explained, "{lines}: {code} {body}");
        count += 1;
    }
    // In the clear, as a request to the proxy itself.
    let mut raw = before.proxy.agent.dial().await;
    raw.say(format!(
        "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nAuthorization: Bearer {HELD}\r\n\r\n"
    ))
    .await;
    let (code, body) = answer(&mut raw).await;
    assert!(code == 403 && body.contains("placeholder_misplaced"), "{code} {body}");
    let records = before.proxy.records(count + 1).await;
    for record in records {
        assert_eq!(
            (&record["code"], &record["outcome"]),
            (&"placeholder_misplaced".into(), &"denied".into())
        );
    }
    assert_eq!((before.api.connections(), before.other.connections()), (0, 0));
    kept(&before.proxy, &[]);
}

#[tokio::test]
async fn a_stand_in_in_its_place_is_swapped_there_and_nowhere_else() {
    let before = before("\"header:authorization\", \"query:token\", path").await;
    let basic = STANDARD.encode(format!("user:{HELD}"));
    for (text, target, authorization) in [
        (
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {held}\r\n\r\n",
            "/",
            format!("Bearer {KEY}"),
        ),
        (
            "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Basic {basic}\r\n\r\n",
            "/",
            format!("Basic {}", STANDARD.encode(format!("user:{KEY}"))),
        ),
        (
            "GET /?a=1&token={held} HTTP/1.1\r\nHost: api.test\r\n\r\n",
            "/?a=1&token={key}",
            String::new(),
        ),
        (
            "GET /bot{held}/send HTTP/1.1\r\nHost: api.test\r\n\r\n",
            "/bot{key}/send",
            String::new(),
        ),
    ] {
        let (code, body) = before.says("api.test", &text.replace("{basic}", &basic)).await;
        assert_eq!(code, 200, "{text}: {body}");
        let seen = before.api.requests().pop().unwrap();
        let given = seen.all("authorization").concat();
        assert_eq!((seen.target, given), (target.replace("{key}", KEY), authorization));
    }
    for text in [
        "GET /?other={held} HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /?token={held}&token={held} HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /?token={held}{held} HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /{held}/{held} HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /{held}?b={held} HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /?{held}=token HTTP/1.1\r\nHost: api.test\r\n\r\n",
        "GET /?token2={held} HTTP/1.1\r\nHost: api.test\r\n\r\n",
    ] {
        let (code, body) = before.says("api.test", text).await;
        assert!(
            code == 403 && body.contains("placeholder_misplaced"),
            "{text}: {code} {body}"
        );
    }
    assert_eq!(before.api.requests().len(), 4);
    kept(&before.proxy, &[]);
}

#[tokio::test]
async fn a_stand_in_in_a_body_is_swapped_in_its_field_only() {
    let before = before("\"body:/auth/token\"").await;
    let post = |kind: &str, body: &str| {
        let body = body.replace("{held}", HELD);
        format!(
            "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for body in [
        r#"{"auth":{"token":"{held}"}}"#,
        r#"{"a":[1,2],"auth":{"x":null,"token":"{held}"}}"#,
    ] {
        let (code, told) = before.says("api.test", &post("application/json", body)).await;
        assert_eq!(code, 200, "{body}: {told}");
        let sent = String::from_utf8(before.api.requests().pop().unwrap().body).unwrap();
        assert_eq!(sent, body.replace("{held}", KEY));
    }
    let count = before.api.requests().len();
    for body in [
        r#"{"auth":{"token":"{held}","token":"{held}"}}"#,
        r#"{"auth":{"token":"{held}{held}"}}"#,
        r#"{"auth":{"token":{"deep":"{held}"}}}"#,
        r#"{"auth":{"other":"{held}"}}"#,
        r#"{"auth":{"{held}":"x"}}"#,
        r#"{"auth":{"token":"{held}"},"copy":"{held}"}"#,
        r#"["{held}"]"#,
    ] {
        let (code, told) = before.says("api.test", &post("application/json", body)).await;
        assert!([403, 422].contains(&code), "{body}: {code} {told}");
    }
    for body in ["auth=x&token={held}", "/auth/token={held}"] {
        let kind = "application/x-www-form-urlencoded";
        let (code, told) = before.says("api.test", &post(kind, body)).await;
        assert!([403, 422].contains(&code), "{body}: {code} {told}");
    }
    assert_eq!(before.api.requests().len(), count);
    kept(&before.proxy, &[]);
}
