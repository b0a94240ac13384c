//! What a config may say, and what each mistake is told as.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

use super::model::*;
use super::{Config, Loaded, Mistakes};
use std::path::Path;
use std::time::Duration;

/// Keeps a test from depending on the user's home.
const HEAD: &str = "ca: { memory: true }\naudit: none\n";

fn parse(text: &str) -> Result<Loaded, Mistakes> {
    Config::parse(text, Path::new("keyferry.yaml"))
}

fn loads(text: &str) -> Config {
    parse(&format!("{HEAD}{text}"))
        .map_err(|m| m.render(false))
        .expect("it loads")
        .config
}

/// What is wrong with `text`, as `line:column-columns message`.
fn wrong(text: &str) -> Vec<String> {
    let mistakes = parse(text).expect_err("it has mistakes");
    let told = mistakes.list.iter().map(|m| {
        let length = m.place.end - m.place.start;
        format!(
            "{}:{}+{length} {} [{}]",
            m.place.line,
            m.place.column,
            m.message,
            m.hint.as_deref().unwrap_or_default()
        )
    });
    told.collect()
}

#[test]
fn the_documented_example_loads_as_meant() {
    let config = loads(
        r#"
listen:
  - 127.0.0.1:8080
  - { bind: "unix:/run/keyferry/proxy.sock", speak: proxy, mode: "0660" }
admin: { bind: 127.0.0.1:9090, token: admin }
upstream:
  roots: [system, /etc/corp-root.pem]
  resolve: { api.internal.test: 127.0.0.1:9443 }
  allow_networks: [127.0.0.0/8]
secrets:
  anthropic: { env: ANTHROPIC_API_KEY }
  github:    { file: /run/secrets/github }
  npm:       { exec: [op, read, "op://dev/npm/token"], ttl: 10m }
  deploy:    { store: deploy }
  vendor:    { env: VENDOR_KEY, placeholder: vk_test_000000000000 }
  admin:     { file: /run/secrets/keyferry-admin }
  ci-token:  { env: KEYFERRY_CI_TOKEN }
agents:
  ci: { token: ci-token }
  local: { peer_uid: 1001, address: 10.1.0.0/16 }
rules:
  - name: anthropic
    host: api.anthropic.com
    allow: ["POST /v1/messages", "GET /v1/models/**"]
    inject: [{ header: x-api-key, value: "${anthropic}" }]
  - name: git
    host: github.com
    agents: [ci]
    allow: ["* /acme/**"]
    inject: [{ basic: { user: x-access-token, password: github } }]
  - name: vendor
    host: api.vendor.example
    inject: [{ placeholder: vendor, in: ["header:authorization", "body:/client_secret"] }]
    limits: { rate: 60/min, concurrent: 8, request_body: 32MiB, time: 30s }
  - host: "*.pinned.example:8443"
    tunnel: true
  - name: no-staging
    host: "*.staging.example"
    deny: "use the production host"
  - host: maps.example.com
    inject: { query: key, value: "a${deploy}${npm}" }
limits: { connections: 100, drain_time: 500ms }
"#,
    );
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.listen[1].mode, Some(0o660));
    assert_eq!(
        config.secrets[2].source,
        Source::Exec {
            argv: ["op", "read", "op://dev/npm/token"].map(String::from).to_vec(),
            ttl: Some(Duration::from_secs(600)),
            timeout: Duration::from_secs(10),
        }
    );
    assert_eq!(config.agents[1].proofs.len(), 2);
    assert_eq!(config.rules[3].name.as_ref(), "rule 4");
    assert_eq!(config.rules[3].action, Action::Tunnel);
    assert_eq!(
        config.rules[2].limits.rate,
        Some(Rate {
            count: 60,
            per: Duration::from_secs(60)
        })
    );
    assert_eq!(config.rules[2].limits.request_body, Some(32 << 20));
    assert_eq!(config.limits.connections, 100);
    assert_eq!(config.limits.drain_time, Duration::from_millis(500));
    assert_eq!(config.secrets[0].agent_env, ["ANTHROPIC_API_KEY"]);
}

#[test]
fn mistakes_in_different_rules_are_all_told_at_once() {
    let text = "lisen: []
secrets:
  github: { evn: X }
rules:
  - host: a.test
    inject: [{ bearer: githib }]
  - hosts: b.test
    tunel: true
  - host: c.test
    tunnel: 7
    limits: { rate: many }
";
    assert_eq!(
        wrong(text),
        [
            "1:1+5 the configuration has no key `lisen` [did you mean `listen`?]",
            "3:13+3 a secret has no key `evn` [did you mean `env`?]",
            "6:24+6 no secret is named `githib` [did you mean `github`?]",
            "7:5+5 a rule has no key `hosts` [did you mean `host`?]",
            "8:5+5 a rule has no key `tunel` [did you mean `tunnel`?]",
            "10:13+1 expected true or false, found a number []",
            "11:21+4 `many` is no rate [write it like `60/min`, `5/s` or `100/10s`; to forbid, use `deny`]",
        ]
    );
}
