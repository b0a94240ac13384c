//! `init` as a user runs it: what it writes, what it says, and what it must not say.

use crate::rig::tools;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::{TempDir, tempdir};

/// A home with a few credentials in it, each with `s3cr3t` in its value.
fn home() -> TempDir {
    let dir = tempdir().unwrap();
    std::fs::write(
        dir.path().join(".netrc"),
        "machine api.one.test login u password s3cr3t-netrc\n",
    )
    .unwrap();
    std::fs::write(dir.path().join(".npmrc"), "//npm.two.test/:_authToken=s3cr3t-npm\n").unwrap();
    dir
}

fn keyferry(home: &Path, arguments: &[&str]) -> Output {
    Command::new(tools::KEYFERRY)
        .args(arguments)
        .env_clear()
        .env("PATH", tools::path())
        .env("HOME", home)
        .env("GITHUB_TOKEN", "ghp_s3cr3t0123456789012345678901234567")
        .current_dir(home)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains("s3cr3t"), "{text}");
    text
}

#[test]
fn init_writes_a_config_that_explain_understands_and_shows_no_value() {
    let home = home();
    let output = keyferry(home.path(), &["init"]);
    let text = told(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("keyferry secret set api-one-test"), "{text}");
    let config = std::fs::read_to_string(home.path().join("keyferry.yaml")).unwrap();
    assert!(!config.contains("s3cr3t"));
    let explained = keyferry(home.path(), &["explain", "GET", "https://npm.two.test/x"]);
    assert!(
        explained.status.success() && told(&explained).contains("npm-two-test"),
        "{}",
        told(&explained)
    );
}

#[test]
fn logins_of_programs_that_have_a_preset_are_told_how_to_log_in_through_keyferry() {
    let home = home();
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        ".claude/.credentials.json",
        "{\"claudeAiOauth\": {\"accessToken\": \"s3cr3t-claude\"}}",
    );
    // Where there is a keyring, gh keeps the token there.
    write(
        ".config/gh/hosts.yml",
        "github.com:\n    git_protocol: https\n    user: me\n",
    );
    write(
        "key.json",
        "{\"type\": \"service_account\", \"private_key\": \"s3cr3t\"}",
    );
    let output = keyferry(home.path(), &["init", "--json"]);
    told(&output);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (file, words) in [
        (".claude/.credentials.json", "- preset: anthropic-login"),
        ("gh/hosts.yml", "- preset: github-login"),
        ("key.json", "- preset: google-cloud"),
    ] {
        let stays = said["stays"].as_array().unwrap();
        let it = stays
            .iter()
            .find(|it| it["place"]["file"].as_str().is_some_and(|at| at.ends_with(file)));
        let it = it.unwrap_or_else(|| panic!("{file} is not told of: {said:#}"));
        let advice = it["advice"].as_str().unwrap();
        assert!(advice.contains(words) && advice.contains("sandbox"), "{advice}");
        let preset = words.rsplit(' ').next().unwrap();
        assert!(keyferry::config::presets::find(preset).is_some(), "{preset}");
    }
}

#[test]
fn a_config_that_is_there_is_kept_unless_forced() {
    let home = home();
    let config = home.path().join("keyferry.yaml");
    std::fs::write(&config, "mine").unwrap();
    let refused = keyferry(home.path(), &["init"]);
    assert!(!refused.status.success() && told(&refused).contains("--force"));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "mine");
    assert!(keyferry(home.path(), &["init", "--force"]).status.success());
    assert!(std::fs::read_to_string(&config).unwrap().contains("preset: github"));
}

#[test]
fn import_copies_the_values_into_the_encrypted_file() {
    let home = home();
    let output = keyferry(home.path(), &["init", "--import", "--json"]);
    told(&output);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let moved: Vec<_> = said["moved"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(moved, ["github", "api-one-test", "npm-two-test"]);
    assert!(
        said["moved"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["imported"] == true)
    );
    let listed = told(&keyferry(home.path(), &["secret", "list"]));
    assert_eq!(listed, "api-one-test\ngithub\nnpm-two-test\n");
}

#[test]
fn completions_name_the_verbs() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let output = keyferry(home.path(), &["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            script.contains("keyferry") && script.contains("completions") && script.contains("init"),
            "{shell}"
        );
    }
    let script = "source <(\"$0\" completions bash); COMP_WORDS=(keyferry comp); COMP_CWORD=1; \
        _keyferry keyferry comp keyferry; complete -p keyferry && echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash")
        .args(["-c", script, tools::KEYFERRY])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&bash.stdout).into_owned();
    assert!(
        said.contains("-F _keyferry") && said.ends_with("completions\n"),
        "{said}"
    );
}
