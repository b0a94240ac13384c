//! Each way to give a credential, seen from the origin.

use crate::fidelity::PAIRS;
use crate::rig::agent::{Reply, get, request};
use crate::rig::origin::{Origin, Received, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use http::{HeaderValue, Method, Request, StatusCode};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

const KEY: &str = "sk-live-0a1b2c3d4e5f&/=%";
const STANDIN: &str = "sk-standin-000000000000";

async fn injecting(speaks: Speaks, inject: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::speaking(&root, "api.test", speaks).await;
    let rig = Rig::new(&root).reach(&origin).env("API_KEY", KEY);
    let rig = rig.secret_spec("api_key", &format!("{{ env: API_KEY, placeholder: {STANDIN} }}"));
    (
        origin,
        rig.rule(&format!("name: api, host: api.test, inject: [{{ {inject} }}]"))
            .serve()
            .await,
    )
}

/// What the origin received of one request, over each pairing.
async fn each_receives(inject: &str, ask: impl Fn() -> Request<crate::rig::origin::AnyBody>, seen: impl Fn(Received)) {
    for (http2, speaks) in PAIRS {
        let (origin, proxy) = injecting(speaks, inject).await;
        let reply = crate::fidelity::by(&proxy.agent, http2).await.reply(ask()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert!(!reply.text().contains(KEY));
        let one = origin.only();
        let all = format!("{one:?} {}", String::from_utf8_lossy(&one.body));
        assert!(!all.contains(STANDIN), "the placeholder reached the origin");
        seen(one);
        let record = proxy.record().await;
        assert_eq!(record["credentials"], serde_json::json!(["api_key"]));
        assert!(!record.to_string().contains("sk-live"), "{record}");
    }
}

#[tokio::test]
async fn a_query_parameter_is_set_encoded_and_replaces_the_agents() {
    let inject = "query: key, value: \"${api_key}\"";
    each_receives(
        inject,
        || get("https://api.test/map?a=1&key=mine&k%65y=mine2&b=%20"),
        |one| {
            assert_eq!(one.target.matches("sk-live").count(), 1, "{}", one.target);
            assert!(!one.target.contains("mine"), "{}", one.target);
            let (path, query) = one.target.split_once('?').unwrap();
            let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            assert_eq!(path, "/map");
            assert!(
                pairs.contains(&("key".into(), KEY.into())) && pairs.contains(&("a".into(), "1".into())),
                "{pairs:?}"
            );
            assert!(
                one.target.contains("b=%20"),
                "what the agent wrote is kept byte for byte: {}",
                one.target
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_cookie_stands_among_the_agents_others_and_replaces_its_own() {
    let ask = || {
        let mut ask = get("https://api.test/");
        // In HTTP/2 each is a field of its own (RFC 9113 §8.2.3).
        for theirs in ["a=1; session=mine;b=2", "SESSION=mine", "c=3", "%73ession=mine; d=\"4"] {
            ask.headers_mut().append("cookie", HeaderValue::from_static(theirs));
        }
        ask
    };
    each_receives("cookie: session, value: \"${api_key}\"", ask, |one| {
        let sent = one.all("cookie").join("; ");
        assert_eq!(sent, format!("session={KEY}; a=1; b=2; c=3; d=\"4"));
    })
    .await;
    each_receives(
        "cookie: session, value: \"${api_key}\"",
        || get("https://api.test/"),
        |one| {
            assert_eq!(one.all("cookie"), [format!("session={KEY}")]);
        },
    )
    .await;
}

#[tokio::test]
async fn a_cookie_that_a_host_sets_again_comes_back_masked_and_the_agents_copy_goes_nowhere() {
    let root = Root::new();
    let service = |request: Request<crate::rig::origin::AnyBody>, _| -> crate::rig::origin::Answer {
        let cookies = request.headers().get("cookie").unwrap().to_str().unwrap().to_owned();
        let first = cookies.split("; ").next().unwrap().to_owned();
        Box::pin(async move {
            let reply = crate::rig::routes::text(&cookies);
            crate::rig::routes::with(reply, "set-cookie", &format!("{first}; Path=/; HttpOnly"))
        })
    };
    let origin = Origin::with(&root, "api.test", Speaks::Both, std::sync::Arc::new(service)).await;
    let proxy = Rig::new(&root)
        .secret("API_KEY", "sk-live-0a1b2c3d4e5f")
        .reach(&origin)
        .rule("host: api.test, inject: [{ cookie: session, value: \"${api_key}\" }]")
        .serve()
        .await;
    let mut http = proxy.agent.h1("api.test").await;
    let reply = http.reply(get("https://api.test/")).await;
    let set = reply.header("set-cookie").to_owned();
    assert!(
        set.starts_with("session=") && set.ends_with("; Path=/; HttpOnly"),
        "{set}"
    );
    assert!(!set.contains("sk-live") && !reply.text().contains("sk-live"), "{set}");
    let mut ask = get("https://api.test/");
    let theirs = set.split(';').next().unwrap();
    ask.headers_mut()
        .insert("cookie", HeaderValue::from_str(theirs).unwrap());
    http.reply(ask).await;
    for seen in origin.seen() {
        assert_eq!(seen.all("cookie"), ["session=sk-live-0a1b2c3d4e5f"]);
    }
}

#[tokio::test]
async fn the_page_on_cookies_can_be_followed() {
    let root = Root::new();
    let origin = Origin::start(&root, "forum.example").await;
    let rig = Rig::new(&root);
    let (config, listen) = crate::pages::served(&rig, "cookie.md", "forum.example", origin.address);
    let changes = [("127.0.0.1:8080", &*listen)];
    let output = crate::pages::run(&rig, "cookie.md", &config, &changes).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("`session`"), "{said}");
    let seen = origin.seen();
    let last = seen.last().expect("no request came");
    assert_eq!(last.all("cookie"), ["session=the-session-of-the-forum; theme=dark"]);
}

#[tokio::test]
async fn a_placeholder_in_a_basic_password_is_swapped_inside_its_encoding() {
    let ask = || {
        let mut ask = get("https://api.test/");
        let offer = crate::clients::basic("me", STANDIN);
        ask.headers_mut()
            .insert("authorization", HeaderValue::from_str(&offer).unwrap());
        ask
    };
    each_receives("placeholder: api_key, in: [\"header:authorization\"]", ask, |one| {
        assert_eq!(crate::rig::routes::basic(&one.headers), Some(("me".into(), KEY.into())));
    })
    .await;
}

#[tokio::test]
async fn a_placeholder_in_a_json_body_is_swapped_and_the_length_follows() {
    let body = format!("{{\"a\": {{\"client_secret\" : \"{STANDIN}\"}},\n \"keep\": [1.0, \"\\u00e9\"]}}");
    let ask = || {
        let mut ask = request(Method::POST, "https://api.test/token", body.clone());
        ask.headers_mut()
            .insert("content-type", HeaderValue::from_static("application/json"));
        ask
    };
    let expected = body.replace(STANDIN, KEY);
    each_receives("placeholder: api_key, in: [\"body:/a/client_secret\"]", ask, |one| {
        assert_eq!(String::from_utf8_lossy(&one.body), expected);
        assert_eq!(one.all("content-length"), [expected.len().to_string()]);
    })
    .await;
}

#[tokio::test]
async fn a_placeholder_in_a_form_field_is_swapped_encoded() {
    let ask = || {
        let mut ask = request(
            Method::POST,
            "https://api.test/token",
            format!("grant=x+y&secret={STANDIN}&z=%20"),
        );
        ask.headers_mut().insert(
            "content-type",
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        ask
    };
    each_receives("placeholder: api_key, in: [\"body:/secret\"]", ask, |one| {
        let pairs: Vec<_> = url::form_urlencoded::parse(&one.body).into_owned().collect();
        assert_eq!(pairs[1], ("secret".to_owned(), KEY.to_owned()));
        assert!(one.body.starts_with(b"grant=x+y&") && one.body.ends_with(b"&z=%20"));
    })
    .await;
}

#[tokio::test]
async fn a_placeholder_in_the_path_or_query_is_swapped_encoded() {
    let inject = "placeholder: api_key, in: [path, \"query:key\"]";
    let encoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    each_receives(
        inject,
        || get(&format!("https://api.test/bot{STANDIN}/send?x=%20")),
        |one| {
            assert_eq!(
                encoded(one.target.split('?').next().unwrap()),
                format!("/bot{KEY}/send")
            );
            assert_eq!(
                one.target.matches('/').count(),
                2,
                "the credential opened a path segment: {}",
                one.target
            );
            assert!(one.target.ends_with("?x=%20"));
        },
    )
    .await;
    each_receives(
        inject,
        || get(&format!("https://api.test/send?key={STANDIN}")),
        |one| {
            let query = one.target.split_once('?').unwrap().1.to_owned();
            let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            assert_eq!(pairs, [("key".to_owned(), KEY.to_owned())]);
        },
    )
    .await;
}

#[tokio::test]
async fn a_placeholder_twice_in_one_place_is_refused() {
    let inject = "placeholder: api_key, in: [\"header:authorization\", \"query:key\", \"body:/k\"]";
    let (origin, proxy) = injecting(Speaks::Both, inject).await;
    let mut header = get("https://api.test/");
    let twice = format!("Bearer {STANDIN} {STANDIN}");
    header
        .headers_mut()
        .insert("authorization", HeaderValue::from_str(&twice).unwrap());
    let query = get(&format!("https://api.test/?key={STANDIN}&key={STANDIN}"));
    for ask in [header, query] {
        let reply: Reply = proxy.agent.h1("api.test").await.reply(ask).await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::FORBIDDEN, "placeholder_misplaced"),
            "{}",
            reply.text()
        );
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn a_placeholder_towards_another_host_is_blocked_and_explained() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let evil = Origin::start(&root, "evil.test").await;
    let proxy = Rig::new(&root)
        .reach(&api)
        .reach(&evil)
        .env("API_KEY", KEY)
        .secret_spec("api_key", &format!("{{ env: API_KEY, placeholder: {STANDIN} }}"))
        .rule("host: api.test, inject: [{ placeholder: api_key, in: [\"header:authorization\"] }]")
        .rule("host: evil.test")
        .serve()
        .await;
    let mut ask = get("https://evil.test/");
    ask.headers_mut().insert(
        "authorization",
        HeaderValue::from_static("Bearer sk-standin-000000000000"),
    );
    let reply = proxy.agent.h1("evil.test").await.reply(ask).await;
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::FORBIDDEN, "placeholder_misplaced")
    );
    assert!(reply.json()["hint"].is_string(), "{}", reply.text());
    assert_eq!(evil.seen().len(), 0);
    assert_eq!(proxy.record().await["code"], "placeholder_misplaced");
}

#[tokio::test]
async fn a_secret_file_that_changes_counts_from_then_on() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin);
    let file = rig.dir().join("token");
    std::fs::write(&file, "first-value-1\n").unwrap();
    let rig = rig.secret_spec("token", &format!("{{ file: {} }}", file.display()));
    let proxy = rig.rule("host: api.test, inject: [{ bearer: token }]").serve().await;
    proxy.agent.get("https://api.test/").await;
    assert_eq!(origin.only().all("authorization"), ["Bearer first-value-1"]);
    // As editors and secret stores replace it.
    let next = rig_file(&file, "second-value-2");
    std::fs::rename(next, &file).unwrap();
    comes_to(&proxy, &origin, "Bearer second-value-2").await;
}

/// `keyferry secret set token`, with the value where no other process sees it.
fn set(rig: &Rig, value: &str) {
    let mut command = rig.command(&["secret", "set", "token"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains(value), "{said}");
}

#[tokio::test]
async fn a_value_in_the_encrypted_file_is_given_and_a_new_one_from_then_on() {
    for passphrase in [false, true] {
        let root = Root::new();
        let origin = Origin::start(&root, "api.test").await;
        let mut rig = Rig::new(&root).reach(&origin).secret_spec("token", "{ store: token }");
        if passphrase {
            let file = rig.dir().join("passphrase");
            std::fs::write(&file, "correct horse battery staple").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            rig = rig.env("KEYFERRY_PASSPHRASE_FILE", file.to_str().unwrap());
        }
        let rig = rig.rule("host: api.test, inject: [{ bearer: token }]");
        set(&rig, "first-value-1");
        let proxy = rig.serve().await;
        proxy.agent.get("https://api.test/").await;
        assert_eq!(origin.only().all("authorization"), ["Bearer first-value-1"]);
        set(&proxy.rig, "second-value-2");
        comes_to(&proxy, &origin, "Bearer second-value-2").await;
    }
}

/// Asks until the origin has seen `authorization`.
async fn comes_to(proxy: &Proxy, origin: &Origin, authorization: &str) {
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        proxy.agent.get("https://api.test/").await;
        if origin.seen().pop().unwrap().all("authorization") == [authorization] {
            return;
        }
        assert!(std::time::Instant::now() < end, "the new value never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn rig_file(file: &std::path::Path, text: &str) -> std::path::PathBuf {
    let next = file.with_extension("next");
    std::fs::write(&next, text).unwrap();
    next
}

#[tokio::test]
async fn a_programs_output_is_the_credential_and_it_runs_once_for_many() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin);
    let runs = rig.dir().join("runs");
    let script = format!(
        "echo run >>{}; sleep 0.3; echo from-a-program; echo noise-on-stderr >&2",
        runs.display()
    );
    let rig = rig.secret_spec(
        "token",
        &format!("{{ exec: [\"/bin/sh\", \"-c\", \"{script}\"], ttl: 10m }}"),
    );
    let proxy = rig.rule("host: api.test, inject: [{ bearer: token }]").serve().await;
    let asked = (0..8).map(|_| proxy.agent.get("https://api.test/"));
    for reply in futures_util::future::join_all(asked).await {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    }
    assert!(
        origin
            .seen()
            .iter()
            .all(|one| one.all("authorization") == ["Bearer from-a-program"])
    );
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    assert!(!proxy.child.log().contains("noise-on-stderr"));
}
