//! `keyferry explain` says what `serve` would do, and why.

use crate::rig::proxy::bare;
use crate::rig::tools;
use std::process::{Command, Output};

const CONFIG: &str = "
agents: { ci: { token: one }, dev: { token: two } }
secrets: { github: { env: GITHUB }, one: { env: ONE }, two: { env: TWO } }
rules:
  - { name: gh, host: api.test, agents: [ci], allow: [\"GET /user\"], inject: [{ bearer: github }] }
  - { name: old, host: old.test, deny: use new.test }
  - { name: pinned, host: pinned.test, tunnel: true }
  - { name: open, host: open.test }
";

fn explain(words: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keyferry.yaml"), CONFIG).unwrap();
    let mut command = Command::new(tools::KEYFERRY);
    bare(&mut command, dir.path());
    command
        .current_dir(dir.path())
        .arg("explain")
        .args(words)
        .output()
        .unwrap()
}

#[test]
fn each_request_is_told_its_rule_what_is_injected_and_why_not() {
    for (words, code, says) in [
        (
            "GET https://api.test/user --agent ci",
            0,
            "allowed by rule `gh`\n  injects `github` as `Authorization: Bearer`\n",
        ),
        ("GET api.test/user --agent ci", 0, "allowed by rule `gh`"),
        (
            "GET https://api.test:8443/user --agent ci",
            1,
            "no rule allows api.test:8443",
        ),
        (
            "GET https://api.test/user --agent dev",
            1,
            "no rule allows this agent to reach api.test:443",
        ),
        ("POST https://api.test/user --agent ci", 1, "it allows: GET /user"),
        ("GET http://api.test/user --agent ci", 1, "use https"),
        ("GET https://old.test/", 1, "denied by rule `old`: use new.test"),
        ("GET https://pinned.test/", 0, "tunnel by rule `pinned`"),
        ("GET https://open.test/", 0, "nothing is injected"),
    ] {
        let output = explain(&words.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        assert!(said.contains(says), "{words}: {said}");
    }
}

#[test]
fn what_makes_no_sense_is_told_and_the_exit_code_is_2() {
    for (words, says) in [
        ("GET https://api.test/ --agent nobody", "the config has: ci, dev"),
        ("GET ftp://api.test/", "neither http nor https"),
        ("G(T https://api.test/", "is no method"),
    ] {
        let output = explain(&words.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}: {said}");
        assert!(said.contains(says), "{words}: {said}");
    }
}

#[test]
fn a_program_reads_the_explanation_as_json() {
    let output = explain(&["GET", "https://api.test/user", "--agent", "ci", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["allowed"], &told["rule"], &told["agent"]),
        (&true.into(), &"gh".into(), &"ci".into())
    );
    assert_eq!(told["inject"].as_array().unwrap().len(), 1);
}
