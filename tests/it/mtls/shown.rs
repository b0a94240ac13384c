//! What nginx is shown, on every way, and that no connection or session made with a certificate serves who has none.

use super::{fingerprint, write};
use crate::rig::agent::{Agent, get};
use crate::rig::eventually;
use crate::rig::nginx::Nginx;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::{Pem, Root, Validity};
use crate::websocket;
use futures_util::{SinkExt, StreamExt};
use std::net::SocketAddr;
use tokio_websockets::Message;

/// `strict.test` wants a certificate of the test's CA; `loose.test` and `other.test` tell whether they were shown one.
/// With `each`, every request has a connection of its own.
const SERVERS: &str = "
  map $ssl_session_reused $session { default new; r resumed; }
  ssl_certificate DIR/server.pem; ssl_certificate_key DIR/server.key; ssl_client_certificate DIR/clients.pem;
  ssl_session_cache shared:all:1m; KEEP
  server {
    listen ADDRESS ssl HTTP2; server_name strict.test; ssl_verify_client on;
    location /ws { proxy_pass http://BACK; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade; proxy_set_header Sent-By $ssl_client_fingerprint; }
    location / { return 200 \"$ssl_client_verify $ssl_client_fingerprint $session $connection $http_authorization\"; }
  }
  server {
    listen ADDRESS ssl HTTP2; server_name loose.test other.test; ssl_verify_client optional;
    location / { return 200 \"$ssl_client_verify $ssl_client_fingerprint $session $connection $http_authorization\"; }
  }";

struct Before {
    _nginx: Nginx,
    proxy: Proxy,
    back: Origin,
    clients: Root,
    first: Pem,
    second: Pem,
}

async fn before(http2: bool, keep: bool) -> Before {
    let (root, clients) = (Root::new(), Root::new());
    let back = Origin::plain("back.test").await;
    let rig = Rig::new(&root);
    let names = ["strict.test", "loose.test", "other.test"];
    write(rig.dir(), "server", &root.leaf(&names, Validity::Now));
    std::fs::write(rig.dir().join("clients.pem"), clients.pem()).unwrap();
    let (first, second) = (
        clients.client(&["first"], Validity::Now),
        clients.client(&["second"], Validity::Now),
    );
    write(rig.dir(), "first", &first);
    let both = format!("{}{}", second.key, second.chain);
    std::fs::write(rig.dir().join("second.pem"), both).unwrap();
    let servers = SERVERS
        .replace("HTTP2", if http2 { "http2" } else { "" })
        .replace(
            "KEEP",
            if keep {
                ""
            } else {
                "keepalive_timeout 0; keepalive_requests 1;"
            },
        )
        .replace("BACK", &back.address.to_string());
    let (nginx, address): (_, SocketAddr) = Nginx::start(rig.dir(), &servers).await;
    let rig = names.iter().fold(rig, |rig, name| rig.reach_as(name, address));
    let proxy = rig
        .secret("API_KEY", "sk-live-0a1b2c3d4e5f")
        .secret_spec("first", "{ file: first.pem }")
        .secret_spec("first-key", "{ file: first.key }")
        .secret_spec("second", "{ file: second.pem }")
        .rule("name: strict, host: strict.test, inject: [{ mtls: { certificate: first, private_key: first-key } }, { bearer: api_key }]")
        .rule("name: first, host: loose.test, allow: \"GET /first\", inject: [{ mtls: { certificate: first, private_key: first-key } }]")
        .rule("name: second, host: loose.test, allow: \"GET /second\", inject: [{ mtls: { certificate: second } }]")
        .rule("name: none, host: loose.test")
        .rule("name: other, host: other.test")
        .serve()
        .await;
    Before {
        _nginx: nginx,
        proxy,
        back,
        clients,
        first,
        second,
    }
}

/// What nginx tells of a request: whether the certificate verified, which one it was, whether the session is a new one,
/// and the number of the connection.
async fn told(agent: &Agent, url: &str) -> Vec<String> {
    let reply = agent.get(url).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text().split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_is_shown_the_rules_beside_another_credential() {
    for http2 in [false, true] {
        let before = before(http2, true).await;
        let agent = &before.proxy.agent;
        let reply = agent.get("https://strict.test/").await;
        let text = reply.text();
        assert!(
            text.starts_with(&format!("SUCCESS {}", fingerprint(&before.first))),
            "{text}"
        );
        assert!(text.contains("Bearer ") && !text.contains("sk-live"), "{text}");
        let twice = agent.get2("https://strict.test/").await;
        assert!(twice.text().starts_with("SUCCESS "), "{}", twice.text());
        let record = before.proxy.records(2).await.remove(0);
        assert_eq!(
            record["credentials"],
            serde_json::json!(["first", "api_key"]),
            "{record:#}"
        );
        assert_eq!(record["protocol_out"], if http2 { "h2" } else { "h1" });
    }
}

#[tokio::test]
async fn a_websocket_is_opened_with_the_certificate_too() {
    for http2 in [false, true] {
        let before = before(true, true).await;
        let agent = &before.proxy.agent;
        let http = match http2 {
            true => agent.h2("strict.test").await,
            false => agent.h1("strict.test").await,
        };
        let mut socket = websocket::over(http, "https://strict.test/ws").await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().as_text(), Some("hello"));
        let sent_by = before.back.only().all("sent-by");
        assert_eq!(sent_by, [fingerprint(&before.first)]);
    }
}

#[tokio::test]
async fn no_connection_and_no_session_made_with_a_certificate_serves_a_rule_without_it() {
    for (http2, keep) in [(false, true), (true, true), (false, false), (true, false)] {
        let before = before(http2, keep).await;
        let agent = &before.proxy.agent;
        let (mut sessions, mut connections) = (Vec::new(), std::collections::BTreeMap::new());
        for _ in 0..3 {
            for (url, verdict, whose) in [
                ("https://loose.test/first", "SUCCESS", Some(&before.first)),
                ("https://loose.test/none", "NONE", None),
                ("https://loose.test/second", "SUCCESS", Some(&before.second)),
                ("https://other.test/", "NONE", None),
            ] {
                let told = told(agent, url).await;
                let whose = whose.map(fingerprint).unwrap_or_default();
                assert_eq!((told[0].as_str(), &told[1]), (verdict, &whose), "{url} {told:?}");
                let rule = connections.entry(told[3].clone()).or_insert(url);
                assert_eq!(*rule, url, "one connection serves two rules");
                sessions.push(told[2].clone());
            }
        }
        // Otherwise nothing would have shown that sessions are kept apart.
        assert!(keep || sessions.iter().any(|one| one == "resumed"), "{sessions:?}");
        assert!(!keep || connections.len() == 4, "{connections:?}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_then_on_and_a_half_renewed_one_not() {
    let before = before(true, true).await;
    let (proxy, dir) = (&before.proxy, before.proxy.rig.dir());
    let old = fingerprint(&before.first);
    assert_eq!(told(&proxy.agent, "https://loose.test/first").await[1], old);
    let renewed = before.clients.client(&["first"], Validity::Now);
    std::fs::write(dir.join("first.pem"), &renewed.chain).unwrap();
    // The pair does not belong together for as long as the key is not there: until then the old one is shown on.
    for _ in 0..10 {
        assert_eq!(told(&proxy.agent, "https://loose.test/first").await[1], old);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    std::fs::write(dir.join("first.key"), &renewed.key).unwrap();
    let new = fingerprint(&renewed);
    let end = tokio::time::Instant::now() + crate::rig::PATIENCE;
    while told(&proxy.agent, "https://loose.test/first").await[1] != new {
        assert!(
            tokio::time::Instant::now() < end,
            "the renewed certificate was never shown"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let reply = proxy
        .agent
        .h2("strict.test")
        .await
        .reply(get("https://strict.test/"))
        .await;
    assert!(reply.text().contains(&new), "{}", reply.text());
    // The certificate of a request in the record is the secret's name, never the key.
    eventually("a record", || proxy.rig.audit().pop()).await;
}
