//! From behind the rules nothing gets out but through Keyferry. An agent tries every way; somebody beyond looks at every
//! packet that arrives.

use super::{Ground, KEY, Whose};
use crate::rig::uplink::BEYOND;
use crate::rig::{soon, tools};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// What the probe sends, of either family.
const SENT: [&str; 17] = [
    "fragments",
    "icmp",
    "raw/132",
    "raw/136",
    "raw/41",
    "raw/47",
    "tcp/22",
    "tcp/25",
    "tcp/443",
    "tcp/53",
    "tcp/80",
    "tcp/8443",
    "tcp/853",
    "udp/123",
    "udp/443",
    "udp/4789",
    "udp/53",
];

fn expected(whose: Whose) -> BTreeSet<String> {
    let versions = SENT.iter().flat_map(|one| {
        let (kind, rest) = one.split_at(one.find('/').unwrap_or(one.len()));
        ["4", "6"].map(|version| format!("{kind}{version}{rest}"))
    });
    let frame = (whose == Whose::Interface).then_some("udp4/27");
    let alone = ["tcp4/26", "udp4/26"].into_iter().chain(frame).map(str::to_owned);
    versions.chain(alone).collect()
}

/// The link address of an interface here.
fn link_address(interface: &str) -> String {
    let mut ip = std::process::Command::new(tools::need("ip"));
    let output = ip.args(["-br", "link", "show", interface]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().nth(2).unwrap().to_owned()
}

impl Ground {
    /// Tries every way out; what arrived beyond, and what the agent was told of each.
    async fn tried(&self) -> (BTreeSet<String>, serde_json::Value) {
        self.uplink.seen().await;
        let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/firewall/probe.py");
        let script = std::fs::read_to_string(probe).unwrap();
        let gateway = match self.whose {
            Whose::Interface => link_address("vg"),
            _ => String::new(),
        };
        let output = soon(
            "the probe",
            self.agent("python3", &["-c", &script, BEYOND[0], BEYOND[1], &gateway]),
        )
        .await;
        let told = serde_json::from_slice(&output.stdout);
        let told = told.unwrap_or_else(|_| panic!("the probe failed: {output:?}"));
        (self.uplink.seen().await, told)
    }

    /// What curl, which knows of no proxy, is told for `https://HOST/`, over either family.
    async fn curl(&self, host: &str, family: &str) -> String {
        // The agent may not read the folder that Keyferry's files are in.
        let ca = std::env::temp_dir().join(format!("{}.pem", self.networks.gate()));
        std::fs::copy(&self.proxy.ca, &ca).unwrap();
        let url = format!("https://{host}/hello");
        let trust = ["--cacert", ca.to_str().unwrap()];
        let arguments = [
            &["-sS", "--max-time", "20", family, "-w", "%{http_code}", &url][..],
            &trust,
        ]
        .concat();
        let output = self.agent("curl", &arguments).await;
        std::fs::remove_file(ca).unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// What dig is told by a name server beyond.
    async fn dig(&self, question: &str) -> String {
        let server = format!("@{}", BEYOND[0]);
        let asked = ["+tries=1", "+time=3", &server].into_iter().chain(question.split(' '));
        let output = self.agent("dig", &asked.collect::<Vec<_>>()).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether the agent can connect there.
    async fn connects(&self, to: SocketAddr) -> bool {
        let script = format!(
            "import socket; socket.create_connection((\"{}\", {}), 5)",
            to.ip(),
            to.port()
        );
        self.agent("python3", &["-c", &script]).await.status.success()
    }
}

async fn nothing_gets_out(whose: Whose, backend: &str) {
    let ground = Ground::start(whose).await;
    let (open, told) = ground.tried().await;
    let missing: Vec<_> = expected(whose).difference(&open).cloned().collect();
    assert!(
        missing.is_empty(),
        "the probe cannot see {missing:?} even without rules: {told:#}"
    );

    ground.done("apply", &["--backend", backend]);
    let (out, told) = ground.tried().await;
    assert_eq!(out, BTreeSet::new(), "{whose:?}: {told:#}");

    // What Keyferry is asked for it gets, by its own way out; and names are known that a rule allows.
    for family in ["-4", "-6"] {
        assert_eq!(ground.curl("api.test", family).await, "hello200", "{whose:?}");
    }
    assert!(ground.api.seen().iter().all(|one| one.all("x-api-key") == [KEY]));
    let unknown = ground.curl("other.test", "-4").await;
    assert!(unknown.contains("Could not resolve host: other.test"), "{unknown}");
    for over in ["+notcp", "+tcp"] {
        let refused = ground.dig(&format!("{over} c2VjcmV0.other.test A")).await;
        assert!(refused.contains("NXDOMAIN"), "{refused}");
        assert!(
            ground
                .dig(&format!("{over} c2VjcmV0.api.test TXT"))
                .await
                .contains("REFUSED")
        );
    }
    assert_eq!(ground.uplink.seen().await, BTreeSet::new());
    let beyond = ground.curl("beyond.test", "-4").await;
    assert!(beyond.ends_with("502"), "nobody answers there: {beyond}");
    assert_eq!(ground.uplink.seen().await, BTreeSet::from(["tcp4/443".to_owned()]));

    ground.done("remove", &["--backend", backend]);
    let (again, _) = ground.tried().await;
    assert!(again.is_superset(&expected(whose)), "not all rules are gone: {again:?}");
}

#[tokio::test]
async fn without_a_resolver_dns_is_refused_at_once() {
    for whose in [Whose::Interface, Whose::User] {
        let ground = Ground::listening(whose, super::LISTEN).await;
        ground.done("apply", &["--loopback"]);
        ground.uplink.seen().await;
        for over in ["+notcp", "+tcp"] {
            let refused = ground.dig(&format!("{over} api.test A")).await;
            assert!(
                !refused.contains("timed out") && !refused.contains("ANSWER"),
                "{refused}"
            );
        }
        assert_eq!(ground.uplink.seen().await, BTreeSet::new());
    }
}

#[tokio::test]
async fn on_loopback_keyferry_alone_is_reached_unless_it_is_opened() {
    let ground = Ground::start(Whose::User).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (other, keyferry) = (listener.local_addr().unwrap(), "127.0.0.1:8080".parse().unwrap());
    assert!(ground.connects(other).await, "without rules nothing is shut");
    ground.done("apply", &[]);
    assert_eq!(
        (ground.connects(other).await, ground.connects(keyferry).await),
        (false, true)
    );
    ground.done("apply", &["--loopback"]);
    assert_eq!(
        (ground.connects(other).await, ground.connects(keyferry).await),
        (true, true)
    );
}

#[tokio::test]
async fn nothing_gets_out_of_a_redirected_network() {
    nothing_gets_out(Whose::Interface, "nft").await;
}

#[tokio::test]
async fn nothing_of_a_redirected_user_gets_out() {
    nothing_gets_out(Whose::User, "nft").await;
}

#[tokio::test]
async fn nothing_gets_out_of_a_redirected_control_group() {
    nothing_gets_out(Whose::Group, "nft").await;
}

#[tokio::test]
async fn nothing_gets_out_of_a_network_but_keyferrys_own() {
    nothing_gets_out(Whose::Everybody, "nft").await;
}

#[tokio::test]
async fn nothing_gets_out_of_a_redirected_network_with_iptables() {
    nothing_gets_out(Whose::Interface, "iptables").await;
}

#[tokio::test]
async fn nothing_of_a_redirected_user_gets_out_with_iptables() {
    nothing_gets_out(Whose::User, "iptables").await;
}

#[tokio::test]
async fn nothing_gets_out_of_a_redirected_control_group_with_iptables() {
    nothing_gets_out(Whose::Group, "iptables").await;
}

#[tokio::test]
async fn nothing_gets_out_of_a_network_but_keyferrys_own_with_iptables() {
    nothing_gets_out(Whose::Everybody, "iptables").await;
}
