//! Who may ask: an agent proves itself, or gets a 407 that a client can answer.

use crate::rig::agent::{Agent, content_length, get, status};
use crate::rig::origin::{Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;

const TOKEN: &str = "agent-token-91b2c3";

async fn two_agents() -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let proxy = Rig::new(&root)
        .reach(&origin)
        .secret("CI_TOKEN", TOKEN)
        .secret("DEV_TOKEN", "agent-token-dev")
        .config("agents: { ci: { token: ci_token }, dev: { token: dev_token } }")
        .rule("host: api.test, agents: [ci]")
        .serve()
        .await;
    (origin, proxy)
}

fn offering(proxy: &Proxy, offer: &str) -> Agent {
    Agent {
        offer: Some(offer.to_owned()),
        ..proxy.agent.clone()
    }
}

/// Makes up so many agents and tokens on one connection; each is a 407, and the connection goes on.
pub async fn guesses(agent: &Agent, who: &str, count: usize) {
    let mut raw = agent.dial().await;
    for n in 0..count {
        let offer = crate::clients::basic(&format!("agent-{who}-{n}"), &format!("token-{n}"));
        raw.say(format!(
            "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nProxy-Authorization: {offer}\r\n\r\n"
        ))
        .await;
        let head = raw.head().await;
        assert_eq!(status(&head), 407);
        raw.bytes(content_length(&head)).await;
    }
}

#[tokio::test]
async fn an_agent_that_shows_nothing_is_asked_to() {
    let (origin, proxy) = two_agents().await;
    let (status, head, _) = proxy.agent.connect("api.test:443").await;
    assert_eq!(status, 407);
    let head = head.to_lowercase();
    assert!(
        head.contains("proxy-authenticate: basic ") && head.contains("x-keyferry-error: agent_unknown"),
        "{head}"
    );
    for wrong in [
        crate::clients::basic("ci", "wrong"),
        crate::clients::basic("ci", ""),
        crate::clients::basic("ci", &TOKEN[..TOKEN.len() - 1]),
        "Basic !!!".to_owned(),
        "Bearer wrong".to_owned(),
        "Digest username=ci".to_owned(),
    ] {
        assert_eq!(offering(&proxy, &wrong).connect("api.test:443").await.0, 407, "{wrong}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_407_leaves_the_connection_for_a_second_try() {
    let (_, proxy) = two_agents().await;
    let mut raw = proxy.agent.dial().await;
    raw.say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 407"), "{head}");
    raw.bytes(content_length(&head)).await;
    let offer = crate::clients::basic("ci", TOKEN);
    raw.say(format!(
        "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\nProxy-Authorization: {offer}\r\n\r\n"
    ))
    .await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn a_rule_for_one_agent_is_none_for_another() {
    let (origin, proxy) = two_agents().await;
    for offer in [crate::clients::basic("ci", TOKEN), format!("Bearer {TOKEN}")] {
        let reply = offering(&proxy, &offer)
            .h1("api.test")
            .await
            .reply(get("https://api.test/hello"))
            .await;
        assert_eq!(reply.text(), "hello");
    }
    let dev = offering(&proxy, &crate::clients::basic("dev", "agent-token-dev"));
    assert_eq!(dev.connect("api.test:443").await.0, 403);
    assert_eq!(origin.seen().len(), 2);
    assert!(
        origin
            .seen()
            .iter()
            .all(|one| !one.headers.contains_key("proxy-authorization"))
    );
    let records = proxy.records(3).await;
    let agents: Vec<_> = records
        .iter()
        .map(|one| one["agent"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(agents, ["ci", "ci", "dev"]);
}

#[tokio::test]
async fn one_agents_connections_serve_no_other_agent() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let root = Root::new();
        let origin = Origin::speaking(&root, "api.test", speaks).await;
        let proxy = Rig::new(&root)
            .reach(&origin)
            .secret("ONE", "one-token-5b1d7c")
            .secret("OTHER", "other-token-93ae02")
            .config("agents: { one: { token: one }, other: { token: other } }")
            .rule("host: api.test")
            .serve()
            .await;
        for _ in 0..3 {
            for token in ["one-token-5b1d7c", "other-token-93ae02"] {
                let agent = Agent {
                    offer: Some(format!("Bearer {token}")),
                    ..proxy.agent.clone()
                };
                assert_eq!(agent.get("https://api.test/hello").await.text(), "hello");
            }
        }
        assert_eq!(origin.connections(), 2, "one for each");
    }
}
