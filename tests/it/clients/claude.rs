//! Claude Code itself, against a stand-in for its API that streams a real message.

use super::{REAL, credential_once};
use crate::rig::origin::{Answer, AnyBody, Origin, Received, Speaks};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{routes, tools};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use std::sync::Arc;

/// One streamed message, event by event, as the API sends it.
fn message(content: &[Value], stop: &str) -> Response<AnyBody> {
    let mut events = vec![json!({ "type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 10, "output_tokens": 1 } } })];
    for (index, block) in content.iter().enumerate() {
        let (start, delta) = match block["type"].as_str() {
            Some("tool_use") => (
                json!({ "type": "tool_use", "id": block["id"], "name": block["name"], "input": {} }),
                json!({ "type": "input_json_delta", "partial_json": block["input"].to_string() }),
            ),
            _ => (
                json!({ "type": "text", "text": "" }),
                json!({ "type": "text_delta", "text": block["text"] }),
            ),
        };
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": start }));
        events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    let delta = json!({ "stop_reason": stop, "stop_sequence": null });
    events.push(json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": 5 } }));
    events.push(json!({ "type": "message_stop" }));
    let frames = events.into_iter().map(|event| {
        let text = format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
        Ok(Frame::data(Bytes::from(text)))
    });
    let body = StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed_unsync();
    routes::with(Response::new(body), "content-type", "text/event-stream")
}

/// The stand-in: it wants the key, and says one sentence; told to use the tool, it first has a command
/// run, and says what came of it.
fn answer(request: http::Request<AnyBody>, _: Origin) -> Answer {
    Box::pin(async move {
        let keys: Vec<_> = request.headers().get_all("x-api-key").iter().cloned().collect();
        if keys != [REAL] {
            return routes::empty(StatusCode::UNAUTHORIZED);
        }
        if request.uri().path() != "/v1/messages" {
            return routes::empty(StatusCode::NOT_FOUND);
        }
        let asked: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
        if asked["stream"] != true {
            return routes::empty(StatusCode::BAD_REQUEST);
        }
        let said = asked["messages"].to_string();
        if said.contains("tool_result") {
            let worked = said.contains("hello from the tool");
            return sentence(if worked {
                "The tool said hello."
            } else {
                "The tool failed."
            });
        }
        if said.contains("use the tool") && asked["tools"].as_array().is_some_and(|tools| !tools.is_empty()) {
            let input = json!({ "command": "curl -sS https://tool.example.test/hi", "description": "Ask the tool" });
            let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "Bash", "input": input });
            return message(&[call], "tool_use");
        }
        sentence("The ferry has landed.")
    })
}

pub fn sentence(text: &str) -> Response<AnyBody> {
    message(&[json!({ "type": "text", "text": text })], "end_turn")
}

pub async fn session() -> (Origin, Rig) {
    let root = Root::new();
    let origin = Origin::with(&root, "api.anthropic.com", Speaks::Both, Arc::new(answer)).await;
    let tool = |_, _| -> Answer { Box::pin(async { routes::text("hello from the tool") }) };
    let tool = Origin::with(&root, "tool.example.test", Speaks::Both, Arc::new(tool)).await;
    let rig = Rig::new(&root)
        .reach(&origin)
        .reach(&tool)
        .secret("ANTHROPIC_API_KEY", REAL)
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .rule("host: api.anthropic.com, gateway: /anthropic, base_url: ANTHROPIC_BASE_URL, inject: [{ header: x-api-key, value: \"${anthropic_api_key}\" }]")
        .rule("name: tool, host: tool.example.test");
    (origin, rig)
}

fn is_message(one: &Received) -> bool {
    one.method == "POST" && one.target.starts_with("/v1/messages?")
}

#[tokio::test]
async fn claude_code_completes_a_session_with_a_key_it_never_had() {
    let (origin, rig) = session().await;
    let claude = tools::npm(".bin/claude");

    let ran = rig.run(&[claude.to_str().unwrap(), "-p", "say hi"]).await.ok();

    assert_eq!(ran.stdout.trim(), "The ferry has landed.");
    let held = &ran.env["ANTHROPIC_API_KEY"];
    assert!(held.starts_with("sk-") && held != REAL, "{held}");
    let seen = origin.seen();
    assert!(seen.iter().any(is_message), "{seen:#?}");
    seen.iter()
        .filter(|one| is_message(one))
        .for_each(|one| credential_once(one, &ran, "x-api-key", REAL));
    // A session is more than the message: nothing of it may carry the stand-in.
    assert!(
        seen.iter()
            .all(|one| !format!("{:?}", one.headers).contains(held.as_str()))
    );
}

#[tokio::test]
async fn what_claude_code_runs_goes_through_the_proxy_too() {
    let (origin, rig) = session().await;
    let claude = tools::npm(".bin/claude");

    let argv = [
        claude.to_str().unwrap(),
        "-p",
        "use the tool",
        "--allowedTools",
        "Bash(curl:*)",
    ];
    let ran = rig.run(&argv).await.ok();

    assert_eq!(ran.stdout.trim(), "The tool said hello.", "{}", ran.stderr);
    assert!(origin.seen().iter().filter(|one| is_message(one)).count() >= 2);
    let records = rig.audit();
    assert!(
        records.iter().any(|one| one["rule"] == "tool" && one["status"] == 200),
        "{records:#?}"
    );
}

#[tokio::test]
async fn claude_code_completes_a_session_by_its_base_url() {
    let (origin, rig) = session().await;
    let claude = tools::npm(".bin/claude");
    let rig = rig.flag("--gateway");

    let ran = rig.run(&[claude.to_str().unwrap(), "-p", "say hi"]).await.ok();

    assert_eq!(ran.stdout.trim(), "The ferry has landed.");
    let base = &ran.env["ANTHROPIC_BASE_URL"];
    assert!(
        base.starts_with("http://127.0.0.1:") && base.ends_with("/anthropic"),
        "{base}"
    );
    let records = rig.audit();
    let by_url =
        |one: &Value| one["way"] == "gateway" && one["path"].as_str().is_some_and(|p| p.starts_with("/v1/messages"));
    assert!(records.iter().any(by_url), "{records:#?}");
    let seen = origin.seen();
    let messages: Vec<_> = seen.iter().filter(|one| is_message(one)).collect();
    assert!(!messages.is_empty(), "{seen:#?}");
    messages
        .iter()
        .for_each(|one| credential_once(one, &ran, "x-api-key", REAL));
}
