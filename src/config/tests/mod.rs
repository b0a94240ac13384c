//! What a config may say, and what each mistake is told as.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

mod bad;
mod reference;

use super::model::*;
use super::{Config, Loaded, Mistakes};
use crate::base::ids::{AgentId, SecretId};
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

/// What `text` is warned of, as `line:column message`.
fn warned(text: &str) -> Vec<String> {
    let loaded = parse(&format!("{HEAD}{text}"))
        .map_err(|m| m.render(false))
        .expect("it loads");
    let told = loaded.warnings.list.iter();
    told.map(|m| format!("{}:{} {}", m.place.line, m.place.column, m.message))
        .collect()
}

#[test]
fn what_loads_but_is_hardly_meant_is_warned_of() {
    let never = |line: usize, column: usize, rule: &str, by: &str| {
        vec![format!(
            "{line}:{column} rule `{rule}` never matches: `{by}` takes all it speaks of"
        )]
    };
    for (text, expected) in [
        (
            "rules: []",
            vec!["1:1 there are no rules, so every request is denied".to_owned()],
        ),
        (
            "secrets: { a: { env: A } }\nrules: [{ host: a.test }]",
            vec!["3:12 secret `a` is used nowhere".to_owned()],
        ),
        (
            "rules: [{ host: a.test }, { host: [a.test] }]",
            never(3, 27, "rule 2", "rule 1"),
        ),
        (
            "rules: [{ host: \"*.test\" }, { host: [a.b.test], name: x }]",
            never(3, 55, "x", "rule 1"),
        ),
        (
            "rules: [{ host: \"*\" }, { host: \"*.test\" }]",
            never(3, 24, "rule 2", "rule 1"),
        ),
        ("rules: [{ host: a.test }, { host: [a.test, b.test] }]", vec![]),
        ("rules: [{ host: a.test, allow: /x }, { host: a.test }]", vec![]),
        ("rules: [{ host: \"*.test\" }, { host: test }]", vec![]),
        ("rules: [{ host: a.test }, { host: \"a.test:8443\" }]", vec![]),
        (
            "agents: { x: { address: 10.1.1.1 }, y: { address: 10.1.1.2 } }\nrules: [{ host: a.test, agents: x }, { host: a.test, agents: y }]",
            vec![],
        ),
        (
            "listen: 0.0.0.0:8080\nrules: [{ host: a.test }]",
            vec!["3:9 anyone who reaches this address may use every credential in the rules".to_owned()],
        ),
        (
            "agents: { x: { peer_uid: 7 } }\nrules: [{ host: a.test }]",
            vec!["3:11 agent `x` is known by its uid, but no listener is a unix socket".to_owned()],
        ),
        (
            "agents: { x: { client_certificate: { ca: c.pem, dns: x.test } } }\nrules: [{ host: a.test }]",
            vec!["3:11 agent `x` is known by a certificate, but no listener is TLS".to_owned()],
        ),
    ] {
        assert_eq!(warned(text), expected, "{text}");
    }
}

#[test]
fn a_preset_takes_the_users_secret_and_changes() {
    let config = loads(
        "secrets: { openai: { file: /run/key }, mine: { store: mine } }
agents: { ci: { address: 10.0.0.1 } }
rules:
  - { preset: openai, agents: ci, allow: POST /v1/responses, limits: { rate: 5/s } }
  - { preset: stripe, secret: mine, name: pay }
  - { preset: mistral }
",
    );
    let openai = &config.rules[0];
    assert_eq!(openai.agents.as_deref(), Some(&[AgentId(0)][..]));
    assert_eq!(openai.allow.as_ref().map(|a| a[0].text()), Some("POST /v1/responses"));
    assert_eq!(openai.limits.rate.map(|r| r.count), Some(5));
    let secrets: Vec<_> = config.rules.iter().map(|r| (&*r.name, injected(r))).collect();
    assert_eq!(
        secrets,
        [("openai", SecretId(0)), ("pay", SecretId(1)), ("mistral", SecretId(2))]
    );
    assert_eq!(config.secrets[0].source, Source::File("/run/key".into()));
    assert_eq!(config.secrets[0].agent_env, ["OPENAI_API_KEY"]);
    assert_eq!(config.secrets[2].source, Source::Env("MISTRAL_API_KEY".to_owned()));
}

#[test]
fn a_preset_that_makes_tokens_keeps_its_secret_to_itself_and_each_use_has_tokens_of_its_own() {
    let config = loads(
        "secrets: { mine: { env: SPOTIFY } }
rules:
  - { preset: spotify, secret: mine, with: { client_id: a } }
  - { preset: paypal, with: { client_id: a } }
  - { preset: github-app, name: one, with: { app_id: a, installation: 1 } }
  - { preset: github-app, name: other, with: { app_id: a, installation: 2 }, agents: default }
",
    );
    let names: Vec<_> = config.secrets.iter().map(|spec| &*spec.name).collect();
    let all = [
        "mine",
        "paypal",
        "github-app",
        "one/token",
        "other/token",
        "spotify/oauth2",
        "paypal/oauth2",
    ];
    assert_eq!(names, all);
    assert!(
        config.secrets.iter().all(|spec| spec.agent_env.is_empty()),
        "{:#?}",
        config.secrets
    );
    let documents: Vec<_> = config.secrets.iter().map(|spec| spec.document).collect();
    assert_eq!(documents, [false, false, true, false, false, false, false]);
    let made_with = |at: usize| {
        config.secrets[at]
            .source
            .uses()
            .iter()
            .map(|uses| uses.name.to_string())
            .collect()
    };
    let with: Vec<Vec<String>> = (3..7).map(made_with).collect();
    assert_eq!(with, [["github-app"], ["github-app"], ["mine"], ["paypal"]]);
    assert_ne!(config.secrets[3].source, config.secrets[4].source);
}

#[test]
fn what_a_preset_reads_as_a_token_endpoints_reply_is_not_the_users_to_widen() {
    let config = loads("rules: [{ preset: github-login, allow: \"GET /user\" }]");
    let allowed = |at: usize| {
        let allow = config.rules[at].allow.iter().flatten();
        allow.map(|allow| allow.text().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        allowed(0),
        ["POST /login/device/code", "POST /login/oauth/access_token"]
    );
    assert_eq!(allowed(1), ["GET /user"]);
}

fn injected(rule: &Rule) -> SecretId {
    match &rule.action {
        Action::Intercept { inject, .. } => match inject[..] {
            [Inject::Bearer(id)] => id,
            _ => panic!("{rule:?}"),
        },
        _ => panic!("{rule:?}"),
    }
}

#[test]
fn a_mistake_is_shown_with_its_line_a_caret_and_a_hint() {
    let text = "secrets: { github: { env: GITHUB_TOKEN } }
rules:
  - host: api.github.com
    inject: [{ bearer: githib }] # mend me
";
    let mistakes = parse(text).expect_err("it has a mistake");
    assert_eq!(
        mistakes.render(false),
        "error: no secret is named `githib`
 --> keyferry.yaml:4:24
  |
4 |     inject: [{ bearer: githib }] # mend me
  |                        ^^^^^^
hint: did you mean `github`?
"
    );
    let json = mistakes.json();
    assert_eq!(json[0]["line"], 4);
    assert_eq!(json[0]["column"], 24);
    assert_eq!(json[0]["length"], 6);
    assert_eq!(json[0]["hint"], "did you mean `github`?");
    assert!(mistakes.render(true).contains('\u{1b}'));
}

#[test]
fn a_credential_written_by_mistake_is_never_printed_back() {
    let key = "sk-ant-api03-Zm9vYmFyYmF6cXV4";
    for text in [
        format!("secrets: {{ a: {key} }}"),
        format!("secrets: {{ a: {{ env: {key} }} }}"),
        format!("secrets: {{ {key}: {{ evn: A }} }}"),
        format!("rules: [{{ host: a.test, inject: [{{ bearer: {key} }}] }}]"),
        format!("rules: [{{ host: a.test, inject: [{{ header: x, value: \"Bearer {key}\" }}] }}]"),
        format!("rules: [{{ host: a.test, inject: [{{ basic: {{ user: {key}, password: x }} }}] }}]"),
        format!("rules: [{{ host: a.test, inject: [{{ query: x, valeu: {key} }}] }}]"),
        format!("rules: [{{ host: \"https://{key}@a.test\" }}]"),
        format!("{key}: 1"),
        format!("listen: [{key}"),
        format!("a: *{key}"),
        format!("rules: [{{ host: a.test, agents: [{key}] }}]"),
        format!("audit: {{ file: a, when_full: {key} }}"),
    ] {
        let mistakes = parse(&text).expect_err(&text);
        let told = format!("{}{}{mistakes:?}{mistakes}", mistakes.render(true), mistakes.json());
        assert!(!told.contains("Zm9vYmFy"), "{told}");
    }
}

#[test]
fn every_character_counts_as_one_column() {
    let text = "# schlüssel 🔑\nrules: [{ name: \"schlüssel 🔑\", host: a.test, tunel: true }]";
    let mistakes = parse(text).expect_err("it has a mistake");
    assert_eq!((mistakes.list[0].place.line, mistakes.list[0].place.column), (2, 46));
    let rendered = mistakes.render(false);
    assert!(rendered.contains("keyferry.yaml:2:46"), "{rendered}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_without_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Config::load(&dir.path().join("keyferry.yaml"))
        .unwrap_err()
        .render(false);
    assert!(
        missing.starts_with("error: cannot read `") && missing.contains("hint: "),
        "{missing}"
    );
    let binary = dir.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    assert!(Config::load(&binary).is_err());
}

#[test]
fn relative_paths_start_where_the_config_is() {
    let text = "ca: { dir: ./ca }\naudit: { file: log/audit.jsonl }\nsecrets: { a: { file: ~/key } }\nrules: [{ host: a.test, inject: { bearer: a } }]";
    let config = Config::parse(text, Path::new("/etc/keyferry/keyferry.yaml"))
        .unwrap()
        .config;
    assert_eq!(config.ca, CaSource::Dir("/etc/keyferry/ca".into()));
    assert!(
        matches!(config.audit.sink, AuditSink::File { path, .. } if path == Path::new("/etc/keyferry/log/audit.jsonl"))
    );
    let home = etcetera::home_dir().unwrap();
    assert_eq!(config.secrets[0].source, Source::File(home.join("key")));
}

#[test]
fn what_is_left_out_has_a_sound_default() {
    let config = parse("rules: [{ host: a.test }]").unwrap().config;
    assert_eq!(config.listen[0].bind, Bind::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert!(config.upstream.system_roots && config.upstream.allow_networks.is_empty());
    assert!(matches!(&config.ca, CaSource::Dir(dir) if dir.ends_with("keyferry/ca")));
    assert!(matches!(&config.audit.sink, AuditSink::File { path, .. } if path.ends_with("keyferry/audit.jsonl")));
    assert_eq!(config.agents.len(), 1);
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn a_small_file_cannot_grow_into_a_large_tree() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", "));
    }
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested: String = (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let recursive = "a: &a [*a]".to_owned();
    let merges = format!("b: &b {{ a: 1 }}\n{}", "c: { <<: *b }\n".repeat(20_000));
    for text in [bomb, deep, nested, recursive, merges] {
        assert!(parse(&text).is_err(), "{} bytes were accepted", text.len());
    }
}

#[test]
fn ten_thousand_rules_load() {
    let mut text = String::from("secrets: { key: { env: KEY } }\nrules:\n");
    for n in 0..10_000 {
        text += &format!(
            "  - name: rule-{n}\n    host: h{n}.test\n    allow: [GET /v{n}/**]\n    inject: [{{ bearer: key }}]\n"
        );
    }
    assert_eq!(loads(&text).rules.len(), 10_000);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = parse(&text).map_err(|m| m.render(true));
    }

    #[test]
    fn no_piece_torn_from_a_config_makes_the_reader_panic(cut in 0usize..6_000, length in 0usize..200, put in "[\\[\\]{}:,*&!|>'\"#%@`~ \n\t$a0é-]{0,6}") {
        let whole = include_str!("../../../config/keyferry.yaml");
        let cut = whole.floor_char_boundary(cut.min(whole.len()));
        let end = whole.floor_char_boundary((cut + length).min(whole.len()));
        let text = format!("{}{put}{}", &whole[..cut], &whole[end..]);
        match parse(&text) {
            Ok(loaded) => drop(loaded.warnings.render(true)),
            Err(mistakes) => {
                proptest::prop_assert!(!mistakes.is_empty());
                drop((mistakes.render(true), mistakes.json()));
            }
        }
    }
}
