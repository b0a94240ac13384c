//! One table of faults that every store is held to: a server that does as it is told stands in for each.

use super::{RULE, given, refusal};
use crate::rig::admin::page;
use crate::rig::agent::get;
use crate::rig::origin::{Answer, Origin, Service, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{PATIENCE, routes};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// What an answer that is no good says, and nobody may hear of.
const WORDS: &str = "words-of-the-store-0123456789";

/// One kind of store.
struct Kind {
    host: &'static str,
    /// Further lines of the config.
    config: &'static str,
    /// The secret, before its times.
    spec: &'static str,
    /// The answer that holds a value.
    good: fn(&str) -> Value,
}

const KINDS: &[Kind] = &[
    Kind {
        host: "secretsmanager.eu-west-1.amazonaws.com",
        config: "aws: { region: eu-west-1, access_key_id: shown, secret_access_key: shown, timeout: 1s }",
        spec: "aws_secret: { id: x",
        good: |value| json!({"Name": "x", "SecretString": value}),
    },
    Kind {
        host: "ssm.eu-west-1.amazonaws.com",
        config: "aws: { region: eu-west-1, access_key_id: shown, secret_access_key: shown, timeout: 1s }",
        spec: "aws_parameter: { name: x",
        good: |value| json!({"Parameter": {"Name": "x", "Value": value}}),
    },
    Kind {
        host: "secretmanager.googleapis.com",
        config: "",
        spec: "gcp_secret: { name: projects/p/secrets/s, token: shown, timeout: 1s",
        good: |value| json!({"name": "s", "payload": {"data": STANDARD.encode(value)}}),
    },
    Kind {
        host: "acme.vault.azure.net",
        config: "",
        spec: "azure_secret: { vault: \"https://acme.vault.azure.net\", name: x, token: shown, timeout: 1s",
        good: |value| json!({"id": "https://acme.vault.azure.net/secrets/x/1", "value": value}),
    },
    Kind {
        host: "connect.test",
        config: "onepassword: { connect: \"https://connect.test\", token: shown, timeout: 1s }",
        spec: "onepassword_item: { vault: abcdefghijklmnopqrstuvwx01, item: abcdefghijklmnopqrstuvwx02",
        good: |value| json!({"title": "x", "fields": [{"id": "notes"}, {"id": "credential", "value": value}]}),
    },
    Kind {
        host: "kube.test",
        config: "kubernetes: { api: \"https://kube.test\", token: shown, namespace: prod, timeout: 1s }",
        spec: "kubernetes_secret: { name: x, key: k",
        good: |value| json!({"kind": "Secret", "data": {"k": STANDARD.encode(value), "other": "eA=="}}),
    },
];

/// What is shown to each store.
const SHOWN: &str = "shown-to-the-store-0123456789";

/// A store that does as it is told, and an API that takes one value alone, once it is told which.
struct Told {
    /// How the store answers, and with which value.
    how: Arc<Mutex<(&'static str, &'static str)>>,
    takes: Arc<Mutex<Option<&'static str>>>,
    store: Origin,
    api: Origin,
    proxy: Proxy,
}

async fn told(root: &Root, kind: &Kind, times: &str) -> Told {
    let how = Arc::new(Mutex::new(("good", "value-number-one")));
    let (say, good) = (Arc::clone(&how), kind.good);
    let service: Service = Arc::new(move |_, _| {
        let (how, value) = *say.lock().unwrap();
        Box::pin(answer(how, good(value)))
    });
    let store = Origin::with(root, kind.host, Speaks::Both, service).await;
    let takes = Arc::new(Mutex::new(None));
    let taken = Arc::clone(&takes);
    let service: Service = Arc::new(move |request, _| -> Answer {
        let shown = request.headers()["authorization"].to_str().unwrap().to_owned();
        let refused = taken
            .lock()
            .unwrap()
            .is_some_and(|value| shown != format!("Bearer {value}"));
        Box::pin(async move {
            match refused {
                true => routes::empty(StatusCode::UNAUTHORIZED),
                false => routes::text("hello"),
            }
        })
    });
    let api = Origin::with(root, "api.test", Speaks::Both, service).await;
    let proxy = Rig::new(root)
        .reach(&store)
        .reach(&api)
        .config(kind.config)
        .config("admin: 127.0.0.1:0")
        .secret("SHOWN", SHOWN)
        .secret_spec("key", &format!("{{ {}, {times} }} }}", kind.spec))
        .rule(RULE)
        .serve()
        .await;
    Told {
        how,
        takes,
        store,
        api,
        proxy,
    }
}

async fn answer(how: &str, good: Value) -> http::Response<crate::rig::origin::AnyBody> {
    match how {
        "good" => routes::json(&good),
        "garbage" => routes::text(WORDS),
        "empty" => routes::json(&json!({})),
        "other" => routes::json(&json!([{"value": WORDS}, WORDS])),
        "long" => routes::bytes(vec![b' '; 300_000], "application/json"),
        "slow" => std::future::pending().await,
        _ => {
            let status = how.parse().unwrap();
            let mut refused =
                routes::json(&json!({"error": WORDS, "message": WORDS, "__type": WORDS, "errors": [WORDS]}));
            *refused.status_mut() = status;
            refused
                .headers_mut()
                .insert("location", "https://api.test/".parse().unwrap());
            refused
        }
    }
}

#[tokio::test]
async fn a_store_that_answers_no_value_lets_nothing_out_and_none_of_its_words_are_told() {
    let root = Root::new();
    for kind in KINDS {
        let each = [
            "garbage", "empty", "other", "long", "slow", "302", "400", "403", "404", "429", "500", "503",
        ];
        let root = &root;
        let each = each.map(|how| async move {
            let told = told(root, kind, "ttl: 5m").await;
            told.how.lock().unwrap().0 = how;
            let said = refusal(&told.proxy, &told.api).await;
            assert!(said.contains(kind.host), "{how}: {said}");
            for value in [WORDS, SHOWN, "value-number"] {
                assert!(!said.contains(value), "{}: {how}: {said}", kind.host);
            }
            assert_eq!(told.api.connections(), 0, "{how}");
        });
        join_all(each).await;
    }
}

#[tokio::test]
async fn while_a_store_fails_the_last_value_serves_its_grace_and_a_new_one_is_taken_up_after() {
    let root = Root::new();
    let each = KINDS.iter().map(|kind| async {
        let told = told(&root, kind, "ttl: 1s, grace: 4s").await;
        let first = given(&told.proxy, &told.api).await;
        assert_eq!(first.as_deref(), Some("value-number-one"), "{}", told.proxy.child.log());
        // In the middle of a rotation: slow, then nonsense, then an error.
        let begun = Instant::now();
        let mut last = begun;
        for how in ["slow", "garbage", "500"].iter().cycle() {
            told.how.lock().unwrap().0 = how;
            tokio::time::sleep(Duration::from_millis(300)).await;
            match given(&told.proxy, &told.api).await {
                Some(value) => assert_eq!(value, "value-number-one"),
                None => break,
            }
            last = Instant::now();
            assert!(begun.elapsed() < PATIENCE, "a value outlives its grace");
        }
        assert!(
            last - begun > Duration::from_secs(3),
            "{}: it serves only for {:?}",
            kind.host,
            last - begun
        );
        *told.how.lock().unwrap() = ("good", "value-number-two");
        super::until_given(&told.proxy, &told.api, "value-number-two").await;
        // A failure that is over leaves no trace: the next value comes as soon as the first is old.
        *told.how.lock().unwrap() = ("good", "value-number-three");
        super::until_given(&told.proxy, &told.api, "value-number-three").await;
        let metrics = page(&told.proxy, "/metrics").await;
        for counted in [
            "keyferry_secret_fetches_total{result=\"ok\",secret=\"key\"} ",
            "keyferry_secret_fetches_total{result=\"failed\",secret=\"key\"} ",
            "keyferry_secret_fetched_timestamp_seconds{secret=\"key\"} ",
        ] {
            assert!(metrics.contains(counted), "{counted}: {metrics}");
        }
        assert!(!metrics.contains("value-number"));
    });
    join_all(each).await;
}

#[tokio::test]
async fn a_value_that_a_host_refuses_is_fetched_anew_once_and_the_request_sent_once_more() {
    let root = Root::new();
    let each = KINDS.iter().map(|kind| async {
        let told = told(&root, kind, "ttl: 1h").await;
        assert_eq!(given(&told.proxy, &told.api).await.as_deref(), Some("value-number-one"));
        // It must have some age: whoever can bring about refusals must not have it fetched without end.
        tokio::time::sleep(Duration::from_secs(6)).await;
        told.how.lock().unwrap().1 = "value-number-two";
        *told.takes.lock().unwrap() = Some("value-number-two");
        let asked = || async {
            let mut http = told.proxy.agent.h2("api.test").await;
            http.reply(get("https://api.test/hello")).await.status.as_u16()
        };
        let all = join_all((0..8).map(|_| asked())).await;
        assert_eq!(all, [200; 8], "{}: {}", kind.host, told.proxy.child.log());
        assert_eq!(told.store.seen().len(), 2, "{}", kind.host);
        // Another refusal right away is the agent's to hear.
        *told.takes.lock().unwrap() = Some("value-number-three");
        assert_eq!(asked().await, 401);
        assert_eq!(told.store.seen().len(), 2, "{}", kind.host);
    });
    join_all(each).await;
}
