#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::launch::wall::bounds::Most;
use crate::launch::wall::mark::Mark;
use crate::launch::wall::{Masked, Shared, User};

/// A plan with one of everything.
pub(in crate::launch::wall) fn plan() -> Plan {
    let shared = |path: &str, writable| Shared {
        path: path.into(),
        writable,
    };
    Plan {
        words: vec!["agent".into(), "--flag".into()],
        vars: vec![("A".into(), "1".into())],
        user: User { uid: 1001, gid: 1002 },
        terminal: false,
        most: Most {
            memory: 1 << 30,
            tasks: 99,
            cpus: 3,
        },
        workdir: shared("/w", true),
        mounts: vec![shared("/w/deeper/one", false), shared("/m", false)],
        masked: vec![Masked {
            path: "/w/.env".into(),
            why: "variables with credentials",
            dir: false,
        }],
        dir: "/r/agent".into(),
        socket_dir: "/r/proxy".into(),
        program: "/opt/keyferry".into(),
        bundle: "/r/agent/bundle.pem".into(),
        ways: vec![("127.0.0.1:3128".into(), "proxy.sock".into())],
        lifeline: false,
        image: Some(Image {
            name: "an:image".into(),
            entrypoint: vec!["/entry".into()],
            command: vec!["by".into(), "default".into()],
            volumes: vec!["/kept".into()],
        }),
        platform: "",
        mark: Some(Mark::own()),
        machine: crate::launch::wall::vm::Settings::default(),
    }
}

fn line(engine: Engine, plan: &Plan) -> Vec<String> {
    let files = Files {
        environment: "/r/environment".into(),
        profile: "/r/seccomp.json".into(),
        carried: Carried::alone(&plan.program),
    };
    let words = arguments(engine, plan, &files).unwrap();
    words.into_iter().map(|word| word.into_string().unwrap()).collect()
}

#[test]
fn every_wall_stands_in_the_line_and_the_command_comes_last() {
    let line = line(Engine::Docker, &plan());
    for wall in [
        "--network=none",
        "--ipc=private",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=/r/seccomp.json",
        "--user=1001:1002",
        "--memory=1073741824",
        "--memory-swap=1073741824",
        "--cpus=3",
        "--pids-limit=99",
        "--log-driver=none",
        "--rm",
        "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=2147483648,mode=1777,uid=1001,gid=1002",
        "--tmpfs=/kept:rw,noexec,nosuid,nodev,size=2147483648,mode=0755,uid=1001,gid=1002",
        "type=bind,source=/w,target=/w",
        "type=bind,source=/m,target=/m,readonly",
        "type=bind,source=/r/proxy,target=/run/keyferry/proxy,readonly",
        "type=bind,source=/r/agent/etc/resolv.conf,target=/w/.env,readonly",
    ] {
        assert!(line.iter().any(|word| word == wall), "{wall} is not in {line:#?}");
    }
    let at = |word: &str| line.iter().position(|one| one == word).unwrap();
    assert!(at("type=bind,source=/w,target=/w") < at("type=bind,source=/w/deeper/one,target=/w/deeper/one,readonly"));
    assert!(
        line.ends_with(&["--", "/entry", "agent", "--flag"].map(ToOwned::to_owned)),
        "{line:#?}"
    );
    assert_eq!(line[at("an:image") + 1..][..2], ["bridge", "--listen"]);
    assert!(!line.contains(&"--tty".to_owned()) && !line.iter().any(|word| word.contains("docker.sock")));
}

#[test]
fn without_words_an_image_has_its_own_and_a_skeleton_none() {
    let mut plan = plan();
    plan.words.clear();
    let line = line(Engine::Docker, &plan);
    assert!(line.ends_with(&["--", "/entry", "by", "default"].map(ToOwned::to_owned)));
    plan.image = None;
    let files = Files {
        environment: "/r/environment".into(),
        profile: "/r/seccomp.json".into(),
        carried: Carried::alone(&plan.program),
    };
    assert!(matches!(
        arguments(Engine::Docker, &plan, &files),
        Err(Error::NoCommand)
    ));
}

#[test]
fn a_variable_of_several_lines_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = plan();
    plan.dir = dir.path().join("agent");
    plan.user = User {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    plan.image = None;
    let files = Files::write(&plan).unwrap();
    let written = fs::read_to_string(files.environment).unwrap();
    assert_eq!(written, "A=1\nFTP_PROXY=\nftp_proxy=\n");
    plan.vars.push(("LINES_OF".into(), "a\nb".into()));
    let told = Files::write(&plan).unwrap_err().to_string();
    assert!(told.contains("LINES_OF") && !told.contains("a\nb"), "{told}");
}
