//! A program of the operator's that says with what headers a request is sent.

mod page;

use crate::fidelity::by;
use crate::rig::agent::{Agent, get, request};
use crate::rig::origin::{Answer, AnyBody, Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::routes;
use futures_util::future::join_all;
use http::{HeaderValue, Method};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Notes each question and how many run; answers as the path of the URL says.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
asked = json.loads(sys.stdin.readline())
assert "CI_TOKEN" not in os.environ
def note(text):
    with open(here + "/asked", "a") as out:
        out.write(text + "\n")
note("begin " + json.dumps(asked, sort_keys=True))
number = sum(line.startswith("begin") for line in open(here + "/asked"))
token = "Bearer token-of-%s-%08d" % (asked["agent"], number)
kind = asked["url"].split("/")[3].split("?")[0]
answer = {"headers": {"Authorization": token, "X-Team": "blue-team-0001"}, "expires_in": 60}
if kind == "once":
    del answer["expires_in"]
elif kind in ("agent", "rule"):
    answer["for"] = kind
elif kind == "brief":
    answer["expires_in"] = 1
elif kind == "crlf":
    answer["headers"]["x-a"] = "b\r\nx-c: d"
elif kind == "framing":
    answer["headers"]["Transfer-Encoding"] = "chunked"
elif kind == "hop":
    answer["headers"]["Connection"] = "close"
elif kind == "empty":
    answer["headers"] = {}
elif kind == "long":
    answer["headers"]["x-a"] = "b" * 100000
elif kind == "slow":
    time.sleep(60)
elif kind == "pause":
    time.sleep(0.3)
if kind == "fail":
    sys.stderr.write(token)
    sys.exit(3)
note("end")
print("no answer" if kind == "words" else json.dumps(answer))
"#;

async fn before(options: &str) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = asking(&root, &origin, options).await;
    (origin, proxy)
}

async fn asking(root: &Root, origin: &Origin, options: &str) -> Proxy {
    rig(root, origin).rule(&rule(options)).serve().await
}

fn rule(options: &str) -> String {
    format!("name: api, host: api.test, inject: [{{ exec: {{ command: [./answer, word], {options} }} }}]")
}

fn rig(root: &Root, origin: &Origin) -> Rig {
    let rig = Rig::new(root)
        .reach(origin)
        .config(
            "agents:\n  ci: { token: ci_token }\n  dev: { token: dev_token }\n  anybody: { address: 127.0.0.0/8 }\n",
        )
        .secret("CI_TOKEN", "ci-token-0001")
        .secret("DEV_TOKEN", "dev-token-0001");
    write_program(rig.dir());
    rig
}

fn write_program(dir: &Path) {
    let program = dir.join("answer");
    std::fs::write(&program, PROGRAM).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// What the program was asked, and how many of it ran at one time.
fn asked(dir: &Path) -> (Vec<serde_json::Value>, usize) {
    let log = std::fs::read_to_string(dir.join("asked")).unwrap_or_default();
    let (mut running, mut most) = (0_usize, 0);
    for line in log.lines() {
        running = if line.starts_with("begin") {
            running + 1
        } else {
            running - 1
        };
        most = most.max(running);
    }
    let questions = log.lines().filter_map(|line| line.strip_prefix("begin "));
    (
        questions.map(|line| serde_json::from_str(line).unwrap()).collect(),
        most,
    )
}

#[tokio::test]
async fn a_program_is_told_of_the_request_and_its_headers_take_the_place_of_the_agents() {
    for http2 in [false, true] {
        let (origin, proxy) = before("timeout: 10s").await;
        let mut ask = get("https://api.test/token/a%20b?c=d");
        for (name, value) in [("authorization", "mine"), ("x-team", "mine"), ("x_team", "mine")] {
            ask.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let reply = by(&proxy.agent, http2).await.reply(ask).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let seen = origin.only();
        assert_eq!(seen.all("authorization"), ["Bearer token-of-anybody-00000001"]);
        assert_eq!(seen.all("x-team"), ["blue-team-0001"]);
        assert!(seen.all("x_team").is_empty());
        let (questions, _) = asked(proxy.rig.dir());
        let told = json!({"agent": "anybody", "method": "GET", "url": "https://api.test/token/a%20b?c=d"});
        assert_eq!(questions, [told]);
        let record = proxy.record().await;
        assert_eq!(record["credentials"], json!(["api/exec"]));
        assert!(!record.to_string().contains("token-of"), "{record}");
        let log = proxy.child.log();
        assert!(!log.contains("token-of"), "{log}");
    }
}

#[tokio::test]
async fn what_a_program_answered_does_not_come_back_whole_or_by_the_word() {
    let root = Root::new();
    let service = |request: http::Request<AnyBody>, _| -> Answer {
        let shown = request.headers()["authorization"].to_str().unwrap().to_owned();
        Box::pin(async move {
            let word = shown.trim_start_matches("Bearer ").to_owned();
            routes::with(routes::text(&format!("{shown} {word}")), "x-told", &word)
        })
    };
    let origin = Origin::with(&root, "api.test", Speaks::Both, std::sync::Arc::new(service)).await;
    let proxy = asking(&root, &origin, "timeout: 10s").await;
    for path in ["once", "once", "agent"] {
        let reply = proxy.agent.get(&format!("https://api.test/{path}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(
            !reply.text().contains("token-of") && !reply.header("x-told").contains("token-of"),
            "{}",
            reply.text()
        );
    }
    assert_eq!(origin.seen().len(), 3);
}

#[tokio::test]
async fn an_answer_serves_whom_it_says_until_it_ends_and_one_run_serves_all_who_wait() {
    let (origin, proxy) = before("concurrent: 2").await;
    let ask = |path: &'static str| {
        let agent = &proxy.agent;
        async move {
            let reply = agent.get(&format!("https://api.test/{path}")).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    };
    let runs = || asked(proxy.rig.dir()).0.len();
    join_all((0..12).map(|_| ask("pause"))).await;
    assert_eq!(runs(), 1, "twelve who ask the same are served by one run");
    ask("pause").await;
    ask("pause?other").await;
    assert_eq!(runs(), 2, "another URL is another question");
    ask("once").await;
    ask("once").await;
    assert_eq!(runs(), 4, "what says no end is not kept");
    ask("brief").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ask("brief").await;
    assert_eq!(runs(), 6, "what has ended is asked for again");
    ask("agent/a").await;
    ask("b").await;
    ask("agent/c").await;
    assert_eq!(runs(), 7, "an answer for the agent serves all its requests");
    let first = origin.seen().pop().unwrap();
    assert_eq!(first.all("authorization"), ["Bearer token-of-anybody-00000007"]);
}

/// The same agent's proxy, for the agent with this token.
fn with_token(proxy: &Proxy, token: &str) -> Agent {
    Agent {
        offer: Some(format!("Bearer {token}")),
        ..proxy.agent.clone()
    }
}

#[tokio::test]
async fn another_method_or_another_agent_is_another_question() {
    let (origin, proxy) = before("timeout: 10s").await;
    let (ci, dev) = (
        with_token(&proxy, "ci-token-0001"),
        with_token(&proxy, "dev-token-0001"),
    );
    let url = "https://api.test/token";
    for agent in [&ci, &dev, &ci, &dev] {
        for method in [Method::GET, Method::POST] {
            let reply = agent.h1("api.test").await.reply(request(method, url, "")).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
    let (questions, _) = asked(proxy.rig.dir());
    let told = |agent: &str, method: &str| json!({"agent": agent, "method": method, "url": url});
    let each = [("ci", "GET"), ("ci", "POST"), ("dev", "GET"), ("dev", "POST")];
    assert_eq!(questions, each.map(|(agent, method)| told(agent, method)));
    // What the program says is for the agent is not for another.
    for agent in [&ci, &dev, &ci, &dev] {
        assert_eq!(agent.get("https://api.test/agent").await.status, 200);
    }
    let seen = origin.seen();
    let shown: Vec<_> = seen.iter().flat_map(|one| one.all("authorization")).collect();
    for (at, shown) in shown.iter().enumerate() {
        let agent = ["ci", "dev"][if at < 8 { at / 2 % 2 } else { at % 2 }];
        assert!(shown.starts_with(&format!("Bearer token-of-{agent}-")), "{at}: {shown}");
    }
    assert_eq!((shown.len(), asked(proxy.rig.dir()).0.len()), (12, 6));
}

#[tokio::test]
async fn a_program_is_told_no_credential_that_another_injection_puts_in_the_address() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let key = "sk-live-0a1b2c3d4e5f";
    let rig = Rig::new(&root)
        .reach(&origin)
        .secret("API_KEY", key)
        .rule("host: api.test, inject: [{ query: key, value: \"${api_key}\" }, { exec: { command: [./answer] } }]");
    write_program(rig.dir());
    let proxy = rig.serve().await;
    assert_eq!(proxy.agent.get("https://api.test/token?a=b").await.status, 200);
    let (questions, _) = asked(proxy.rig.dir());
    assert_eq!(questions[0]["url"], "https://api.test/token?a=b");
    assert!(origin.only().target.contains(key));
}

#[tokio::test]
async fn what_a_program_answered_before_does_not_come_back_later_by_its_rule_or_another() {
    let root = Root::new();
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&kept);
    let service = move |request: http::Request<AnyBody>, _| -> Answer {
        let mut kept = kept.lock().unwrap();
        kept.extend(
            request
                .headers()
                .get("authorization")
                .map(|shown| shown.to_str().unwrap().to_owned()),
        );
        let all = kept.join(" ");
        Box::pin(async move { routes::text(&all) })
    };
    let origin = Origin::with(&root, "api.test", Speaks::Both, std::sync::Arc::new(service)).await;
    let rig = rig(&root, &origin).rule("name: other, host: api.test, allow: [\"GET /log\"]");
    let proxy = rig.rule(&rule("timeout: 10s")).serve().await;
    let paths = (0..15).map(|_| "once").chain(["log"]);
    for path in paths {
        let reply = proxy.agent.get(&format!("https://api.test/{path}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(!reply.text().contains("token-of"), "{path}: {}", reply.text());
    }
    assert_eq!(told.lock().unwrap().len(), 15);
}

#[tokio::test]
async fn no_more_of_a_program_run_at_one_time_than_the_rule_says() {
    let (_origin, proxy) = before("concurrent: 2").await;
    let asks = (0..8).map(|number| {
        let agent = &proxy.agent;
        async move { agent.get(&format!("https://api.test/pause/{number}")).await.status }
    });
    assert!(join_all(asks).await.iter().all(|status| *status == 200));
    let (questions, most) = asked(proxy.rig.dir());
    assert_eq!((questions.len(), most), (8, 2));
}

#[tokio::test]
async fn who_goes_away_while_waiting_for_a_program_leaves_no_run_behind() {
    let (_origin, proxy) = before("concurrent: 1").await;
    let asks = (0..20).map(|number| {
        let agent = &proxy.agent;
        async move { agent.get(&format!("https://api.test/pause/{number}")).await.status }
    });
    let none = tokio::time::timeout(Duration::from_millis(250), join_all(asks)).await;
    assert!(none.is_err(), "all were answered before they could go away");
    // One more waits its turn behind whatever is left.
    assert_eq!(proxy.agent.get("https://api.test/pause/last").await.status, 200);
    let (questions, _) = asked(proxy.rig.dir());
    assert!(questions.len() <= 3, "{} runs for one who stayed", questions.len());
}

#[tokio::test]
async fn a_program_that_fails_or_answers_nonsense_lets_nothing_out() {
    let (origin, proxy) = before("timeout: 2s").await;
    for (path, words) in [
        ("fail", "exit status: 3"),
        ("slow", "did not close its output"),
        ("long", "wrote more than"),
        ("words", "no JSON object"),
        ("crlf", "a control character"),
        ("framing", "belongs to the connection"),
        ("hop", "belongs to the connection"),
        ("empty", "has no header"),
    ] {
        let before = proxy.rig.audit().len();
        let reply = proxy.agent.get(&format!("https://api.test/{path}")).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (502, "credential_unavailable"),
            "{path}"
        );
        let record = proxy.records(before + 1).await.pop().unwrap();
        let reason = record["reason"].as_str().unwrap();
        assert!(
            reason.contains(words) && !reason.contains("token-of"),
            "{path}: {reason}"
        );
    }
    assert_eq!(origin.connections(), 0);
    let log = proxy.child.log();
    assert!(!log.contains("token-of"), "{log}");
}
