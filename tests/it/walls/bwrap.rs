//! bubblewrap, as root and as an ordinary user.

use super::{Who, command, everyone, nothing_escapes, run, told};
use crate::clients::{REAL, api};
use crate::rig::{eventually, tools};
use std::process::Stdio;

const WALL: &[&str] = &["--sandbox", "bwrap"];

#[tokio::test]
async fn every_way_out_of_bubblewrap_is_shut() {
    tools::need("bwrap");
    for who in everyone() {
        let (origin, rig) = api().await;
        // Only root can make control groups here; without one, memory and processes are not bounded, and Keyferry says so.
        let bounded = who == Who::Us && rustix::process::geteuid().is_root();
        nothing_escapes(&rig, who, WALL, bounded).await;
        assert_eq!(origin.seen().len(), 0);
    }
}

#[tokio::test]
async fn what_is_allowed_works_behind_it_with_a_credential_that_is_not_there() {
    for who in everyone() {
        let (origin, rig) = api().await;
        let script = "set -e
            curl -sS -o /dev/null -w '%{http_code} ' https://api.test/curl
            curl -sS -o /dev/null -w '%{http_code} ' https://other.test/ 2>/dev/null || true
            wget -q -O /dev/null https://api.test/wget
            python3 -c 'import urllib.request; print(urllib.request.urlopen(\"https://api.test/python\").status, end=\" \")'
            node -e 'fetch(\"https://api.test/node\").then(r => process.stdout.write(r.status + \" \"))'
            git ls-remote https://api.test/git 2>&1 | head -c 0
            env";
        let output = run(command(&rig, who, WALL, &["sh", "-c", script])).await;
        let (out, err) = told(&output);
        assert!(output.status.success(), "{who:?}: {out}\n{err}");
        assert!(out.starts_with("200 000 200 200 "), "{who:?}: {out}\n{err}");
        assert!(!out.contains(REAL) && !err.contains(REAL));
        assert!(
            out.contains("\nAPI_KEY=") && out.contains("\nHOME=/home/agent"),
            "{out}"
        );
        let asked: Vec<_> = origin
            .seen()
            .into_iter()
            .map(|one| (one.target.clone(), one.all("x-api-key")))
            .collect();
        for path in [
            "/curl",
            "/wget",
            "/python",
            "/node",
            "/git/info/refs?service=git-upload-pack",
        ] {
            let held = vec![REAL.to_owned()];
            assert!(
                asked.contains(&(path.to_owned(), held)),
                "{who:?}: {path} is not among {asked:?}\n{err}"
            );
        }
        assert!(err.contains("1 denied"), "{err}");
    }
}

#[tokio::test]
async fn a_commands_end_is_told_as_it_is() {
    let (_origin, rig) = api().await;
    for (words, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["true"], 0),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["no-such-program-anywhere"], 127),
    ] {
        let output = run(command(&rig, Who::Us, WALL, words)).await;
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", told(&output).1);
    }
}

#[tokio::test]
async fn what_is_masked_is_told_and_shown_only_when_asked_for() {
    let (_origin, rig) = api().await;
    let work = rig.dir().join("work");
    std::fs::create_dir_all(work.join("more")).unwrap();
    std::fs::write(work.join(".env"), "A=1\n").unwrap();
    std::fs::write(work.join("more/.env.local"), "B=2\n").unwrap();
    let cat = ["sh", "-c", "cat .env more/.env.local"];
    let (out, err) = told(&run(command(&rig, Who::Us, WALL, &cat)).await);
    assert_eq!(out, "");
    assert!(
        err.contains("masked") && err.contains("more/.env.local (variables with credentials)"),
        "{err}"
    );
    let unmask = [WALL, &["--unmask", ".env"]].concat();
    let (out, err) = told(&run(command(&rig, Who::Us, &unmask, &cat)).await);
    assert_eq!(out, "A=1\n", "{err}");
    let shut = [WALL, &["--workdir", ".:ro"]].concat();
    let output = run(command(&rig, Who::Us, &shut, &["touch", "here"])).await;
    assert!(
        !output.status.success() && told(&output).1.contains("Read-only"),
        "{}",
        told(&output).1
    );
    let elsewhere = rig.dir().join("home");
    std::fs::write(elsewhere.join("note"), "hello\n").unwrap();
    let mount = [WALL, &["--mount", elsewhere.to_str().unwrap()]].concat();
    let note = elsewhere.join("note");
    let output = run(command(&rig, Who::Us, &mount, &["cat", note.to_str().unwrap()])).await;
    assert_eq!(told(&output).0, "hello\n", "{}", told(&output).1);
}

#[tokio::test]
async fn when_keyferry_is_killed_nothing_of_the_command_is_left() {
    let (_origin, rig) = api().await;
    let marker = format!("{}.25", 40_000 + std::process::id());
    let mut command = command(
        &rig,
        Who::Us,
        WALL,
        &["sh", "-c", &format!("sleep {marker} & sleep {marker}")],
    );
    let mut keyferry = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the command", || (processes(&marker) >= 2).then_some(())).await;
    keyferry.kill().unwrap();
    keyferry.wait().unwrap();
    eventually("the end of the command", || (processes(&marker) == 0).then_some(())).await;
    let left = || directories(keyferry.id());
    assert_eq!(left(), 1, "a run that was killed cannot remove its directory");
    // Whoever comes next does.
    run(self::command(&rig, Who::Us, WALL, &["true"])).await;
    assert_eq!(left(), 0);
}

/// How many directories of runs there are of that process.
fn directories(process: u32) -> usize {
    let name = format!("keyferry-run-{process}-");
    let all = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    all.filter(|one| one.file_name().to_string_lossy().starts_with(&name))
        .count()
}

/// How many processes are `sleep MARKER`.
fn processes(marker: &str) -> usize {
    let Ok(all) = std::fs::read_dir("/proc") else { return 0 };
    let lines = all
        .flatten()
        .filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
    lines
        .filter(|line| line.starts_with(format!("sleep\0{marker}").as_bytes()))
        .count()
}

#[tokio::test]
async fn claude_code_does_its_work_behind_the_wall() {
    let (origin, rig) = crate::clients::claude::session().await;
    let claude = tools::npm(".bin/claude");
    let node = tools::installed().join("node");
    for who in everyone().into_iter().take(1) {
        let options = [
            WALL,
            &[
                "--mount",
                node.to_str().unwrap(),
                "--keep-env",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            ],
        ]
        .concat();
        let words = [
            claude.to_str().unwrap(),
            "-p",
            "use the tool",
            "--allowedTools",
            "Bash(curl:*)",
        ];
        let (out, err) = told(&run(command(&rig, who, &options, &words)).await);
        assert_eq!(out.trim(), "The tool said hello.", "{err}");
        assert!(origin.seen().len() >= 2);
        assert!(!out.contains(REAL) && !err.contains(REAL));
    }
}
