//! Starting a command and passing on how it ended.

use crate::rig::tools;
use keyferry::launch::child::Signals;
use keyferry::launch::child::run;
use keyferry::launch::{Error, Exit, Tether};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::tempdir;

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(Into::into).collect()
}

fn env() -> Vec<(OsString, OsString)> {
    vec![
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("GREETING".into(), "hello".into()),
    ]
}

async fn both_ways(command: &[&str]) -> u8 {
    let loose = run(&words(command), env(), &Tether::Loose, Signals::Own).await.unwrap();
    let tethered = run(
        &words(command),
        env(),
        &Tether::Through {
            own: tools::KEYFERRY.into(),
            enter: Vec::new(),
        },
        Signals::Own,
    )
    .await
    .unwrap();
    assert_eq!(loose, tethered);
    let Exit(code) = loose;
    code
}

#[tokio::test]
async fn the_commands_own_code_is_passed_through() {
    assert_eq!(both_ways(&["true"]).await, 0);
    assert_eq!(both_ways(&["sh", "-c", "exit 3"]).await, 3);
    assert_eq!(both_ways(&["sh", "-c", "kill -TERM $$"]).await, 128 + 15);
    assert_eq!(both_ways(&["sh", "-c", "kill -KILL $$"]).await, 128 + 9);
}

#[tokio::test]
async fn it_has_its_own_name_and_exactly_the_given_variables() {
    let script = r#"test "$GREETING" = hello && test -z "$CARGO" && test "$1" = "a b" && test "$0" = name"#;
    assert_eq!(both_ways(&["sh", "-c", script, "name", "a b"]).await, 0);
}

#[tokio::test]
async fn what_cannot_be_started_has_a_code_of_its_own() {
    let dir = tempdir().unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    let command = |name: &str| words(&[name]);
    let failure = async |name: &str, path: &str| {
        let env = vec![("PATH".into(), path.into())];
        run(&command(name), env, &Tether::Loose, Signals::Own)
            .await
            .unwrap_err()
    };
    let here = dir.path().to_str().unwrap();
    let missing = failure("no-such-command", here).await;
    assert!(
        matches!(missing, Error::NotFound(_)) && missing.exit_code() == 127,
        "{missing}"
    );
    let by_path = failure(&format!("{here}/none"), here).await;
    assert_eq!(by_path.exit_code(), 127);
    let refused = failure("plain", here).await;
    assert!(
        matches!(refused, Error::NotExecutable(_)) && refused.exit_code() == 126,
        "{refused}"
    );
    assert_eq!(failure(here, here).await.exit_code(), 126, "a directory");
    assert_eq!(
        run(&[], env(), &Tether::Loose, Signals::Own)
            .await
            .unwrap_err()
            .exit_code(),
        125
    );
    // Executable by its bits, but no program: only the kernel can tell.
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&plain, [0x7f, b'E', b'L', b'F', 0, 0]).unwrap();
    assert_eq!(failure(plain.to_str().unwrap(), here).await.exit_code(), 126);
}

#[test]
fn a_tethered_command_dies_with_the_one_who_started_it() {
    let dir = tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 600", pid_file.display());
    // A shell starts it as `run` would, and ends without waiting for it.
    let start = format!(
        "{} __child $$ 0 /bin/sh sh -c '{script}' & while ! test -s {}; do sleep 0.02; done",
        tools::KEYFERRY,
        pid_file.display()
    );
    assert!(
        std::process::Command::new("/bin/sh")
            .args(["-c", &start])
            .status()
            .unwrap()
            .success()
    );
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let gone = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    let tries = (0..200)
        .take_while(|_| !gone())
        .map(|_| std::thread::sleep(Duration::from_millis(50)))
        .count();
    assert!(gone(), "still there after {tries} looks");
}
