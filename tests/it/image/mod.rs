//! The image that `Dockerfile` makes: built by Docker from that very file, and run as hard as Docker can.

mod bridge;
mod compose;
mod kubernetes;

use crate::rig::agent::{Agent, Http, Raw, get, status};
use crate::rig::docker::Docker;
use crate::rig::origin::Origin;
use crate::rig::root::Root;
use crate::rig::{eventually, soon, tools};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tokio::net::UnixStream;

const KEY: &str = "sk-live-0a1b2c3d4e5f";

/// A static binary and the public roots; twice of what it is would be something else.
const MOST: u64 = 24 << 20;

/// What the container is told. Its network is a loopback of its own, where the test puts an origin.
const CONFIG: &str = "\
listen: [\"0.0.0.0:8080\", { bind: \"unix:/run/keyferry/proxy.sock\", speak: proxy, mode: \"0666\" }]
admin: { bind: 127.0.0.1:9090 }
upstream:
  resolve: { api.test: \"127.0.0.1:9443\" }
  allow_networks: [127.0.0.0/8]
secrets: { api_key: { file: /run/secrets/api-key } }
rules: [{ name: api, host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }] }]
";

#[tokio::test]
async fn the_dockerfile_makes_a_small_static_image_that_serves_as_nobody() {
    let root = Root::new();
    let docker = Docker::start().await;
    build(&docker, &root).await;
    is_small_and_bare(&docker).await;
    asks_for_its_config(&docker);

    let dir = mounted();
    let container = start(&docker, dir.path()).await;
    let pid = docker.pid(&container).await;
    let origin = Origin::within(&root, "api.test", pid, ([127, 0, 0, 1], 9443).into()).await;
    has_no_privilege(pid);
    let pem = docker.said(&["exec", &container, "keyferry", "ca", "export"]).await;

    assert_eq!(by_socket(&dir.path().join("run/proxy.sock"), &pem).await, "hello");
    std::fs::write(dir.path().join("ca.pem"), &pem).unwrap();
    let ca = dir.path().join("ca.pem");
    let through = ["--proxy", "http://127.0.0.1:8080", "--cacert", ca.to_str().unwrap()];
    let (code, body) = curl(pid, &[&through[..], &["https://api.test/hello"]].concat()).await;
    assert_eq!((code, body.as_str()), (200, "hello"));
    for one in origin.seen() {
        assert_eq!(one.all("x-api-key"), [KEY]);
    }
    assert_eq!(origin.seen().len(), 2);
    let (code, _) = curl(pid, &[&through[..], &["https://other.test/"]].concat()).await;
    assert_eq!(code, 0, "a host without a rule was reached");
    assert_eq!(curl(pid, &["http://127.0.0.1:9090/healthz"]).await.0, 200);

    stops_with_every_record_written(&docker, &container).await;
}

/// Builds the image with the Dockerfile as it is. What it begins with is a likeness, made here.
async fn build(docker: &Docker, root: &Root) {
    tools::static_keyferry();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), root.pem()).unwrap();
    let mut tar = Command::new("bash");
    tar.arg(source.join("tests/it/image/builder.sh"))
        .arg(roots.path())
        .arg(tools::static_target());
    let home = std::env::var("HOME").unwrap();
    let home_of = |name: &str, folder: &str| {
        let value = std::env::var(name).unwrap_or_else(|_| format!("{home}/{folder}"));
        format!("ENV {name}={value}")
    };
    let cargo = home_of("CARGO_HOME", ".cargo");
    let path = format!(
        "{}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        &cargo["ENV CARGO_HOME=".len()..]
    );
    let changes = [format!("ENV PATH={path}"), cargo, home_of("RUSTUP_HOME", ".rustup")];
    docker.import(tar, "rust:1.95-bookworm", &changes);
    // Debian's mirror is reached by the machine's own network: the daemon's has none.
    let words = [
        "build",
        "--network",
        "host",
        "--tag",
        "keyferry",
        source.to_str().unwrap(),
    ];
    docker.said(&words).await;
}

/// Three files, and a user who is nobody.
async fn is_small_and_bare(docker: &Docker) {
    let size = docker.said(&["inspect", "--format", "{{.Size}}", "keyferry"]).await;
    assert!(
        size.parse::<u64>().unwrap() < MOST,
        "the image has grown to {size} bytes"
    );
    let user = docker
        .said(&["inspect", "--format", "{{.Config.User}}", "keyferry"])
        .await;
    assert_eq!(user, "65532:65532");
    let container = docker.said(&["create", "--network", "none", "keyferry"]).await;
    let tar = tempfile::NamedTempFile::new().unwrap();
    docker
        .said(&["export", "--output", tar.path().to_str().unwrap(), &container])
        .await;
    let listed = Command::new("tar").arg("-tvf").arg(tar.path()).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    // Empty files are where Docker mounts its own.
    let files = listed.lines().filter(|line| !line.starts_with('d'));
    let files = files.filter(|line| line.split_whitespace().nth(2) != Some("0"));
    let names: Vec<_> = files.filter_map(|line| line.split_whitespace().nth(5)).collect();
    assert_eq!(
        names,
        ["etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/bin/keyferry"],
        "{listed}"
    );
}

/// Without a config it says where it looked.
fn asks_for_its_config(docker: &Docker) {
    let output = docker
        .command(&["run", "--rm", "--network=none", "keyferry"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && said.contains("/etc/keyferry/keyferry.yaml"),
        "{said}"
    );
}

/// The config and the secret that a container is given to read, and the folder where its socket is to be.
fn mounted() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("kfd-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["etc", "run"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("etc/keyferry.yaml"), CONFIG).unwrap();
    std::fs::write(dir.path().join("api-key"), KEY).unwrap();
    for name in ["api-key", "run"] {
        std::os::unix::fs::chown(dir.path().join(name), Some(65532), Some(65532)).unwrap();
    }
    std::fs::set_permissions(dir.path().join("api-key"), std::fs::Permissions::from_mode(0o400)).unwrap();
    dir
}

/// Starts it with nothing it could do without, and waits until it listens.
async fn start(docker: &Docker, dir: &Path) -> String {
    let mount = |name: &str, at: &str| format!("--volume={}:{at}", dir.join(name).display());
    let container = docker
        .said(&[
            "run",
            "--detach",
            "--network=none",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--volume=state:/var/lib/keyferry",
            &mount("etc", "/etc/keyferry:ro"),
            &mount("api-key", "/run/secrets/api-key:ro"),
            &mount("run", "/run/keyferry"),
            "keyferry",
        ])
        .await;
    eventually("the container to listen", || {
        let output = docker.command(&["logs", &container]).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        log.contains("(admin)").then_some(())
    })
    .await;
    container
}

/// As the kernel says, not as Docker was asked.
fn has_no_privilege(pid: u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    for name in ["Uid:", "Gid:"] {
        assert!(line(name).split_whitespace().all(|id| id == "65532"), "{status}");
    }
    for name in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(line(name).trim(), "0000000000000000", "{name}");
    }
    assert_eq!(line("NoNewPrivs:").trim(), "1");
}

/// One GET through the mounted socket, by an agent on this machine that trusts `pem` alone.
async fn by_socket(socket: &Path, pem: &str) -> String {
    let agent = Agent::new(([127, 0, 0, 1], 0).into(), pem);
    let mut raw = Raw::new(UnixStream::connect(socket).await.unwrap());
    raw.say("CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        .await;
    assert_eq!(status(&raw.head().await), 200);
    let tls = agent.handshake(raw.io, "api.test", &["http/1.1"]).await.unwrap();
    let (send, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    Http::One(send).reply(get("https://api.test/hello")).await.text()
}

/// This machine's curl in the container's network: the status, or 0 for none, and the body.
async fn curl(pid: u32, words: &[&str]) -> (u16, String) {
    let mut command = Command::new(tools::need("nsenter"));
    crate::rig::proxy::bare(&mut command, Path::new("/nonexistent"));
    command
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .arg(tools::need("curl"));
    command.args(["-s", "-w", "\n%{http_code}"]).args(words);
    let output = soon("curl", tokio::process::Command::from(command).output())
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// SIGTERM, exit code 0, and in the volume all that is to last: the records, and the CA.
async fn stops_with_every_record_written(docker: &Docker, container: &str) {
    let pem = docker.said(&["exec", container, "keyferry", "ca", "export"]).await;
    docker.said(&["kill", "--signal", "TERM", container]).await;
    assert_eq!(docker.said(&["wait", container]).await, "0");
    let volume = docker
        .said(&["volume", "inspect", "--format", "{{.Mountpoint}}", "state"])
        .await;
    let text = std::fs::read_to_string(docker.path(&volume).join("audit.jsonl")).unwrap();
    let records: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<_> = records
        .iter()
        .map(|one| (one["target"].as_str().unwrap(), &one["status"]))
        .collect();
    assert_eq!(
        codes,
        [
            ("api.test:443", &200.into()),
            ("api.test:443", &200.into()),
            ("other.test:443", &403.into())
        ],
        "{text}"
    );
    docker.said(&["start", container]).await;
    let again = docker.said(&["exec", container, "keyferry", "ca", "export"]).await;
    assert_eq!(again, pem);
}
