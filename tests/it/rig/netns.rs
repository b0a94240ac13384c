//! Networks of a test's own: an agent's and a gateway's, joined by a pair of interfaces. Nothing of the machine's own
//! network is touched, and all is gone with the value.

use super::tools;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::{TcpSocket, TcpStream};

/// The agent's addresses, and those of somebody else in the same network.
pub const AGENT: [&str; 2] = ["10.77.0.2", "fd77::2"];
pub const STRANGER: [&str; 2] = ["10.77.0.3", "fd77::3"];
/// The gateway's addresses there.
pub const GATE: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// Where names lead in the agent's network: documentation addresses, which exist on the gateway alone.
pub const FAR: [&str; 2] = ["203.0.113.10", "2001:db8::10"];

/// The two networks.
pub struct Networks {
    agent: String,
    gate: String,
}

impl Networks {
    /// Makes them, and moves this thread, with what it starts and binds from now on, to the gateway's side.
    pub fn enter() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("kf{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let new = Self {
            agent: format!("{id}a"),
            gate: format!("{id}g"),
        };
        let (agent, gate) = (&new.agent, &new.gate);
        ip(&format!("netns add {agent}"));
        ip(&format!("netns add {gate}"));
        ip(&format!(
            "link add va netns {agent} type veth peer name vg netns {gate}"
        ));
        for (at, line) in [(agent, "va"), (gate, "vg")] {
            ip(&format!("-n {at} link set {line} up"));
            ip(&format!("-n {at} link set lo up"));
        }
        for (v4, v6) in [(AGENT[0], AGENT[1]), (STRANGER[0], STRANGER[1])] {
            ip(&format!("-n {agent} addr add {v4}/24 dev va"));
            ip(&format!("-n {agent} addr add {v6}/64 dev va nodad"));
        }
        ip(&format!("-n {gate} addr add {}/24 dev vg", GATE[0]));
        ip(&format!("-n {gate} addr add {}/64 dev vg nodad", GATE[1]));
        ip(&format!("-n {gate} addr add {}/32 dev lo", FAR[0]));
        ip(&format!("-n {gate} addr add {}/128 dev lo nodad", FAR[1]));
        ip(&format!("-n {agent} route add default via {}", GATE[0]));
        ip(&format!("-n {agent} -6 route add default via {}", GATE[1]));
        move_to(gate)
            .unwrap_or_else(|error| panic!("cannot enter a network namespace ({error}); run the tests as root"));
        new
    }

    /// What `ip netns exec` shows as `/etc/hosts` there.
    pub fn hosts(&self, names: &[&str]) {
        let folder = self.folder();
        fs::create_dir_all(&folder).unwrap();
        let lines = FAR.map(|address| format!("{address} {}\n", names.join(" ")));
        fs::write(folder.join("hosts"), lines.concat()).unwrap();
    }

    /// Rules for the gateway's firewall, as nftables reads them.
    pub fn nft(&self, rules: &str) {
        let mut nft = Command::new(tools::need("nft"));
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        io::Write::write_all(&mut child.stdin.take().unwrap(), rules.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nft refused:\n{rules}");
    }

    /// The gateway's network.
    pub fn gate(&self) -> &str {
        &self.gate
    }

    /// `ip` on the gateway's side.
    pub fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.gate));
    }

    /// A program in the agent's network; it still lacks an environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(tools::need("ip"));
        command.args(["netns", "exec", &self.agent]).arg(tools::need(program));
        command
    }

    /// How a shell starts a program in the agent's network.
    pub fn shell(&self, program: &str) -> String {
        format!("ip netns exec {} {program}", self.agent)
    }

    /// A connection of the agent's, from one of its addresses.
    pub async fn dial(&self, from: &str, to: SocketAddr) -> io::Result<TcpStream> {
        let (agent, from) = (self.agent.clone(), SocketAddr::new(from.parse().unwrap(), 0));
        // A socket belongs to the network it was made in, whoever uses it later.
        let made = std::thread::spawn(move || {
            move_to(&agent)?;
            let socket = socket2::Socket::new(socket2::Domain::for_address(from), socket2::Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        });
        let socket = made.join().unwrap()?;
        TcpSocket::from_std_stream(socket.into()).connect(to).await
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.agent)
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in [&self.agent, &self.gate] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = fs::remove_dir_all(self.folder());
    }
}

/// Moves this thread.
pub fn move_to(namespace: &str) -> io::Result<()> {
    let file = File::open(format!("/run/netns/{namespace}"))?;
    Ok(move_into_link_name_space(
        file.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// `ip`, which must succeed.
pub fn ip(words: &str) {
    let output = Command::new(tools::need("ip")).args(words.split(' ')).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "`ip {words}`: {told} (network namespaces need root)"
    );
}
