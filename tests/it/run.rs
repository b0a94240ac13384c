//! `keyferry run` with no config at all: rules come from what the caller has set, and nothing else
//! is allowed.

use crate::rig::origin::Origin;
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::Root;
use crate::rig::{soon, tools};
use std::process::{Command, Output};

/// Values of the shape that each variable's real ones have.
const HELD: [(&str, &str, &str); 8] = [
    (
        "ANTHROPIC_API_KEY",
        "sk-ant-",
        "sk-ant-api03-Zk3vQ9xW1bN7mR5tY2uL8pD4fG6hJ0aSzXcVnMqWeRtYuIoP-AbCdEfGh_AA",
    ),
    (
        "OPENAI_API_KEY",
        "sk-",
        "sk-proj-Q7wErT5yUiOpAsDfGhJkLzXcVbNm1234567890QwErTyUiOp",
    ),
    ("GITHUB_TOKEN", "ghp_", "ghp_R4nd0mT0kenV4lueW1th36Characters00"),
    (
        "SLACK_BOT_TOKEN",
        "xoxb-",
        "xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    ),
    ("GITLAB_TOKEN", "glpat-", "glpat-Xy12Zw34Vu56Ts78Rq90"),
    ("HF_TOKEN", "hf_", "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"),
    ("GEMINI_API_KEY", "AIza", "AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q"),
    (
        "STRIPE_API_KEY",
        "sk_live_",
        "sk_live_51HqLyjWDarjtT1zdp7dcAbCdEfGhIjKl",
    ),
];

fn run(dir: &std::path::Path, options: &[&str], script: &str, vars: &[(&str, &str)]) -> Output {
    let mut command = Command::new(tools::KEYFERRY);
    bare(&mut command, dir);
    command.current_dir(dir).envs(vars.iter().copied());
    command.arg("run").args(options).args(["--", "/bin/sh", "-c", script]);
    command.output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn each_known_variable_holds_a_placeholder_of_the_same_shape() {
    let dir = tempfile::tempdir().unwrap();
    let vars = HELD.map(|(name, _, value)| (name, value));
    let (out, err) = said(&run(dir.path(), &[], "env", &vars));
    for (name, prefix, real) in HELD {
        let held = out
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
            .unwrap_or_else(|| panic!("no {name}: {out}{err}"));
        assert!(
            held.starts_with(prefix) && held.len() == real.len() && held != real,
            "{name}: {held}"
        );
        let alphabet = |text: &str| {
            (
                text.bytes().any(|b| b.is_ascii_uppercase()),
                text.bytes().all(|b| b.is_ascii_graphic()),
            )
        };
        assert_eq!(alphabet(held), alphabet(real), "{name}: {held}");
        assert!(!out.contains(real) && !err.contains(real));
    }
}

#[test]
fn a_credential_nobody_knows_is_kept_from_the_command_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let vars = [("ACME_SECRET_TOKEN", "acme-0123456789abcdef"), ("PLAIN_SETTING", "yes")];
    let (out, err) = said(&run(dir.path(), &[], "env", &vars));
    assert!(
        !out.contains("acme-0123456789abcdef") && out.contains("PLAIN_SETTING=yes"),
        "{out}"
    );
    assert!(err.contains("ACME_SECRET_TOKEN"), "{err}");
    let (out, _) = said(&run(dir.path(), &["--keep-env", "ACME_SECRET_TOKEN"], "env", &vars));
    assert!(out.contains("ACME_SECRET_TOKEN=acme-0123456789abcdef"));
}

#[test]
fn what_no_rule_allows_is_denied_and_summed_up_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let script = "curl -sS https://unlisted.invalid/ ; curl -sS https://other.invalid/ ; exit 7";
    let output = run(dir.path(), &[], script, &[]);
    let (_, err) = said(&output);
    assert_eq!(output.status.code(), Some(7), "{err}");
    assert_eq!(
        err.lines().last().unwrap(),
        "keyferry: 0 requests went, 2 denied; the first to unlisted.invalid: no rule allows unlisted.invalid:443"
    );
}

#[test]
fn allow_adds_a_host() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        "for host in listed a.wild; do curl -sS -o body -w '%{http_code}' https://$host.invalid/ ; cat body; done";
    let output = run(
        dir.path(),
        &["--allow", "listed.invalid", "--allow", "*.wild.invalid"],
        script,
        &[],
    );
    let (out, err) = said(&output);
    // Allowed, and so asked for: that there are no such hosts is another matter.
    assert!(
        out.matches("502").count() == 2 && out.matches("upstream_unresolved").count() == 2,
        "{out}{err}"
    );
    assert_eq!(
        err.lines().last().unwrap(),
        "keyferry: 0 requests went, 2 failed, 0 denied"
    );
}

#[tokio::test]
async fn with_a_config_its_rules_hold_and_allow_overrules_no_denial() {
    let root = Root::new();
    let origin = Origin::with_names(&root, &["api.test", "old.test", "new.test"]).await;
    let rig = ["api.test", "old.test", "new.test"]
        .iter()
        .fold(Rig::new(&root), |rig, name| rig.reach_as(name, origin.address))
        .rule("host: api.test")
        .rule("host: old.test, deny: use new.test");
    let script = "for host in api old new; do \"$0\" -sS https://$host.test/hello 2>&1; echo; done";
    let mut command = rig.command(&["run", "--allow", "old.test", "--allow", "new.test"]);
    command.args(["--", "/bin/sh", "-c", script]).arg(tools::need("curl"));
    let output = soon("the command", tokio::process::Command::from(command).output())
        .await
        .unwrap();
    let (out, err) = said(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((lines[0], *lines.last().unwrap()), ("hello", "hello"), "{out}{err}");
    assert_eq!(
        err.lines().last().unwrap(),
        "keyferry: 2 requests went, 1 denied; the first to old.test: rule `rule 2` denies old.test:443: use new.test"
    );
}

#[test]
fn the_exit_code_says_what_happened_to_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let status = |argv: &[&str]| {
        let mut command = Command::new(tools::KEYFERRY);
        bare(&mut command, dir.path());
        command
            .current_dir(dir.path())
            .arg("run")
            .args(argv)
            .output()
            .unwrap()
            .status
            .code()
    };
    std::fs::write(dir.path().join("plain"), "text").unwrap();
    assert_eq!(status(&["--", "true"]), Some(0));
    assert_eq!(status(&["--", "no-such-command"]), Some(127));
    assert_eq!(status(&["--", "./plain"]), Some(126));
    assert_eq!(status(&["--allow", "a b", "--", "true"]), Some(2));
    assert_eq!(status(&[]), Some(2));
}

/// `setpriv` words that make a command somebody else's.
const NOBODY: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

#[test]
fn another_user_of_this_machine_must_show_the_commands_token() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "bare=$(echo \"$HTTPS_PROXY\" | sed 's|//.*@|//|')
         ask='curl -s -o /dev/null -w %{{http_connect}}. https://api.test/ --proxy'
         $ask \"$bare\"; {NOBODY} $ask \"$bare\"; {NOBODY} $ask \"$HTTPS_PROXY\""
    );
    let (out, err) = said(&run(dir.path(), &[], &script, &[]));
    // 403 is the rules' word, and they are asked only once it is known who asks.
    assert_eq!(out, "403.407.403.", "{err}");
}

#[test]
fn a_command_cannot_read_the_environment_of_its_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("keyferry");
    std::fs::copy(tools::KEYFERRY, &program).unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    };
    [dir.path(), &home].into_iter().for_each(open);
    let script = "tr '\\0' '\\n' </proc/$PPID/environ | grep -c GITHUB_TOKEN; tr '\\0' '\\n' </proc/$$/environ | grep -c GITHUB_TOKEN";
    let mut command = Command::new("sh");
    bare(&mut command, &home);
    command.current_dir(&home).env("GITHUB_TOKEN", HELD[2].2);
    let run = format!("exec {NOBODY} {} run -- /bin/sh -c \"$1\"", program.display());
    let output = command.args(["-c", &run, "sh", script]).output().unwrap();
    let (out, err) = said(&output);
    assert_eq!(out, "0\n1\n", "{err}");
}
