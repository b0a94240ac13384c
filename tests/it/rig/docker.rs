//! A Docker daemon of the test's own: with mounts nobody else sees, and no bridge and no firewall rule, or a network of its
//! own for both, so that nothing of the machine's is touched, and gone with all it started when the test ends.

use super::{eventually, tools};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An address beyond a daemon that has a network, in one of its own: what containers reach there goes no further.
pub const WORLD: &str = "203.0.113.10";

/// Makes it: a process that only waits holds the network, and a pair of interfaces leads there.
const MAKE_WORLD: &str = r#"
setpriv --pdeathsig KILL -- unshare --net sleep infinity & world=$!
until ! [ "/proc/$world/ns/net" -ef /proc/self/ns/net ]; do sleep 0.01; done
echo $world > "$0/../world"
ip link set lo up
ip link add outwards type veth peer name inwards netns $world
ip addr add 198.51.100.1/24 dev outwards
ip link set outwards up
ip route add default via 198.51.100.2
nsenter --target $world --net sh -ec "ip addr add 198.51.100.2/24 dev inwards; ip link set inwards up; ip link set lo up
  ip addr add $WORLD/32 dev lo"
# As where systemd-resolved is: Docker asks it from the daemon's network, whichever the container's is.
echo "nameserver 127.0.0.53" > "$0/../resolv"
mount --bind "$0/../resolv" /etc/resolv.conf
"#;

/// A running daemon.
pub struct Docker {
    daemon: Child,
    dir: TempDir,
}

impl Docker {
    /// Starts one whose containers have no network but a loopback of their own. Each test has one: tests are processes of
    /// their own, and it takes less than a second.
    ///
    /// # Panics
    /// When it cannot run here, with the reason it gave.
    pub async fn start() -> Self {
        let quiet = ["--bridge=none", "--iptables=false", "--ip6tables=false"];
        Self::begin(&["--mount"], "", &quiet).await
    }

    /// The same, with another runtime for its containers.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn with_runtime(name: &str, program: &Path, flags: &[&str]) -> Self {
        let config = tempfile::NamedTempFile::new().unwrap();
        let runtime = serde_json::json!({ "path": program, "runtimeArgs": flags });
        let runtimes = serde_json::json!({ "runtimes": { name: runtime } });
        std::fs::write(config.path(), runtimes.to_string()).unwrap();
        let config = config.path().to_str().unwrap();
        let flags = [
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--config-file",
            config,
        ];
        Self::begin(&["--mount"], "", &flags).await
    }

    /// Starts one that goes out by this proxy, and trusts the certificates in `ca` alone.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn behind(proxy: SocketAddr, ca: &Path) -> Self {
        let way = format!("export HTTPS_PROXY=http://{proxy} SSL_CERT_FILE={}; ", ca.display());
        let quiet = ["--bridge=none", "--iptables=false", "--ip6tables=false"];
        Self::begin(&["--mount"], &way, &quiet).await
    }

    /// Starts one that makes networks, all of them within one of its own, from which a way leads to [`WORLD`].
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn with_networks() -> Self {
        Self::begin(&["--mount", "--net"], MAKE_WORLD, &[]).await
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The same, as its clients want it in `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Lets every user of the machine use it.
    pub fn open_to_everybody(&self) {
        for (path, mode) in [(self.dir.path(), 0o755), (&self.socket(), 0o666)] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
    }

    /// A process in the network where [`WORLD`] is.
    pub fn world(&self) -> u32 {
        let pid = std::fs::read_to_string(self.dir.path().join("world")).unwrap();
        pid.trim().parse().unwrap()
    }

    async fn begin(namespaces: &[&str], before: &str, flags: &[&str]) -> Self {
        // Short, for it holds sockets (unix(7): 108 bytes).
        let dir = tempfile::Builder::new().prefix("kfd-").tempdir_in("/tmp").unwrap();
        let path = |name: &str| dir.path().join(name);
        let log = File::create(path("log")).unwrap();
        std::fs::create_dir(path("data")).unwrap();
        // A test that is killed takes the daemon with it, and the daemon its containers. Its images are in
        // memory: thousands of files are made and removed in no time.
        let daemon = Command::new(tools::need("setpriv"))
            .args(["--pdeathsig", "TERM", "--"])
            .arg(tools::need("unshare"))
            .args(namespaces)
            .args(["--", "sh", "-ec"])
            .arg(format!("{before} mount -t tmpfs -o size=8g tmpfs \"$0\"; exec \"$@\""))
            .arg(path("data"))
            .arg(tools::need("dockerd"))
            .env("WORLD", WORLD)
            .args(flags)
            .args(["-H", &format!("unix://{}", path("docker.sock").display())])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut docker = Self { daemon, dir };
        eventually("dockerd", || {
            if docker.daemon.try_wait().unwrap().is_some() {
                let log = std::fs::read_to_string(docker.dir.path().join("log")).unwrap();
                panic!(
                    "dockerd does not run here; it needs root and the right to mount and to make namespaces:\n{log}"
                );
            }
            let output = docker.command(&["info"]).output().unwrap();
            output.status.success().then_some(())
        })
        .await;
        docker
    }

    /// `docker WORDS…`, to this daemon.
    pub fn command<A: AsRef<str>>(&self, words: &[A]) -> Command {
        let mut command = self.client(&client());
        command.args(words.iter().map(AsRef::as_ref));
        command
    }

    /// Another client of this daemon.
    pub fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        super::proxy::bare(&mut command, self.dir.path());
        command
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_BUILDKIT", "1")
            .stdin(Stdio::null());
        command
    }

    /// What `docker WORDS…` prints.
    ///
    /// # Panics
    /// When it fails, with all it said.
    pub async fn said<A: AsRef<str>>(&self, words: &[A]) -> String {
        let mut command = tokio::process::Command::from(self.command(words));
        let output = command.kill_on_drop(true).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(
            output.status.success(),
            "docker {}: {}\n{}\n{}",
            words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "),
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Makes the image `name` of the tar that `tar` writes, with changes in the words of a Dockerfile.
    ///
    /// # Panics
    /// When either fails.
    pub fn import(&self, mut tar: Command, name: &str, changes: &[String]) {
        let mut tar = tar.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut import = self.command(&["import"]);
        for change in changes {
            import.args(["--change", change]);
        }
        let output = import
            .args(["-", name])
            .stdin(tar.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(
            tar.wait().unwrap().success() && output.status.success(),
            "no image {name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Where a path that the daemon tells, such as a volume's, is for this process.
    pub fn path(&self, told: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{told}", self.daemon.id()))
    }

    /// The socket of the containerd that the daemon has started.
    pub fn containerd(&self) -> PathBuf {
        self.dir.path().join("exec/containerd/containerd.sock")
    }

    /// The daemon's own process.
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// The process id, on this machine, of a container's first process.
    pub async fn pid(&self, container: &str) -> u32 {
        let pid = self.said(&["inspect", "--format", "{{.State.Pid}}", container]).await;
        pid.parse()
            .unwrap_or_else(|_| panic!("{container} does not run: {pid}"))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Containers first: told to stop, the daemon would ask each and wait.
        if let Ok(output) = self.command(&["ps", "--all", "--quiet"]).output() {
            let ids = String::from_utf8_lossy(&output.stdout).into_owned();
            let words: Vec<_> = ["rm", "--force", "--volumes"].into_iter().chain(ids.lines()).collect();
            if words.len() > 3 {
                let _ = self.command(&words).output();
            }
        }
        kill("TERM", self.daemon.id());
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && self.daemon.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // What it started outlives it if it had to be killed; all of it names the private folder.
        for pid in naming(self.dir.path()) {
            kill("KILL", pid);
        }
    }
}

/// Debian's own client has BuildKit in it; another one that is found first may lack it.
fn client() -> PathBuf {
    let debian = PathBuf::from("/usr/bin/docker");
    if debian.exists() { debian } else { tools::need("docker") }
}

fn kill(signal: &str, pid: u32) {
    let _ = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status();
}

/// The processes with `folder` on their command line.
fn naming(folder: &Path) -> Vec<u32> {
    let folder = folder.as_os_str().as_bytes();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(folder.len()).any(|window| window == folder)
    })
    .collect()
}
