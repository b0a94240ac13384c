//! Containers of a Docker daemon of the test's own, started by root and by an ordinary user.

use super::table::{Trial, nothing_escapes};
use super::{
    Who, base_urls_work, claude_does_its_work, command, ends_are_told_as_they_are, everyone, nothing_outlives_keyferry,
    run, share, told, what_is_allowed_works,
};
use crate::clients::{REAL, api};
use crate::rig::docker::Docker;
use crate::rig::eventually;
use crate::rig::proxy::Rig;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const WALL: &[&str] = &["--sandbox", "docker"];

/// A daemon, and a rig whose Keyferry finds it.
async fn beside(rig: Rig) -> (Docker, Rig) {
    let docker = Docker::start().await;
    docker.open_to_everybody();
    let host = docker.host();
    (docker, rig.env("DOCKER_HOST", &host))
}

/// An image of these files and nothing else: each program with the libraries it names.
fn image(docker: &Docker, name: &str, programs: &[&str], changes: &[&str]) {
    let tree = tempfile::tempdir().unwrap();
    let script = "for program; do
            mkdir -p \"$0/bin\"; cp \"$program\" \"$0/bin/\"
            ldd \"$program\" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
                mkdir -p \"$0$(dirname \"$library\")\"; cp -L \"$library\" \"$0$library\"
            done
        done";
    let mut made = Command::new("bash");
    made.args(["-ec", script]).arg(tree.path()).args(programs);
    assert!(made.status().unwrap().success());
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(tree.path()).args(["-c", "."]);
    docker.import(tar, name, &changes);
}

#[tokio::test]
async fn an_image_is_unpacked_whole_for_its_owner_alone_and_no_container_stays() {
    let (_origin, rig) = api().await;
    let (docker, rig) = beside(rig).await;
    image(&docker, "bare", &["/bin/busybox"], &["ENV A=1"]);
    let to = rig.dir().join("roots/bare");
    let unpack = |from: &str| {
        let words = ["sandbox", "image", "--from", from, "-o", to.to_str().unwrap()];
        told(&rig.command(&words).output().unwrap())
    };
    let (_, err) = unpack("docker:no-such-image");
    assert!(err.contains("no container of no-such-image") && !to.exists(), "{err}");
    let (_, err) = unpack("docker:bare");
    let unpacked = std::fs::read(to.join("bin/busybox")).unwrap_or_else(|_| panic!("{err}"));
    assert!(unpacked == std::fs::read("/bin/busybox").unwrap());
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
    let beside: Vec<_> = std::fs::read_dir(to.parent().unwrap()).unwrap().flatten().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    let (_, err) = unpack("docker:bare");
    assert!(err.contains("is there already"), "{err}");
    assert_eq!(docker.said(&["ps", "--all", "--quiet"]).await, "");
}

#[tokio::test]
async fn every_way_out_of_docker_is_shut() {
    for who in everyone() {
        let (origin, rig) = api().await;
        let (docker, rig) = beside(rig).await;
        let trial = Trial {
            who,
            wall: WALL,
            bounded: true,
            daemon: &docker.socket(),
            otherwise: &[],
        };
        nothing_escapes(&rig, trial).await;
        assert_eq!(origin.seen().len(), 0);
        assert_eq!(docker.said(&["ps", "--all", "--quiet"]).await, "");
    }
}

#[tokio::test]
async fn what_is_allowed_works_in_docker_with_a_credential_that_is_not_there() {
    for who in everyone() {
        let (origin, rig) = api().await;
        let (_docker, rig) = beside(rig).await;
        what_is_allowed_works(&origin, &rig, who, WALL).await;
    }
}

#[tokio::test]
async fn a_base_url_leads_out_of_a_container() {
    let docker = Docker::start().await;
    base_urls_work(WALL, |rig| rig.env("DOCKER_HOST", &docker.host())).await;
}

#[tokio::test]
async fn claude_code_does_its_work_in_a_container() {
    let docker = Docker::start().await;
    claude_does_its_work(WALL, |rig| rig.env("DOCKER_HOST", &docker.host())).await;
}

#[tokio::test]
async fn a_containers_end_is_told_as_it_is() {
    let (_origin, rig) = api().await;
    let (_docker, rig) = beside(rig).await;
    ends_are_told_as_they_are(&rig, WALL).await;
}

#[tokio::test]
async fn an_image_keeps_its_entrypoint_and_needs_nothing_of_keyferrys() {
    let (origin, rig) = api().await;
    let (docker, rig) = beside(rig).await;
    let entrypoint = "ENTRYPOINT [\"/bin/busybox\"]";
    let changes = [entrypoint, "CMD [\"echo\", \"by itself\"]", "VOLUME /kept", "USER 0"];
    image(&docker, "bare", &["/bin/busybox"], &changes);
    let bare = [WALL, &["--image", "bare"]].concat();
    share(&rig);
    let said = |output: &std::process::Output| told(output);
    let (out, err) = said(&run(command(&rig, Who::Us, &bare, &[])).await);
    assert_eq!(out, "by itself\n", "{err}");
    // An applet's name is what its entrypoint takes for a command.
    let script = "id -u; pwd; cat /etc/ssl/certs/ca-certificates.crt | grep -c BEGIN; touch /new 2>&1; touch /kept/new; \
                  mount | grep -c 'tmpfs on /kept'; ls /usr 2>&1; echo $PATH";
    let (out, err) = said(&run(command(&rig, Who::Us, &bare, &["sh", "-c", script])).await);
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines[0] != "0" && lines[1] == rig.dir().join("work").to_str().unwrap(),
        "{out}\n{err}"
    );
    assert!(
        lines[2].parse::<u32>().unwrap() > 10,
        "the roots are not there: {out}\n{err}"
    );
    assert!(
        lines[3].contains("Read-only") && lines[4] == "1" && lines[5].contains("No such file"),
        "{out}\n{err}"
    );

    image(&docker, "client", &["/usr/bin/curl", "/usr/bin/env"], &[]);
    let client = [WALL, &["--image", "client"]].concat();
    let words = [
        "/bin/env",
        "-u",
        "CURL_CA_BUNDLE",
        "-u",
        "SSL_CERT_FILE",
        "/bin/curl",
        "-sS",
        "https://api.test/hello",
    ];
    let output = run(command(&rig, Who::Us, &client, &words)).await;
    assert_eq!(said(&output).0, "hello", "{}", said(&output).1);
    assert_eq!(origin.only().all("x-api-key"), [REAL]);
}

#[tokio::test]
async fn what_is_amiss_with_docker_is_told_in_words() {
    let (_origin, rig) = api().await;
    let (docker, rig) = beside(rig).await;
    let absent = [WALL, &["--image", "no-such-image"]].concat();
    let output = run(command(&rig, Who::Us, &absent, &["true"])).await;
    let err = told(&output).1;
    assert!(
        output.status.code() == Some(125) && err.contains("docker pull no-such-image"),
        "{err}"
    );
    let mut down = command(&rig, Who::Us, WALL, &["true"]);
    down.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let output = run(down).await;
    let err = told(&output).1;
    assert!(
        output.status.code() == Some(125) && err.contains("does not answer; start it"),
        "{err}"
    );
    if everyone().contains(&Who::Ordinary) {
        std::fs::set_permissions(docker.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let output = run(command(&rig, Who::Ordinary, WALL, &["true"])).await;
        let err = told(&output).1;
        assert!(
            output.status.code() == Some(125) && err.contains("may not use docker's daemon"),
            "{err}"
        );
    }
}

#[tokio::test]
async fn when_keyferry_is_killed_nothing_of_the_container_is_left() {
    let (_origin, rig) = api().await;
    let (docker, rig) = beside(rig).await;
    nothing_outlives_keyferry(&rig, WALL).await;
    let containers = || {
        let output = docker.command(&["ps", "--all", "--quiet"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    eventually("the end of the containers", || (containers() == 0).then_some(())).await;

    // One whose Keyferry is gone, and one of another machine's.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap()
        .replace(['-', '\n'], "");
    let numbers = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let numbers = numbers.to_str().unwrap().replace([':', '[', ']'], "");
    let (ours, theirs) = (
        format!("{boot}.{numbers}.{}.1", std::process::id()),
        "elsewhere.pid1.7.7",
    );
    image(&docker, "bare", &["/bin/busybox"], &[]);
    let leave = |mark: &str| {
        let words = [
            "create",
            "--label",
            &format!("keyferry.run={mark}"),
            "bare",
            "/bin/busybox",
        ];
        assert!(docker.command(&words).status().unwrap().success());
    };
    leave(&ours);
    leave(theirs);
    run(command(&rig, Who::Us, WALL, &["sleep", "2"])).await;
    let left = docker
        .said(&["ps", "--all", "--format", "{{.Label \"keyferry.run\"}}"])
        .await;
    assert_eq!(left, theirs);
}

#[tokio::test]
async fn a_signal_and_what_is_typed_reach_the_command_in_its_container() {
    let (_origin, rig) = api().await;
    let (_docker, rig) = beside(rig).await;
    share(&rig);
    let script =
        "read line; echo \"got $line\"; trap 'echo told >&2; exit 3' TERM; touch ready; while :; do sleep 0.1; done";
    let mut command = command(&rig, Who::Us, WALL, &["sh", "-c", script]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut keyferry = command.spawn().unwrap();
    std::io::Write::write_all(keyferry.stdin.as_mut().unwrap(), b"a line\n").unwrap();
    let ready = rig.dir().join("work/ready");
    eventually("the command", || ready.exists().then_some(())).await;
    let pid = rustix::process::Pid::from_child(&keyferry);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = keyferry.wait_with_output().unwrap();
    let (out, err) = told(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(3), "got a line\n"), "{err}");
    assert!(err.contains("told\n"), "{err}");
}

/// Runs its arguments at a terminal of 31 rows and 97 columns, which becomes one of 41 and 101.
const TERMINAL: &str = r"
import fcntl, os, pty, struct, sys, termios
child, master = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
size = lambda rows, columns: fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
size(31, 97)
said = b''
while True:
    try:
        piece = os.read(master, 4096)
    except OSError:
        break
    if not piece:
        break
    said += piece
    if b'first' in said and b'asked' not in said:
        said += b'asked'
        size(41, 101)
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

#[tokio::test]
async fn at_a_terminal_the_container_has_one_of_the_same_size() {
    let (_origin, rig) = api().await;
    let (_docker, rig) = beside(rig).await;
    let script = "sleep 1; stty size; trap 'stty size; exit 5' WINCH; echo first; while :; do sleep 0.1; done";
    let inner = command(&rig, Who::Us, WALL, &["sh", "-c", script]);
    let mut outer = Command::new("python3");
    outer
        .args(["-c", TERMINAL])
        .arg(inner.get_program())
        .args(inner.get_args());
    outer
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.current_dir(inner.get_current_dir().unwrap()).stdin(Stdio::null());
    let output = run(outer).await;
    let (out, err) = told(&output);
    assert_eq!(output.status.code(), Some(5), "{out}\n{err}");
    assert!(out.contains("31 97") && out.contains("41 101"), "{out}\n{err}");
}

#[tokio::test]
async fn a_path_with_every_sign_is_shared_and_masked_as_it_is() {
    let (_origin, rig) = api().await;
    let (_docker, rig) = beside(rig).await;
    let odd = rig.dir().join("a, \"b\" = c:d");
    std::fs::create_dir_all(&odd).unwrap();
    std::fs::write(odd.join("note"), "hello\n").unwrap();
    std::fs::write(odd.join(".env"), "A=1\n").unwrap();
    let mut mount = odd.clone().into_os_string();
    mount.push(":ro");
    let options = [WALL, &["--mount", mount.to_str().unwrap()]].concat();
    let script = "cat \"$0/note\" \"$0/.env\"; touch \"$0/new\"";
    let output = run(command(
        &rig,
        Who::Us,
        &options,
        &["sh", "-c", script, odd.to_str().unwrap()],
    ))
    .await;
    let (out, err) = told(&output);
    assert_eq!(out, "hello\n", "{err}");
    assert!(
        err.contains("Read-only file system") && !Path::new(&odd).join("new").exists(),
        "{err}"
    );
}
