//! `keyferry firewall`, on real network namespaces: what it writes, and that nothing gets past it.

mod leaks;
mod rules;

use crate::rig::netns::Networks;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::tools;
use crate::rig::uplink::{BEYOND, Uplink};
use std::path::PathBuf;
use std::process::{Command, Output};

/// What only Keyferry holds.
const KEY: &str = "sk-live-0a1b2c3d4e5f";
/// The users of an agent and of Keyferry.
const AGENT: &str = "4321";
const KEYFERRY: &str = "998";

/// Whose traffic is redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// That of another network, whose gateway this is.
    Interface,
    /// That of a user.
    User,
    /// That of a control group.
    Group,
    /// That of everybody but Keyferry.
    Everybody,
}

/// A gateway with Keyferry on it, an agent, and a network beyond.
struct Ground {
    whose: Whose,
    // Before the networks: it is in one of them.
    uplink: Uplink,
    networks: Networks,
    proxy: Proxy,
    api: Origin,
    group: PathBuf,
}

/// Keyferry's listeners: what is redirected leads there, and a proxy beside it.
const LISTEN: &str = "{ bind: \"[::]:15001\", speak: transparent }, \"127.0.0.1:8080\"";
/// Its resolver.
const RESOLVER: &str = ", { bind: \"[::]:15053\", speak: dns, answer: [198.51.100.2, \"2001:db8:51::2\"] }";

impl Ground {
    async fn start(whose: Whose) -> Self {
        Self::listening(whose, &[LISTEN, RESOLVER].concat()).await
    }

    async fn listening(whose: Whose, listen: &str) -> Self {
        let networks = Networks::enter();
        let uplink = Uplink::join(&networks);
        let root = Root::new();
        let api = Origin::start(&root, "api.test").await;
        let rig = Rig::new(&root)
            .reach(&api)
            .reach_as("beyond.test", "198.51.100.2:443".parse().unwrap())
            .secret("API_KEY", KEY)
            .rule("host: api.test, inject: [{ header: x-api-key, value: \"${api_key}\" }]")
            .rule("host: beyond.test")
            .listen(listen);
        let rig = match whose {
            Whose::Everybody => as_itself(rig),
            _ => rig,
        };
        Self {
            whose,
            uplink,
            group: group(networks.gate()),
            networks,
            proxy: rig.serve().await,
            api,
        }
    }

    /// Which rules to make, in words of the command line.
    fn words(&self) -> Vec<String> {
        let words = match self.whose {
            Whose::Interface => vec!["--interface", "vg"],
            Whose::User => vec!["--uid", AGENT],
            Whose::Group => vec!["--cgroup", self.group.to_str().unwrap()],
            // The upstreams of the test are root's, and in the same network.
            Whose::Everybody => {
                let spared = ["--spare-uid", KEYFERRY, "--spare-uid", "root"];
                [&["--netns", self.networks.gate()][..], &spared].concat()
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// `keyferry firewall VERB …`, as root.
    fn firewall(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(tools::KEYFERRY);
        bare(&mut command, self.proxy.rig.dir());
        command
            .args(["firewall", verb, "--config"])
            .arg(self.proxy.rig.dir().join("keyferry.yaml"));
        if verb != "remove" {
            command.args(self.words());
        }
        command.args(more).output().unwrap()
    }

    /// The same where it must succeed; what it printed.
    fn done(&self, verb: &str, more: &[&str]) -> String {
        let output = self.firewall(verb, more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "firewall {verb}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A program as the agent would start it. Its name server is beyond.
    async fn agent(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = match self.whose {
            Whose::Interface => self.networks.command("unshare"),
            _ => Command::new(tools::need("unshare")),
        };
        bare(&mut command, "/tmp".as_ref());
        let become_it = match self.whose {
            Whose::Interface => "exec \"$@\"".to_owned(),
            Whose::Group => format!("echo $$ >{}/cgroup.procs && exec \"$@\"", self.group.display()),
            // As root in the other cases, it may write whole packets by itself.
            Whose::User | Whose::Everybody => format!(
                "exec setpriv --reuid {AGENT} --regid {AGENT} --clear-groups --inh-caps +net_raw --ambient-caps +net_raw \"$@\""
            ),
        };
        let script = format!(
            "printf 'nameserver {}\\n' >\"$0\" && mount --bind \"$0\" /etc/resolv.conf && {become_it}",
            BEYOND[0]
        );
        let servers = std::env::temp_dir().join(format!("{}.resolv", self.networks.gate()));
        command
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script])
            .arg(&servers);
        command.arg(tools::need(program)).args(arguments).current_dir("/");
        let output = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let _ = std::fs::remove_file(servers);
        output
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Keyferry as a user of its own, to whom its files belong.
fn as_itself(rig: Rig) -> Rig {
    rig.write();
    let owner = format!("{KEYFERRY}:{KEYFERRY}");
    let given = Command::new("chown")
        .args(["-R", &owner])
        .arg(rig.dir())
        .status()
        .unwrap();
    assert!(given.success());
    rig.through(&["setpriv", "--reuid", KEYFERRY, "--regid", KEYFERRY, "--clear-groups"])
}

/// A control group of that name, of version 2, wherever those are on this machine.
fn group(name: &str) -> PathBuf {
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
    let root = root.into_iter().find(|root| root.join("cgroup.controllers").exists());
    let group = root
        .expect("control groups of version 2 are not mounted below /sys/fs/cgroup")
        .join(name);
    std::fs::create_dir(&group).unwrap();
    group
}

/// The firewall's rules, all of them.
fn ruleset(tool: &str) -> String {
    let (tool, arguments): (_, &[&str]) = match tool {
        "nft" => ("nft", &["list", "ruleset"]),
        other => (other, &[]),
    };
    let output = Command::new(tools::need(tool)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{tool}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // Comments of iptables-save have the time in them.
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}
