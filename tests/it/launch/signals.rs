//! What reaches the command when Keyferry is told to stop.

use crate::rig::tools;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use tempfile::tempdir;

/// `keyferry run` of a shell that says so when it is ready, and what it has said.
fn running(script: &str, home: &std::path::Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(tools::KEYFERRY)
        .args(["run", "--quiet", "--", "/bin/sh", "-c", script])
        .env_clear()
        .env("PATH", tools::path())
        .env("HOME", home)
        .current_dir(home)
        // A group of its own, which no terminal sends keys to.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, said)
}

#[test]
fn a_signal_is_passed_on_and_the_commands_answer_is_the_exit_code() {
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::HUP, "HUP"), (Signal::INT, "INT")] {
        let home = tempdir().unwrap();
        let script = format!("trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done");
        let (mut child, said) = running(&script, home.path());
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7), "{name}");
        let rest: Vec<String> = said.lines().map(Result::unwrap).collect();
        assert_eq!(rest, [format!("got {name}")]);
    }
}

#[test]
fn a_key_typed_at_a_terminal_reaches_the_command_once() {
    let home = tempdir().unwrap();
    let script = "trap \"echo got INT\" INT; echo ready; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; exit 5";
    let command = format!("exec {} run --quiet -- /bin/sh -c '{script}'", tools::KEYFERRY);
    // `script` gives it a terminal, and types what we write.
    let mut terminal = Command::new(tools::need("script"))
        .args(["-qec", &command, "/dev/null"])
        .env_clear()
        .env("PATH", tools::path())
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(terminal.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(said.any(|line| line.trim() == "ready"));
    let mut keys = terminal.stdin.take().unwrap();
    keys.write_all(&[0x03]).unwrap();
    let rest: Vec<String> = said.collect();
    assert_eq!(
        rest.iter().filter(|line| line.contains("got INT")).count(),
        1,
        "{rest:?}"
    );
    assert_eq!(terminal.wait().unwrap().code(), Some(5));
}

#[test]
fn a_command_that_dies_of_a_signal_gives_128_and_its_number() {
    let home = tempdir().unwrap();
    let (mut child, _said) = running("echo ready; exec sleep 600", home.path());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn when_keyferry_is_killed_the_command_dies_too() {
    let home = tempdir().unwrap();
    let (mut child, mut said) = running("echo ready; echo $$; exec sleep 600", home.path());
    let mut pid = String::new();
    said.read_line(&mut pid).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Its end of the pipe closes with it.
    let mut rest = String::new();
    assert_eq!(said.read_line(&mut rest).unwrap(), 0);
}
