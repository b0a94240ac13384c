//! `config/compose.yaml`, run by Compose on a real Docker daemon: the agent's only way out is Keyferry.

use crate::pages;
use crate::rig::docker::{Docker, WORLD};
use crate::rig::origin::{Origin, in_network};
use crate::rig::root::Root;
use crate::rig::{eventually, soon, tools};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const KEY: &str = "sk-live-0a1b2c3d4e5f";
/// Keyferry's user in the image.
const USER: Option<u32> = Some(65532);

fn source(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// A likeness of the image that `Dockerfile` makes: the binary under test with the settings written there. The image itself
/// is tested beside this.
pub fn keyferry_image(docker: &Docker, dir: &Path, root: &Root) {
    let tree = dir.join("keyferry");
    for folder in ["etc/ssl/certs", "etc/keyferry", "var/lib/keyferry", "trust", "tmp"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    put_program(&tree, Path::new(tools::KEYFERRY), "usr/bin/keyferry");
    std::fs::write(tree.join("etc/ssl/certs/ca-certificates.crt"), root.pem()).unwrap();
    let user = "keyferry:x:65532:65532::/var/lib/keyferry:/sbin/nologin\n";
    std::fs::write(tree.join("etc/passwd"), user).unwrap();
    for own in ["var/lib/keyferry", "trust"] {
        chown(tree.join(own), USER, USER).unwrap();
    }
    let dockerfile = source("Dockerfile");
    let (_, last) = dockerfile.split_once("\nFROM scratch\n").unwrap();
    let settings = last
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("COPY"));
    let settings: Vec<_> = settings.map(str::to_owned).collect();
    docker.import(tar(&tree), "keyferry", &settings);
}

/// What an agent needs: curl, and a few words of Unix.
pub fn agent_image(docker: &Docker, dir: &Path) {
    let tree = dir.join("agent");
    std::fs::create_dir_all(tree.join("tmp")).unwrap();
    put_program(&tree, &tools::need("curl"), "bin/curl");
    put_program(&tree, &tools::need("busybox"), "bin/busybox");
    for word in ["sh", "sleep", "id", "ls", "touch", "nslookup", "grep", "cat", "ip"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(word)).unwrap();
    }
    let command = ["ENV PATH=/bin", "CMD [\"sleep\", \"infinity\"]"].map(str::to_owned);
    docker.import(tar(&tree), "my-agent", &command);
}

/// A program of this machine's, with the libraries that it is linked to.
pub fn put_program(tree: &Path, program: &Path, to: &str) {
    let put = |from: &Path, to: &str| {
        let to = tree.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    put(program, to);
    let linked = Command::new("ldd").arg(program).output().unwrap();
    let linked = String::from_utf8(linked.stdout).unwrap();
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        put(Path::new(library), library);
    }
}

pub fn tar(tree: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(tree).args(["-c", "."]);
    tar
}

/// The files as they stand in the tree, with where the name of the page's host leads in this test.
fn project(dir: &Path) -> PathBuf {
    let project = dir.join("config");
    std::fs::create_dir_all(project.join("compose")).unwrap();
    std::fs::write(project.join("compose.yaml"), source("config/compose.yaml")).unwrap();
    let upstream = "upstream: { resolve: { api.example.com: \"127.0.0.1:9443\" }, allow_networks: [127.0.0.0/8] }\n";
    let config = source("config/compose/keyferry.yaml") + upstream;
    std::fs::write(project.join("compose/keyferry.yaml"), config).unwrap();
    let key = project.join("compose/api_key");
    std::fs::write(&key, KEY).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o400)).unwrap();
    chown(key, USER, USER).unwrap();
    for folder in [dir, &project, &project.join("compose")] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    project
}

/// The project, up.
struct Compose<'a> {
    docker: &'a Docker,
    project: PathBuf,
}

impl Compose<'_> {
    async fn run(&self, words: &[&str]) -> Output {
        let mut command = self.docker.client(&tools::need("docker-compose"));
        command
            .args(["--project-name", "kf", "--file"])
            .arg(self.project.join("compose.yaml"))
            .args(words)
            .env("AGENT_IMAGE", "my-agent");
        soon("docker-compose", tokio::process::Command::from(command).output())
            .await
            .unwrap()
    }

    async fn said(&self, words: &[&str]) -> String {
        let output = self.run(words).await;
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "docker-compose {words:?}: {out}\n{err}");
        out.trim().to_owned()
    }

    /// What a command of the agent's prints, and its exit code.
    async fn agent(&self, command: &str) -> (i32, String) {
        let output = self.run(&["exec", "-T", "agent", "sh", "-c", command]).await;
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&said).trim().to_owned(),
        )
    }

    async fn pid(&self, service: &str) -> u32 {
        let id = self.said(&["ps", "--quiet", service]).await;
        self.docker.pid(&id).await
    }
}

/// Somebody outside, whom no rule allows, and who hears of whoever gets out.
struct World {
    server: TcpListener,
    names: UdpSocket,
}

impl World {
    fn around(docker: &Docker) -> Self {
        let world = Self {
            server: in_network(docker.world(), || TcpListener::bind((WORLD, 80)).unwrap()),
            names: in_network(docker.id(), || UdpSocket::bind("0.0.0.0:53").unwrap()),
        };
        world.server.set_nonblocking(true).unwrap();
        world.names.set_nonblocking(true).unwrap();
        world
    }

    /// Whether a name was asked for since it was last asked.
    fn was_asked(&self) -> bool {
        let mut question = [0; 512];
        let asked = self.names.recv(&mut question).is_ok();
        while self.names.recv(&mut question).is_ok() {}
        asked
    }
}

#[tokio::test]
async fn an_agent_in_compose_has_no_way_out_but_keyferry() {
    let root = Root::new();
    let dir = tempfile::Builder::new().prefix("kfc-").tempdir_in("/tmp").unwrap();
    let docker = Docker::with_networks().await;
    keyferry_image(&docker, dir.path(), &root);
    agent_image(&docker, dir.path());
    let world = World::around(&docker);
    let compose = Compose {
        docker: &docker,
        project: project(dir.path()),
    };
    let up = compose.run(&["up", "--detach", "--no-build"]).await;
    if !up.status.success() {
        let logs = compose.run(&["logs"]).await;
        let (up, logs) = (
            String::from_utf8_lossy(&up.stderr),
            String::from_utf8_lossy(&logs.stdout),
        );
        panic!("{up}\n{logs}");
    }
    let keyferry = compose.pid("keyferry").await;
    let origin = Origin::within(&root, "api.example.com", keyferry, ([127, 0, 0, 1], 9443).into()).await;
    goes_through_keyferry(&compose, &origin).await;
    does_not_go_past_it(&compose, &world, keyferry).await;
    has_nothing_of_its(&compose).await;
    compose.said(&["down", "--volumes"]).await;
}

/// As the page says it, and with the credential that only Keyferry holds.
async fn goes_through_keyferry(compose: &Compose<'_>, origin: &Origin) {
    let asked = pages::block("compose.md", "console");
    let asked = asked
        .lines()
        .find_map(|line| line.strip_prefix("$ docker compose exec agent "));
    let asked = asked.unwrap().replace("example.com/", "example.com/hello");
    assert_eq!(compose.agent(&asked).await, (0, "hello".to_owned()));
    assert_eq!(origin.only().headers["x-api-key"], KEY);
    let (code, said) = compose
        .agent("curl -sS -w '%{http_connect}' https://other.example.com/")
        .await;
    assert!(code != 0 && said.contains("403"), "{code} {said}");
    let (_, said) = compose.agent("curl -sS http://other.example.com/").await;
    assert!(said.contains("denied_by_policy"), "{said}");
}

/// Neither by an address, to which Keyferry itself can get, nor by a name.
async fn does_not_go_past_it(compose: &Compose<'_>, world: &World, keyferry: u32) {
    assert!(dials(keyferry), "{WORLD} is not even there for Keyferry");
    eventually("the connection", || world.server.accept().ok()).await;
    let (code, said) = compose
        .agent(&format!("curl -sS --max-time 5 --noproxy '*' http://{WORLD}/"))
        .await;
    assert!(code == 7 || said.contains("Connection timed out"), "{code} {said}");
    assert!(world.server.accept().is_err(), "the agent got out");
    let lookup = [
        "run",
        "--rm",
        "--network",
        "kf_outside",
        "my-agent",
        "nslookup",
        "leak.example.com",
    ];
    let _ = tokio::process::Command::from(compose.docker.command(&lookup))
        .output()
        .await;
    assert!(world.was_asked(), "nobody is asked at all");
    assert_ne!(compose.agent("nslookup secret.leak.example.com").await.0, 0);
    assert!(!world.was_asked(), "a name got out");
}

/// Nor may it be anybody, or write anywhere.
async fn has_nothing_of_its(compose: &Compose<'_>) {
    assert_eq!(compose.agent("id -u").await.1, "1000");
    assert_eq!(compose.agent("ls /trust").await.1, "bundle.pem");
    for place in ["/x", "/trust/x"] {
        assert_ne!(compose.agent(&format!("touch {place}")).await.0, 0, "{place}");
    }
    let none = "grep -c CapEff:.0000000000000000 /proc/self/status";
    assert_eq!(compose.agent(none).await.1, "1");
    assert!(!compose.agent("cat /proc/self/environ").await.1.contains(KEY));
}

/// Whether somebody in the network of `pid` gets to the world.
fn dials(pid: u32) -> bool {
    let address = format!("{WORLD}:80").parse().unwrap();
    in_network(pid, || {
        std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(5)).is_ok()
    })
}
