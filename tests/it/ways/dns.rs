//! The resolver for redirected networks, asked by `dig` and by what every program asks with.

use super::pages;
use crate::rig::admin::page;
use crate::rig::names::{Names, Says};
use crate::rig::netns::{AGENT, GATE, Networks, STRANGER};
use crate::rig::proxy::{Proxy, Rig, bare};
use crate::rig::root::Root;
use crate::rig::{soon, tools};
use crate::service::{Followers, ground};
use std::net::SocketAddr;
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// What dig is told: the reply's status, and the addresses in it.
#[derive(Debug, PartialEq)]
struct Told(String, Vec<String>);

fn told(status: &str, addresses: &[&str]) -> Told {
    Told(status.to_owned(), addresses.iter().map(|&one| one.to_owned()).collect())
}

/// `dig`, through a program that starts it where the agent is.
async fn dig(mut through: Command, at: SocketAddr, question: &str) -> Told {
    bare(&mut through, "/tmp".as_ref());
    let server = [format!("@{}", at.ip()), format!("-p{}", at.port())];
    through
        .args(server)
        .args(["+tries=1", "+time=10", "+noall", "+comments", "+answer"])
        .args(question.split(' '));
    let output = soon("dig", tokio::process::Command::from(through).output())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    let status = status
        .unwrap_or_else(|| panic!("no reply to {question}: {text}"))
        .to_owned();
    let records = text.lines().filter(|line| !line.is_empty() && !line.starts_with(';'));
    Told(
        status,
        records
            .map(|line| line.split_whitespace().last().unwrap().to_owned())
            .collect(),
    )
}

fn here() -> Command {
    Command::new(tools::need("dig"))
}

/// A rig whose only listener is a resolver on loopback.
fn resolver(rules: &[&str]) -> Rig {
    let rig =
        Rig::new(&Root::new()).listen("{ bind: \"127.0.0.1:0\", speak: dns, answer: [192.0.2.1, \"2001:db8::1\"] }");
    rules.iter().fold(rig, |rig, rule| rig.rule(rule))
}

const RULES: [&str; 6] = [
    "host: [api.test, \"db.test:5432\"]",
    "host: \"*.wild.test\", allow: [\"GET /x\"]",
    "host: shut.test, deny: not this one",
    "host: partly.test, allow: [\"GET /secret\"], deny: true",
    "host: partly.test",
    "host: onlydenied.test, allow: [\"GET /secret\"], deny: true",
];

#[tokio::test]
async fn a_name_that_a_rule_allows_has_an_address_and_no_other_has() {
    let proxy = resolver(&RULES).serve().await;
    let (v4, none) = (told("NOERROR", &["192.0.2.1"]), told("NXDOMAIN", &[]));
    for (name, expected) in [
        ("api.test", &v4),
        ("aPI.tEST", &v4),
        ("db.test", &v4),
        ("a.b.wild.test", &v4),
        ("partly.test", &v4),
        ("wild.test", &none),
        ("shut.test", &none),
        ("onlydenied.test", &none),
        ("other.test", &none),
        ("api.test.svc.cluster.local", &none),
        ("localhost", &none),
        ("192.0.2.7", &none),
        (r"api\.test", &none),
    ] {
        for over in ["+notcp", "+tcp", "+notcp +noedns"] {
            assert_eq!(
                &dig(here(), proxy.address, &format!("{over} {name} A")).await,
                expected,
                "{over} {name}"
            );
        }
    }
    let v6 = dig(here(), proxy.address, "api.test AAAA").await;
    assert_eq!(v6, told("NOERROR", &["2001:db8::1"]));
}

#[tokio::test]
async fn what_could_carry_more_than_an_address_is_refused() {
    let proxy = resolver(&RULES).config("admin: 127.0.0.1:0").serve().await;
    let kinds = [
        "ANY", "TXT", "NULL", "MX", "CNAME", "NS", "SOA", "SRV", "PTR", "AXFR", "CH TXT",
    ];
    for kind in kinds.iter().filter(|kind| **kind != "AXFR") {
        for name in ["api.test", "other.test"] {
            let refused = dig(here(), proxy.address, &format!("+notcp {name} {kind}")).await;
            assert_eq!(refused, told("REFUSED", &[]), "{kind} {name}");
        }
    }
    // Which services there are would lead to QUIC and to encrypted hellos.
    for kind in ["HTTPS", "SVCB"] {
        assert_eq!(
            dig(here(), proxy.address, &format!("api.test {kind}")).await,
            told("NOERROR", &[])
        );
        assert_eq!(
            dig(here(), proxy.address, &format!("other.test {kind}")).await,
            told("NXDOMAIN", &[])
        );
    }
    let records = proxy.records(24).await;
    let count = |code: &str| records.iter().filter(|one| one["code"] == code).count();
    assert_eq!(
        (count("dns_type_refused"), count("ok"), count("denied_by_policy")),
        (20, 2, 2)
    );
    let last = records.last().unwrap();
    assert_eq!(
        [
            &last["way"],
            &last["target"],
            &last["method"],
            &last["agent"],
            &last["outcome"]
        ],
        ["dns", "other.test:53", "SVCB", "default", "denied"]
    );
    let metrics = page(&proxy, "/metrics").await;
    for (answer, count) in [("refused", 20), ("answered", 2), ("denied", 2), ("malformed", 0)] {
        let line = format!("keyferry_dns_questions_total{{answer=\"{answer}\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
}

#[tokio::test]
async fn what_no_rule_allows_is_never_looked_up() {
    let names = Names::start(Says::Loopback).await;
    let rig = Rig::new(&Root::new())
        .listen("{ bind: \"127.0.0.1:0\", speak: dns }")
        .rule("host: api.test")
        .reach_as("fixed.test", "127.0.0.9:443".parse().unwrap())
        .reach_as("inside.test", "10.1.2.3:443".parse().unwrap())
        .rule("host: [fixed.test, inside.test]");
    let words = names.asked_by(rig.dir(), "timeout:1 attempts:1");
    let proxy = rig.through(&words).serve().await;
    let ask = async |question: &str| dig(here(), proxy.address, question).await;
    for name in ["other.test", "c2VjcmV0.api.test", "api.test.evil.test", "c2VjcmV0.test"] {
        for kind in ["A", "AAAA", "TXT", "HTTPS"] {
            assert_eq!(ask(&format!("{name} {kind}")).await.1, Vec::<String>::new());
        }
    }
    assert_eq!(names.asked(), Vec::<String>::new());
    assert_eq!(ask("api.test A").await, told("NOERROR", &["127.0.0.1"]));
    assert!(
        names.asked().iter().all(|name| name == "api.test."),
        "{:?}",
        names.asked()
    );
    assert_eq!(ask("fixed.test A").await, told("NOERROR", &["127.0.0.9"]));
    // Where agents may not go they need not know of.
    assert_eq!(ask("inside.test A").await, told("SERVFAIL", &[]));
    names.says(Says::Code(3));
    assert_eq!(ask("api.test A").await, told("SERVFAIL", &[]));
    let records = proxy.records(20).await;
    let codes: Vec<_> = records[16..].iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["ok", "ok", "address_refused", "upstream_unresolved"]);
}

#[tokio::test]
async fn each_agent_is_told_of_its_own_names_whatever_address_it_asks() {
    let networks = Networks::enter();
    let rig = Rig::new(&Root::new())
        .listen("{ bind: \"[::]:15053\", speak: dns, answer: [10.77.0.1, \"fd77::1\"] }")
        .config("agents: { ci: { address: [10.77.0.2, \"fd77::2\"] } }")
        .rule("host: api.test, agents: [ci]");
    let _proxy = rig.serve().await;
    let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 15053);
    // Beside the first address of the gateway, a second: a reply comes from the one that was asked.
    networks.ip("addr add 10.77.0.9/24 dev vg");
    networks.ip("addr add fd77::9/64 dev vg nodad");
    let ask = async |from: &str, at: &str, over: &str| {
        dig(
            networks.command("dig"),
            address(at),
            &format!("-b{from} {over} api.test A"),
        )
        .await
    };
    for (family, second) in [(0, "10.77.0.9"), (1, "fd77::9")] {
        for at in [GATE[family], second] {
            for over in ["+notcp", "+tcp"] {
                assert_eq!(
                    ask(AGENT[family], at, over).await,
                    told("NOERROR", &["10.77.0.1"]),
                    "{at} {over}"
                );
                assert_eq!(
                    ask(STRANGER[family], at, over).await,
                    told("REFUSED", &[]),
                    "{at} {over}"
                );
            }
        }
    }
}

/// A question for the address of `api.test`.
fn question() -> Vec<u8> {
    [
        &b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0"[..],
        b"\x03api\x04test\0\0\x01\0\x01",
    ]
    .concat()
}

#[tokio::test]
async fn who_asks_without_end_is_refused_and_others_are_answered() {
    let networks = Networks::enter();
    let rig = Rig::new(&Root::new())
        .listen("{ bind: \"0.0.0.0:15053\", speak: dns, answer: 10.77.0.1 }")
        .config("agents: { flood: { address: 127.0.0.1 }, ci: { address: 10.77.0.2 } }")
        .rule("host: api.test");
    let proxy = rig.serve().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect("127.0.0.1:15053").await.unwrap();
    let (mut refused, mut reply) = (0, [0; 512]);
    for _ in 0..5000 {
        socket.send(&question()).await.unwrap();
        let length = soon("a reply", socket.recv(&mut reply)).await.unwrap();
        assert!(length >= 12);
        refused += usize::from(reply[3] & 15 == 5);
    }
    assert!(refused > 1000, "only {refused} of 5000 questions were refused");
    let at = SocketAddr::new(GATE[0].parse().unwrap(), 15053);
    assert_eq!(
        dig(networks.command("dig"), at, "api.test A").await,
        told("NOERROR", &["10.77.0.1"])
    );
    // What was refused for that is not on record: nobody shall fill the disk with questions.
    let records = proxy.records(5000 - refused + 1).await;
    assert_eq!(records.len(), 5000 - refused + 1);
}

/// What comes back over TCP, until the resolver closes.
async fn over_tcp(proxy: &Proxy, said: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
    tcp.write_all(said).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut heard = Vec::new();
    // Bytes that nobody read turn its close into a reset.
    let _ = soon("the end", tcp.read_to_end(&mut heard)).await;
    heard
}

#[tokio::test]
async fn nonsense_is_answered_with_an_error_or_nothing_and_does_no_harm() {
    let proxy = resolver(&RULES).serve().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(proxy.address).await.unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = question();
        bytes[at] = byte;
        bytes
    };
    // Neither a reply, nor pieces, nor what is longer than any question is answered: the next one is.
    for silent in [with(2, 0x81), vec![], vec![0; 5], vec![0; 4000]] {
        socket.send(&silent).await.unwrap();
    }
    let mut reply = [0; 512];
    for (asked, code) in [
        (with(5, 9), 1),
        (with(4, 255), 1),
        (with(10, 255), 1),
        (with(2, 0x28), 4),
        (question(), 0),
    ] {
        socket.send(&asked).await.unwrap();
        soon("a reply", socket.recv(&mut reply)).await.unwrap();
        assert_eq!((&reply[..2], reply[3] & 15), (&b"\x12\x34"[..], code), "{asked:?}");
    }
    let framed = |message: &[u8]| [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat();
    let two = over_tcp(&proxy, &framed(&question()).repeat(2)).await;
    let length = usize::from(u16::from_be_bytes([two[0], two[1]]));
    assert_eq!(
        two.len(),
        2 * (length + 2),
        "two questions on one connection have two replies"
    );
    for broken in [
        vec![0],
        framed(&question())[..9].to_vec(),
        vec![0xff; 3],
        framed(&with(2, 0x81)),
    ] {
        assert_eq!(over_tcp(&proxy, &broken).await, b"", "{broken:?}");
    }
    assert_eq!(
        dig(here(), proxy.address, "api.test A").await,
        told("NOERROR", &["192.0.2.1"])
    );
}

#[tokio::test]
async fn a_port_that_is_taken_over_udp_is_told() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let rig = Rig::new(&Root::new()).listen(&format!("{{ bind: \"{address}\", speak: dns }}"));
    let (status, log) = rig.refuses().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains(&format!("{address} over UDP")) && log.contains("in use"),
        "{log}"
    );
}

#[tokio::test]
async fn names_are_known_while_a_new_process_takes_over_and_afterwards() {
    let (_origin, rig) = ground().await;
    let rig = rig.listen("{ bind: \"127.0.0.1:0\", speak: dns, answer: 192.0.2.1 }");
    let mut proxy = rig.serve().await;
    let (followers, address) = (Followers::default(), proxy.address);
    let asking = tokio::spawn(async move {
        for at in 0..60 {
            let over = if at % 2 == 0 { "+notcp" } else { "+tcp" };
            // What the old process had not read is asked for again, as every client does.
            let answer = dig(here(), address, &format!("{over} +tries=3 +time=2 api.test A")).await;
            assert_eq!(answer, told("NOERROR", &["192.0.2.1"]));
        }
    });
    followers.next(&proxy).await;
    assert!(proxy.child.ended().await.success(), "{}", proxy.child.log());
    asking.await.unwrap();
    let answer = dig(here(), address, "+notcp api.test A").await;
    assert_eq!(answer, told("NOERROR", &["192.0.2.1"]));
}

#[tokio::test]
async fn the_page_about_the_resolver_works_as_it_stands() {
    let networks = Networks::enter();
    let rig = Rig::new(&Root::new())
        .listen(&pages::entry("dns.md", "listen"))
        .config(&pages::line("dns.md", "agents:"))
        .rule(pages::entry("dns.md", "rules").trim_matches(['{', '}']));
    let proxy = rig.serve().await;
    // The commands are the agent's, and so run in its network.
    let inside = networks.shell("dig");
    let printed = pages::run("dns.md", &proxy, &[("dig", &inside)], &[]).await;
    assert_eq!(printed[0], "10.77.0.1\n");
    assert!(
        printed[1].contains("status: NXDOMAIN") && printed[2].contains("status: REFUSED"),
        "{printed:?}"
    );
}
