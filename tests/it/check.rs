//! What `keyferry check` and `keyferry schema` tell, and to whom.

use super::rig::tools::KEYFERRY;
use serde_json::Value as Json;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the program on `config`, written to a file of its own.
fn keyferry(config: &str, arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyferry.yaml");
    std::fs::write(&path, config).unwrap();
    run(dir.path(), arguments)
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(KEYFERRY);
    command
        .args(arguments)
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("XDG_CONFIG_HOME");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const TWO_MISTAKES: &str = "secrets: { key: { env: KEY } }
rules:
  - host: api.example.com
    inject: [{ bearer: kye }]
  - hots: api.example.com
";

#[test]
fn every_mistake_goes_to_stderr_at_once_and_the_exit_code_is_2() {
    let output = keyferry(TWO_MISTAKES, &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "error: no secret is named `kye`
 --> keyferry.yaml:4:24
  |
4 |     inject: [{ bearer: kye }]
  |                        ^^^
hint: did you mean `key`?

error: a rule has no key `hots`
 --> keyferry.yaml:5:5
  |
5 |   - hots: api.example.com
  |     ^^^^
hint: did you mean `host`?

2 mistakes; the config does not load
"
    );
}

#[test]
fn a_sound_config_is_counted_on_stdout_and_warned_of_on_stderr() {
    let output = keyferry(
        "secrets: { key: { env: KEY } }\nrules: [{ host: api.example.com }]\n",
        &["check"],
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "ok: 1 rule, 1 secret, 1 agent\n");
    assert!(
        text(&output.stderr).starts_with("warning: secret `key` is used nowhere\n"),
        "{output:?}"
    );
}

#[test]
fn a_program_reads_the_mistakes_as_json() {
    let output = keyferry(TWO_MISTAKES, &["check", "--json"]);
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["ok"]), (Some(2), &Json::Bool(false)));
    let places: Vec<_> = told["mistakes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (&m["line"], &m["column"]))
        .collect();
    assert_eq!(places, [(&4.into(), &24.into()), (&5.into(), &5.into())]);
}

#[test]
fn without_a_config_there_is_nothing_to_check() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("keyferry init"), "{output:?}");
}

#[test]
fn the_schema_printed_is_the_one_kept() {
    let dir = tempfile::tempdir().unwrap();
    let kept = include_str!("../../config/keyferry.schema.json");
    assert_eq!(text(&run(dir.path(), &["schema"]).stdout), kept);
}
