//! Walls: what runs behind one reaches what the rules allow, and nothing else of the machine or the network. One table of
//! escapes for every wall.

mod bwrap;
mod docker;
mod gvisor;
mod podman;
mod printed;
mod table;
mod vm;

use crate::clients::REAL;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{eventually, tools};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Who starts Keyferry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Whoever runs the tests.
    Us,
    /// An ordinary user, which only root can become.
    Ordinary,
}

/// That of an ordinary user; it need not exist.
const ORDINARY: u32 = 1201;

/// Root tries both; an ordinary user can only be itself.
fn everyone() -> Vec<Who> {
    if rustix::process::geteuid().is_root() {
        vec![Who::Us, Who::Ordinary]
    } else {
        vec![Who::Us]
    }
}

/// `keyferry run OPTIONS -- WORDS` in the rig's folder `work`, as that user.
fn command(rig: &Rig, who: Who, options: &[&str], words: &[&str]) -> Command {
    let work = rig.dir().join("work");
    std::fs::create_dir_all(&work).unwrap();
    let made = rig.command(&["run"]);
    let program = if who == Who::Us {
        PathBuf::from(tools::KEYFERRY)
    } else {
        // Where the tests were built may be nobody else's to see.
        let copy = rig.dir().join("keyferry");
        if !copy.exists() {
            std::fs::copy(tools::KEYFERRY, &copy).unwrap();
        }
        give(rig.dir());
        copy
    };
    let mut command = if who == Who::Us {
        Command::new(&program)
    } else {
        let mut command = Command::new(tools::need("setpriv"));
        let user = ORDINARY.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command.arg(&program);
        command
    };
    command
        .env_clear()
        .envs(made.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(made.get_args()).args(options).arg("--").args(words);
    command.current_dir(work).stdin(Stdio::null());
    command
}

/// Makes all of a folder the ordinary user's.
fn give(dir: &Path) {
    let given = Command::new("chown")
        .arg("-R")
        .arg(format!("{ORDINARY}:{ORDINARY}"))
        .arg(dir)
        .status();
    assert!(given.unwrap().success());
}

/// Runs it to its end.
async fn run(mut command: Command) -> Output {
    let (sent, received) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sent.send(command.output().unwrap()));
    tokio::time::timeout(std::time::Duration::from_secs(240), received)
        .await
        .expect("it does not end")
        .unwrap()
}

/// The command sees the caller's terminal: its size and the change of it, its keys one by one, and `Ctrl-C` as a signal;
/// and the terminal is left as it was.
async fn terminal(rig: &Rig, options: &[&str]) {
    let script = "stty size; before=$(stty -g); stty -icanon -echo; printf 'one key: '; dd bs=1 count=1 2>/dev/null; echo; stty $before
        trap 'stty size; echo changed' WINCH; trap 'echo stopped; exit 4' INT; echo ready; while :; do sleep 0.1; done";
    let asked = command(rig, Who::Us, options, &["sh", "-c", script]);
    let mut driver = Command::new(tools::need("python3"));
    driver.arg("-c").arg(include_str!("terminal.py"));
    driver.arg(asked.get_program()).args(asked.get_args());
    driver
        .env_clear()
        .envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    driver.current_dir(rig.dir().join("work")).stdin(Stdio::null());
    let (out, err) = told(&run(driver).await);
    let seen: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}\n{err}"));
    let printed = seen["printed"].as_str().unwrap();
    for part in ["24 100\r\n", "one key: k\r\n", "31 90\r\nchanged", "stopped"] {
        assert!(printed.contains(part), "no {part:?} in {printed}");
    }
    assert_eq!(
        (&seen["code"], &seen["restored"]),
        (&json!(4), &json!(true)),
        "{printed}"
    );
}

fn told(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Makes what is shared a container's to write to: as root's it would be nobody's inside.
fn share(rig: &Rig) {
    let work = rig.dir().join("work");
    std::fs::create_dir_all(&work).unwrap();
    if rustix::process::geteuid().is_root() {
        give(&work);
    }
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

/// How many directories of runs there are of that process.
fn directories(process: u32) -> usize {
    let name = format!("keyferry-run-{process}-");
    let all = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    all.filter(|one| one.file_name().to_string_lossy().starts_with(&name))
        .count()
}

/// Clients of every kind get their answers, with a credential that is not there to be found.
async fn what_is_allowed_works(origin: &Origin, rig: &Rig, who: Who, wall: &[&str]) {
    let script = "set -e
        curl -sS -o /dev/null -w '%{http_code} ' https://api.test/curl
        curl -sS -o /dev/null -w '%{http_code} ' https://other.test/ 2>/dev/null || true
        wget -q -O /dev/null https://api.test/wget
        python3 -c 'import urllib.request; print(urllib.request.urlopen(\"https://api.test/python\").status, end=\" \")'
        node -e 'fetch(\"https://api.test/node\").then(r => process.stdout.write(r.status + \" \"))'
        git ls-remote https://api.test/git 2>&1 | head -c 0
        env";
    let output = run(command(rig, who, wall, &["sh", "-c", script])).await;
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

/// Exit codes are passed on, of what ran and of what could not.
async fn ends_are_told_as_they_are(rig: &Rig, wall: &[&str]) {
    for (words, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["true"], 0),
        (&["sh", "-c", "exit 125"], 125),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["/etc/passwd"], 126),
        (&["no-such-program-anywhere"], 127),
    ] {
        let output = run(command(rig, Who::Us, wall, words)).await;
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", told(&output).1);
    }
}

/// Keyferry is killed while its command and a child of that run: neither is left.
async fn nothing_outlives_keyferry(rig: &Rig, wall: &[&str]) {
    let marker = format!("{}.25", 40_000 + std::process::id());
    let script = format!("sleep {marker} & sleep {marker}");
    let mut command = command(rig, Who::Us, wall, &["sh", "-c", &script]);
    let mut keyferry = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the command", || (processes(&marker) >= 2).then_some(())).await;
    keyferry.kill().unwrap();
    keyferry.wait().unwrap();
    eventually("the end of the command", || (processes(&marker) == 0).then_some(())).await;
    let left = || directories(keyferry.id());
    assert_eq!(left(), 1, "a run that was killed cannot remove its directory");
    // Whoever comes next does.
    run(self::command(rig, Who::Us, wall, &["true"])).await;
    assert_eq!(left(), 0);
}

/// A base URL leads to the proxy from inside too.
async fn base_urls_work(wall: &[&str], at: impl FnOnce(Rig) -> Rig) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rule = "name: api, host: api.test, gateway: /api, base_url: API_URL, inject: [{ header: x-api-key, value: \"${api_key}\" }]";
    let rig = at(Rig::new(&root).reach(&origin).secret("API_KEY", REAL).rule(rule));
    let wall = [wall, &["--gateway"]].concat();
    let words = ["sh", "-c", "curl -sS --noproxy '*' $API_URL/hello"];
    let output = run(command(&rig, Who::Us, &wall, &words)).await;
    assert_eq!(told(&output).0, "hello", "{}", told(&output).1);
    assert_eq!(origin.only().all("x-api-key"), [REAL]);
    assert_eq!(rig.audit()[0]["way"], "gateway");
}

/// Claude Code has a command run, and says what came of it.
async fn claude_does_its_work(wall: &[&str], at: impl FnOnce(Rig) -> Rig) {
    let (origin, rig) = crate::clients::claude::session().await;
    let rig = at(rig);
    if wall != ["--sandbox", "bwrap"] {
        share(&rig);
    }
    let claude = tools::npm(".bin/claude");
    let node = tools::installed().join("node");
    let options = [
        wall,
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
    let (out, err) = told(&run(command(&rig, Who::Us, &options, &words)).await);
    assert_eq!(out.trim(), "The tool said hello.", "{err}");
    assert!(origin.seen().len() >= 2);
    assert!(!out.contains(REAL) && !err.contains(REAL));
}
