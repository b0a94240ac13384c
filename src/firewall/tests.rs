#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

fn plan() -> Plan {
    Plan {
        name: Name::ONLY.parse().unwrap(),
        who: Who {
            uids: vec![User(1001), User(1002)],
            ..Who::default()
        },
        spared: Vec::new(),
        spared_mark: None,
        ports: vec![80, 443],
        transparent: "[::]:15001".parse().unwrap(),
        dns: None,
        listeners: Vec::new(),
        loopback: false,
    }
}

/// The rules of one chain, in nft's spelling.
fn chain(plan: &Plan, name: &str) -> Vec<String> {
    let text = plan.nft();
    let start = format!("\tchain {name} {{\n");
    let body = text
        .split(&start)
        .nth(1)
        .unwrap_or_else(|| panic!("no chain {name}:\n{text}"));
    let rules = body.split("\t}").next().unwrap();
    rules.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn users_are_redirected_and_judged_by_the_same_words() {
    let plan = plan();
    assert_eq!(
        chain(&plan, "redirect_output")[1..],
        ["meta skuid { 1001, 1002 } goto redirected"]
    );
    assert_eq!(chain(&plan, "output")[1..], ["meta skuid { 1001, 1002 } goto judged"]);
    assert_eq!(chain(&plan, "redirected"), ["tcp dport { 80, 443 } redirect to :15001"]);
    assert_eq!(
        chain(&plan, "judged"),
        ["fib daddr type local tcp dport 15001 accept", "goto rejected"]
    );
    assert!(
        !plan.nft().contains("iifname") && !plan.nft().contains("forward"),
        "{}",
        plan.nft()
    );
}

#[test]
fn a_listener_is_opened_at_its_own_address_and_dns_over_both_protocols() {
    let mut plan = plan();
    plan.listeners = ["127.0.0.1:8080", "[::1]:8081", "0.0.0.0:8082"]
        .map(|one| one.parse().unwrap())
        .into();
    plan.dns = Some("0.0.0.0:15053".parse().unwrap());
    assert_eq!(
        chain(&plan, "judged"),
        [
            "fib daddr type local tcp dport 15001 accept",
            "ip daddr 127.0.0.1 tcp dport 8080 accept",
            "ip6 daddr ::1 tcp dport 8081 accept",
            "meta nfproto ipv4 fib daddr type local tcp dport 8082 accept",
            "meta nfproto ipv4 fib daddr type local meta l4proto { tcp, udp } th dport 15053 accept",
            "goto rejected"
        ]
    );
    let parts = plan.iptables();
    let text = |tool| {
        let part = parts.iter().find(|part| part.tool == tool && part.table == "filter");
        part.unwrap().text.clone()
    };
    let (v4, v6) = (text("iptables"), text("ip6tables"));
    assert!(
        v4.contains("-p tcp -d 127.0.0.1 --dport 8080 -j ACCEPT") && !v4.contains("::1"),
        "{v4}"
    );
    assert!(
        v6.contains("-p tcp -d ::1 --dport 8081 -j ACCEPT") && !v6.contains("--dport 8082"),
        "{v6}"
    );
}

#[test]
fn dns_stays_shut_where_loopback_is_open() {
    let mut plan = plan();
    plan.loopback = true;
    let judged = chain(&plan, "judged");
    let at = |rule: &str| judged.iter().position(|one| one == rule).unwrap();
    assert!(at("meta l4proto { tcp, udp } th dport 53 goto rejected") < at("ip daddr 127.0.0.0/8 accept"));
    assert!(at("ip6 daddr ::1 accept") < at("goto rejected"));
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let everybody = Who {
        everybody: true,
        ..Who::default()
    };
    let interface = Who {
        interfaces: vec!["vg".parse().unwrap()],
        ..Who::default()
    };
    let on = |who: &Who, transparent: &str| Plan {
        who: who.clone(),
        transparent: transparent.parse().unwrap(),
        ..plan()
    };
    assert!(plan().check().is_ok());
    assert!(matches!(on(&Who::default(), "[::]:1").check(), Err(Error::Nobody)));
    assert!(matches!(on(&everybody, "[::]:1").check(), Err(Error::NotSpared)));
    let spared = Plan {
        spared_mark: Some(1),
        ..on(&everybody, "[::]:1")
    };
    assert!(spared.check().is_ok());
    let both = Plan {
        spared: vec![User(1002)],
        ..plan()
    };
    assert!(matches!(both.check(), Err(Error::Both(1002))));
    assert!(matches!(on(&interface, "127.0.0.1:1").check(), Err(Error::Deaf { .. })));
    assert!(on(&interface, "10.0.0.1:1").check().is_ok());
    assert!(matches!(on(&plan().who, "10.0.0.1:1").check(), Err(Error::Deaf { .. })));
    assert!(on(&plan().who, "127.0.0.1:1").check().is_ok());
    let dns = Plan {
        dns: Some("10.0.0.1:53".parse().unwrap()),
        ..plan()
    };
    assert!(matches!(dns.check(), Err(Error::Deaf { .. })));
}

#[test]
fn iptables_chains_are_put_in_once_and_taken_out_whole() {
    let plan = plan();
    let parts = plan.iptables();
    let filter = parts
        .iter()
        .find(|part| part.table == "filter" && part.tool == "iptables")
        .unwrap();
    let saved = "*filter\n:OUTPUT ACCEPT [0:0]\n:KF_keyferry_out - [0:0]\n:KF_keyferry_judged - [0:0]\n:KF_other_out - [0:0]\n\
                 -A OUTPUT -j KF_keyferry_out\n-A OUTPUT -j KF_other_out\n-A KF_keyferry_out -g KF_keyferry_judged\nCOMMIT\n";
    let text = filter.replacing(&plan.name, saved);
    let deleted: Vec<_> = text.lines().filter(|line| line.starts_with("-D")).collect();
    assert_eq!(deleted, ["-D OUTPUT -j KF_keyferry_out"]);
    assert!(!text.contains("-X"), "each chain is wanted: {text}");
    let interface = Plan {
        who: Who {
            interfaces: vec!["vg".parse().unwrap()],
            ..Who::default()
        },
        ..plan.clone()
    };
    let other = interface.iptables()[1].replacing(&plan.name, saved);
    assert!(other.contains("-F KF_keyferry_out\n-X KF_keyferry_out\n"), "{other}");
    assert!(text.find("-D OUTPUT").unwrap() < text.find("-I OUTPUT").unwrap());
    assert_eq!(
        iptables::removal(&plan.name, "filter", saved).unwrap(),
        "*filter\n-D OUTPUT -j KF_keyferry_out\n-F KF_keyferry_out\n-F KF_keyferry_judged\n-X KF_keyferry_out\n\
         -X KF_keyferry_judged\nCOMMIT\n"
    );
    assert_eq!(iptables::removal(&plan.name, "nat", "*nat\nCOMMIT\n"), None);
}
