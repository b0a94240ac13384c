//! The units of `config/systemd/`: as systemd's own tools judge them, and run by systemd itself.

use super::free_port;
use crate::pages;
use crate::rig::agent::Agent;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::systemd::Systemd;
use crate::rig::{eventually, tools};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const VALUE: &str = "sk-live-0a1b2c3d4e5f";

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_units_have_no_mistake_and_leave_the_service_little() {
    let dir = tempfile::tempdir().unwrap();
    let units = ["keyferry.service", "keyferry.socket"];
    for name in units {
        // The program is not installed here.
        let text = unit(name).replace("/usr/local/bin/keyferry", tools::KEYFERRY);
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let analyze = |words: &[&str]| {
        let mut command = Command::new(tools::need("systemd-analyze"));
        let output = command.args(words).current_dir(dir.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (fit, said) = analyze(&["verify", "./keyferry.service", "./keyferry.socket"]);
    assert!(fit && said.is_empty(), "{said}");
    // Of 100; what is left is the network, and sockets.
    let (fit, said) = analyze(&["security", "--offline=true", "--threshold=20", "./keyferry.service"]);
    assert!(fit, "{said}");
}

/// The files of a machine that Keyferry is to be installed on, as the page has them, with the socket at `address`.
fn machine(rig: &Rig, origin: &Origin, address: &str) -> PathBuf {
    let put = rig.dir().join("put");
    let write = |path: &str, text: &str| {
        let path = put.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let upstream = format!(
        "upstream: {{ roots: [system, /etc/keyferry/root.pem], resolve: {{ {}: \"{}\" }}, allow_networks: [127.0.0.0/8] }}\n",
        origin.name, origin.address
    );
    let config = pages::block("systemd.md", "yaml").replace("127.0.0.1:8080", address);
    write("etc/keyferry/keyferry.yaml", &format!("{config}\n{upstream}"));
    let root = rig.dir().join("root.pem");
    write("etc/keyferry/root.pem", &std::fs::read_to_string(root).unwrap());
    write("etc/keyferry/api_key", VALUE);
    std::fs::set_permissions(put.join("etc/keyferry/api_key"), PermissionsExt::from_mode(0o600)).unwrap();
    let secrets = pages::block("systemd.md", "ini");
    let place = secrets.lines().next().unwrap().trim_start_matches("# /");
    write(place, &secrets);
    // There is no journal.
    let log = "[Service]\nStandardError=append:/var/log/services\n";
    write("etc/systemd/system/keyferry.service.d/log.conf", log);
    write("src/config/systemd/keyferry.service", &unit("keyferry.service"));
    let socket = unit("keyferry.socket");
    assert!(socket.contains("ListenStream=127.0.0.1:8080\n"));
    write(
        "src/config/systemd/keyferry.socket",
        &socket.replace("127.0.0.1:8080", address),
    );
    let program = put.join("src/target/release/keyferry");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy(tools::KEYFERRY, program).unwrap();
    put
}

/// The process is not root, can become nobody else, and has nothing of the system's.
fn has_no_privilege(systemd: &Systemd, pid: &str) {
    let status = systemd.shell(&format!("cat /proc/{pid}/status"));
    for line in [
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap();
    let uid: u32 = uid.split('\t').next().unwrap().parse().unwrap();
    assert!((61184..=65519).contains(&uid), "{uid} is no dynamic user");
}

#[tokio::test]
async fn systemd_starts_reloads_upgrades_and_stops_the_unit() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.example.com").await;
    let (rig, address) = (Rig::new(&root), free_port());
    let systemd = Systemd::boot(rig.dir(), &machine(&rig, &origin, &address.to_string())).await;
    systemd.shell(&pages::block("systemd.md", "sh"));
    let is = |what: &str| systemd.shell(&format!("systemctl show -P {what} keyferry.service"));
    assert_eq!(is("ActiveState"), "active");
    let agent = Agent::new(address, &systemd.shell("cat keyferry-ca.crt"));
    let ask = || async { agent.get("https://api.example.com/hello").await.text() };
    assert_eq!(ask().await, "hello");
    assert_eq!(origin.only().headers["authorization"], format!("Bearer {VALUE}"));
    let first = is("MainPID");
    has_no_privilege(&systemd, &first);

    systemd.shell("systemctl reload keyferry.service");
    let reloaded = || systemd.log().contains("the config was reloaded").then_some(());
    eventually("the reload", reloaded).await;
    systemd.shell("systemctl restart keyferry.service");
    assert_eq!(ask().await, "hello");
    systemd.shell("systemctl stop keyferry.service");
    assert_eq!(
        (is("Result").as_str(), is("ActiveState").as_str()),
        ("success", "inactive")
    );
    // The socket is still there, and whoever connects starts it once more.
    assert_eq!(ask().await, "hello");

    let second = is("MainPID");
    let commands = pages::block("systemd.md", "console");
    let commands: Vec<_> = commands.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    systemd.shell(&commands.join("\n"));
    let third = eventually("another main process", || {
        Some(is("MainPID")).filter(|pid| *pid != second)
    })
    .await;
    assert_eq!(ask().await, "hello");
    let gone = || systemd.shell(&format!("test -e /proc/{second} || echo gone")) == "gone";
    eventually("the end of the one before", || gone().then_some(())).await;
    assert_eq!((is("MainPID"), is("ActiveState")), (third, "active".to_owned()));
}
