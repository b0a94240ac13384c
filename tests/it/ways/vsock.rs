//! A virtual machine without a network: out by vsock through `keyferry bridge`, and a real vsock listener inside, where
//! the kernel can connect to itself. There the whole table is played, by this very test binary.

use super::table::table;
use super::{TOKEN, Way, connect};
use crate::clients::basic;
use crate::rig::agent::Http;
use crate::rig::netns::Networks;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{eventually, tools};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_vsock::{VsockAddr, VsockStream};

/// What the machine does; its first process.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in MODULES; do insmod /modules/$module.ko; done
ip link set lo up
"#;

/// What the machine does that goes out and is listened to.
const GO: &str = r#"
GET='wget -q -O - http://plain.test/hello'
echo "network: $(ls /sys/class/net | tr '\n' ' ')"
echo "through the host: $(keyferry bridge --to vsock:2:5000 -- $GET; echo " code $?")"
echo "nobody there: $( (keyferry bridge --to vsock:2:5001 -- echo started 2>&1; echo "code $?") | tr '\n' ' ')"
httpd -p 127.0.0.1:8088 -h /www
keyferry serve --config /keyferry.yaml 2>/log & SERVE=$!
echo "inside: $(keyferry bridge --to vsock:1:8080 -- $GET; echo " code $?")"
echo "taken: $(keyferry serve --config /keyferry.yaml 2>&1 | tr '\n' ' ')"
echo "upgraded: $(keyferry reload --upgrade --config /keyferry.yaml 2>&1 | tr '\n' ' ')"
wait $SERVE
echo "after: $(keyferry bridge --to vsock:1:8080 -- $GET; echo " code $?")"
kill $(pidof keyferry); while pidof keyferry >/dev/null; do sleep 1; done
echo "record: $(head -n 1 /audit.jsonl)"
poweroff -f
"#;

const INSIDE: &str = "listen: [\"vsock:8080\"]
ca: { dir: /ca }
upstream: { resolve: { plain.test: \"127.0.0.1:8088\" }, allow_networks: [127.0.0.0/8] }
rules: [{ host: plain.test }]
audit: { file: /audit.jsonl }
";

const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "net/vmw_vsock/vsock",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common",
    "net/vmw_vsock/vmw_vsock_virtio_transport",
    "net/vmw_vsock/vsock_loopback",
];

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one path below `dir` that ends so.
fn below(dir: &Path, end: &str) -> PathBuf {
    let found = Command::new("find")
        .arg(dir)
        .args(["-path", &format!("*{end}")])
        .output()
        .unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let first = found.lines().next();
    PathBuf::from(
        first.unwrap_or_else(|| panic!("no {end} in {}; run scripts/test once, it installs it", dir.display())),
    )
}

/// What the machine does that plays the table.
const PLAY: &str = r#"
mkdir -p $(dirname KEYFERRY) && ln -s /bin/keyferry KEYFERRY
/bin/it ways::vsock::inside:: --ignored --test-threads=1 2>&1
echo "table: code $?"
poweroff -f
"#;

/// The first file system of the machine: busybox, Keyferry and these tests with the libraries they are linked to, and
/// what is done there once it is up.
fn initrd(dir: &Path, kernel: &Path, then: &str) -> PathBuf {
    let tree = dir.join("tree");
    for part in ["bin", "dev", "proc", "sys", "modules", "tmp", "www"] {
        std::fs::create_dir_all(tree.join(part)).unwrap();
    }
    let put = |from: &Path, to: &str| {
        let to = tree.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    put(&tools::need("busybox"), "bin/busybox");
    let tests = std::env::current_exe().unwrap();
    for (program, name) in [(Path::new(tools::KEYFERRY), "keyferry"), (&tests, "it")] {
        let mut strip = Command::new(tools::need("strip"));
        let strip = strip.arg("-o").arg(tree.join("bin").join(name)).arg(program);
        assert!(strip.status().unwrap().success());
        let linked = Command::new("ldd").arg(program).output().unwrap();
        let linked = String::from_utf8(linked.stdout).unwrap();
        for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            put(Path::new(library), library);
        }
    }
    for module in MODULES {
        let name = module.rsplit('/').next().unwrap();
        put(
            &below(kernel, &format!("/kernel/{module}.ko")),
            &format!("modules/{name}.ko"),
        );
    }
    let names: Vec<_> = MODULES
        .iter()
        .map(|module| module.rsplit('/').next().unwrap())
        .collect();
    let init = format!("{INIT}{then}").replace("KEYFERRY", tools::KEYFERRY);
    std::fs::write(tree.join("init"), init.replace("MODULES", &names.join(" "))).unwrap();
    std::fs::set_permissions(tree.join("init"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(tree.join("www/hello"), "hello from inside").unwrap();
    std::fs::write(tree.join("keyferry.yaml"), INSIDE).unwrap();
    let image = dir.join("initrd");
    let pack = format!(
        "cd {} && find . | cpio -o -H newc --quiet > {}",
        tree.display(),
        image.display()
    );
    assert!(Command::new("/bin/sh").args(["-c", &pack]).status().unwrap().success());
    image
}

/// Boots the machine with its vsock at `dir/vm`, and returns all that it prints.
async fn boot(dir: &Path, then: &str) -> String {
    let kernel = tools::installed().join("microvm/kernel");
    let image = initrd(dir, &kernel, then);
    let (control, device) = (dir.join("vhost"), tools::installed().join("bin/vhost-device-vsock"));
    assert!(
        device.is_file(),
        "vhost-device-vsock is not installed; run scripts/test once, it installs it"
    );
    let log = std::fs::File::create(dir.join("device.log")).unwrap();
    let vm = format!(
        "guest-cid=4,socket={},uds-path={}",
        control.display(),
        dir.join("vm").display()
    );
    let device = Command::new(device)
        .args(["--vm", &vm])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    let _device = Ended(device.unwrap());
    eventually("the vsock device", || control.exists().then_some(())).await;
    let mut qemu = Command::new(tools::need("qemu-system-x86_64"));
    qemu.args([
        "-M",
        "q35,memory-backend=memory",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "1G",
        "-smp",
        "2",
    ])
    .args(["-object", "memory-backend-memfd,id=memory,size=1G,share=on"])
    .args(["-chardev", &format!("socket,id=vsock,path={}", control.display())])
    .args(["-device", "vhost-user-vsock-pci,chardev=vsock"])
    .args(["-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"])
    .args(["-append", "console=ttyS0 panic=-1 quiet", "-kernel"])
    .arg(below(&kernel, "/boot/vmlinuz-*"))
    .arg("-initrd")
    .arg(image)
    .stdin(Stdio::null());
    let qemu = tokio::process::Command::from(qemu).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(240), qemu).await;
    let output = output.expect("the machine did not end").unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}\n{printed}",
        String::from_utf8_lossy(&output.stderr)
    );
    printed
}

#[tokio::test]
async fn a_machine_without_a_network_goes_out_by_vsock_and_is_listened_to_there() {
    let root = Root::new();
    let origin = Origin::plain("plain.test").await;
    let uid = rustix::process::getuid().as_raw();
    let rig = Rig::new(&root).reach(&origin).rule("host: plain.test, agents: [vm]");
    // Where the device brings what the guest asks of port 5000 of the host.
    let listen = format!("127.0.0.1:0, {{ bind: \"unix:{}/vm_5000\" }}", rig.dir().display());
    let proxy = rig
        .listen(&listen)
        .config(&format!("agents: {{ vm: {{ peer_uid: {uid} }} }}"))
        .serve()
        .await;
    let printed = boot(proxy.rig.dir(), GO).await;
    let line = |start: &str| {
        // The machine's own words may stand before it.
        let found = printed.lines().find_map(|line| Some(line.split_once(start)?.1));
        found
            .unwrap_or_else(|| panic!("no `{start}` in\n{printed}"))
            .trim()
            .to_owned()
    };
    assert_eq!(line("network:"), "lo");
    assert_eq!(line("through the host:"), "hello code 0");
    let (record, seen) = (proxy.record().await, origin.only());
    assert_eq!(
        (&record["agent"], &record["peer"]),
        (&"vm".into(), &format!("unix:uid={uid}").into())
    );
    assert_eq!(seen.authority, "plain.test");
    let nobody = line("nobody there:");
    assert!(
        nobody.contains("no connection to vsock:2:5001") && nobody.ends_with("code 125"),
        "{nobody}"
    );
    // The listener's own kind of connection.
    assert_eq!(line("inside:"), "hello from inside code 0");
    let record: serde_json::Value = serde_json::from_str(&line("record:")).unwrap();
    assert_eq!(
        (&record["peer"], &record["code"]),
        (&"vsock:cid=1".into(), &"ok".into())
    );
    // And the same again from the process that followed.
    let upgraded = line("upgraded:");
    assert!(upgraded.contains(" serves now; process "), "{printed}");
    assert_eq!(line("after:"), "hello from inside code 0");
    assert!(
        line("taken:").contains("cannot listen on vsock:8080: the address is in use"),
        "{printed}"
    );
}

/// A vsock listener, reached from its own machine: the context id of that proves nobody, so the agent shows its token.
struct Vsock(Proxy);

impl Vsock {
    async fn offering(&self, offer: Option<&str>, host: &str, http2: bool) -> Result<Http, String> {
        let io = VsockStream::connect(VsockAddr::new(1, 8080)).await.unwrap();
        let io = connect(io, host, offer).await?;
        Ok(self.0.agent.http_over(io, host, http2).await)
    }
}

impl Way for Vsock {
    const NAME: &'static str = "proxy";
    const DENIED: &'static str = "403 denied_by_policy";

    async fn start(rig: Rig, _: Option<Networks>) -> Self {
        let rig = rig.config("agents: { ci: { token: ci_token } }");
        Self(rig.listen("127.0.0.1:0, \"vsock:8080\"").serve().await)
    }

    fn proxy(&self) -> &Proxy {
        &self.0
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        self.offering(Some(&basic("ci", TOKEN)), host, http2).await
    }

    async fn stranger(&self) -> String {
        self.offering(None, "api.test", false).await.err().unwrap()
    }
}

table!(
    #[ignore = "played inside a machine, by the test below"]
    inside: Vsock
);

#[tokio::test]
async fn the_whole_table_holds_on_vsock_inside_a_machine() {
    let dir = tempfile::tempdir().unwrap();
    let printed = boot(dir.path(), PLAY).await;
    assert!(
        printed.contains("9 passed; 0 failed") && printed.contains("table: code 0"),
        "{printed}"
    );
}
