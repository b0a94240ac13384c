//! What is written: in one step, once, and gone without a trace.

use super::{Ground, Whose, ruleset};
use crate::rig::netns::Networks;
use crate::rig::proxy::{Rig, bare};
use crate::rig::root::Root;
use crate::rig::tools;
use crate::ways::pages;
use std::process::Command;

/// Somebody else's rules.
const OTHERS: &str = "table inet others {
    chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 9 drop
    }
}";

#[tokio::test]
async fn rules_are_in_force_once_and_leave_without_a_trace() {
    for (backend, tool) in [
        ("nft", "nft"),
        ("iptables", "iptables-save"),
        ("iptables", "ip6tables-save"),
    ] {
        let ground = Ground::start(Whose::Interface).await;
        ground.networks.nft(OTHERS);
        for (tool, table) in ["iptables", "ip6tables"]
            .into_iter()
            .flat_map(|tool| [(tool, "filter"), (tool, "nat")])
        {
            let others = ["-t", table, "-A", "OUTPUT", "-p", "tcp", "--dport", "9", "-j", "ACCEPT"];
            assert!(Command::new(tools::need(tool)).args(others).status().unwrap().success());
        }
        let before = ruleset(tool);
        let backend = ["--backend", backend];
        ground.done("apply", &backend);
        let once = ruleset(tool);
        assert!(once.contains("15001") && once != before, "{once}");
        ground.done("apply", &backend);
        assert_eq!(ruleset(tool), once);
        // Other rules of the same name take their place, and of another name stand beside.
        ground.done("apply", &[&backend[..], &["--uid", "5678", "--loopback"]].concat());
        assert!(ruleset(tool).contains("5678"));
        ground.done("apply", &backend);
        assert!(!ruleset(tool).contains("5678"));
        ground.done("apply", &[&backend[..], &["--name", "second"]].concat());
        ground.done("remove", &[&backend[..], &["--name", "second"]].concat());
        ground.done("remove", &[]);
        assert_eq!(ruleset(tool), before);
        ground.done("remove", &backend);
        assert_eq!(ruleset(tool), before);
    }
}

#[tokio::test]
async fn what_is_printed_is_what_is_put_in_force() {
    let ground = Ground::start(Whose::Everybody).await;
    ground.done("apply", &[]);
    let applied = ruleset("nft");
    ground.done("remove", &[]);
    let printed = ground.done("print", &[]);
    assert_ne!(ruleset("nft"), applied, "printing changed something");
    ground.networks.nft(&printed);
    assert_eq!(ruleset("nft"), applied);
}

const LISTENER: &str = "{ bind: \"[::]:15001\", speak: transparent }";

/// The listeners, what was asked for, and what is told.
type Mistake<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

fn all_are_told(cases: &[Mistake<'_>]) {
    for (listen, words, told) in cases {
        let rig = Rig::new(&Root::new()).listen(listen);
        let output = rig
            .command(&[&["firewall", "print"], *words].concat())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(told.iter().all(|part| said.contains(part)), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?} printed rules all the same");
    }
}

#[test]
fn whose_traffic_it_is_must_make_sense() {
    all_are_told(&[
        (LISTENER, &[], &["whose traffic", "--uid", "--netns"]),
        (LISTENER, &["--uid", "nobody-here"], &["no user `nobody-here`"]),
        (LISTENER, &["--uid", "0"], &["root can change any firewall rule"]),
        (
            LISTENER,
            &["--cgroup", "no/such"],
            &["no control group `no/such`", "make it first"],
        ),
        (LISTENER, &["--interface", "a b"], &["no interface"]),
        (LISTENER, &["--all"], &["--spare-uid"]),
        (LISTENER, &["--netns", "no-such-network"], &["--spare-uid"]),
        (LISTENER, &["--uid", "7", "--spare-uid", "7"], &["user 7", "two users"]),
    ]);
}

#[test]
fn there_must_be_one_listener_that_hears_what_is_redirected() {
    let two = LISTENER.to_owned() + ", { bind: \"[::]:15002\", speak: transparent }";
    let tproxy = "{ bind: \"[::]:1\", speak: transparent, tproxy: true }";
    let local = "{ bind: \"127.0.0.1:1\", speak: transparent }";
    let proxy = "127.0.0.1:8080";
    all_are_told(&[
        (LISTENER, &["--uid", "7", "--port", "0"], &["--port"]),
        (LISTENER, &["--uid", "7", "--to", "8080"], &["no listener", "8080"]),
        (
            proxy,
            &["--uid", "7"],
            &["no listener of the config is transparent", "speak: transparent"],
        ),
        (
            proxy,
            &["--uid", "7", "--to", "8080"],
            &["127.0.0.1:8080 speaks `proxy`"],
        ),
        (&two, &["--uid", "7"], &["several transparent listeners", "--to"]),
        (tproxy, &["--uid", "7"], &["TPROXY", "take its `tproxy` out"]),
        (local, &["--interface", "vg"], &["127.0.0.1:1", "bind `0.0.0.0`"]),
    ]);
}

#[tokio::test]
async fn who_may_not_and_what_is_not_there_is_told() {
    let _networks = Networks::enter();
    let said = |through: &[&str], words: &[&str]| {
        let mut command = Command::new(tools::need(through[0]));
        bare(&mut command, "/tmp".as_ref());
        command
            .args(&through[1..])
            .arg(tools::KEYFERRY)
            .args(["firewall", "apply"])
            .args(words);
        let output = command.current_dir("/").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let rules = ["--uid", "4321", "--to", "15001"];
    let user = said(&["setpriv", "--reuid", "4321", "--clear-groups"], &rules);
    assert!(user.contains("CAP_NET_ADMIN") && user.contains("root"), "{user}");
    // A machine without the tools, as far as Keyferry sees.
    let hidden = "mount --bind /dev/null \"$(readlink -f \"$(command -v nft)\")\" && \
                  mount --bind /dev/null \"$(readlink -f \"$(command -v iptables-restore)\")\" && exec \"$0\" \"$@\"";
    let bare = ["unshare", "--mount", "/bin/sh", "-c", hidden];
    let none = said(&bare, &rules);
    assert!(
        none.contains("nft is not on this machine") && none.contains("nftables"),
        "{none}"
    );
    let none = said(&bare, &[&rules[..], &["--backend", "iptables"]].concat());
    assert!(none.contains("iptables-restore is not on this machine"), "{none}");
    let nowhere = said(
        &["env"],
        &["--netns", "no-such-network", "--spare-uid", "998", "--to", "15001"],
    );
    assert!(nowhere.contains("/run/netns/no-such-network"), "{nowhere}");
}

#[tokio::test]
async fn the_page_about_firewall_rules_works_as_it_stands() {
    let ground = Ground::start(Whose::Group).await;
    let before = ruleset("nft");
    let group = ground.group.file_name().unwrap().to_str().unwrap();
    let gate = format!("--netns {}", ground.networks.gate());
    // Names that this machine has not got.
    let swapped = [
        ("--uid agent", "--uid 4321"),
        ("--cgroup agents.slice", &format!("--cgroup {group}")),
        ("--netns agent", &gate),
        ("--spare-uid keyferry", "--spare-uid 998"),
    ];
    let printed = pages::run("firewall.md", &ground.proxy, &swapped, &[]).await;
    assert!(
        printed[0].contains("iifname { \"vg\" }") && printed[0].contains("15001"),
        "{printed:?}"
    );
    let everybody = ruleset("nft");
    assert!(
        everybody.contains("meta skuid 998 return"),
        "the last command's rules are in force: {everybody}"
    );
    assert!(
        !everybody.contains("4321") && !everybody.contains("socket cgroupv2"),
        "{everybody}"
    );
    ground.done("remove", &[]);
    assert_eq!(ruleset("nft"), before);
}
