//! Addresses that are not for agents, however they are written and however they are asked for.

use super::witness::Witness;
use crate::rig::agent::{Agent, Raw, content_length, status};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;

/// One of each kind, and the spellings that a resolver or a careless parser takes for loopback.
const SPECIAL: &[&str] = &[
    "0.0.0.0",
    "10.0.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.0.9",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::1]",
    "[2001:0:7f00:1::]",
    "[2002:7f00:1::]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    // Spellings of 127.0.0.1 and of the metadata address.
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "2852039166",
    "0xa9.0xfe.0xa9.0xfe",
    "localhost",
    "LOCALHOST.",
    // Names whose only answers are such addresses.
    "loop.test",
    "meta.test",
    "mapped.test",
];

/// What came of a request inside a granted CONNECT, in the clear; or of the CONNECT itself.
async fn through(agent: &Agent, target: &str) -> (u16, String) {
    let (granted, head, mut raw) = agent.connect(target).await;
    if granted != 200 {
        return told(head, &mut raw).await;
    }
    raw.say(format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    told(raw.head().await, &mut raw).await
}

async fn told(head: String, raw: &mut Raw<tokio::net::TcpStream>) -> (u16, String) {
    raw.bytes(content_length(&head)).await;
    let code = head.lines().find_map(|line| line.strip_prefix("x-keyferry-error: "));
    (status(&head), code.unwrap_or("nothing of ours").to_owned())
}

#[tokio::test]
async fn no_special_address_is_dialled_however_it_is_written_or_asked_for() {
    let root = Root::new();
    let witness = Witness::plain().await;
    let port = witness.address.port();
    for tunnel in [false, true] {
        let proxy = Rig::new(&root)
            .allow_networks("")
            .reach_as("loop.test", witness.address)
            .reach_as("meta.test", "169.254.169.254:80".parse().unwrap())
            .reach_as("mapped.test", format!("[::ffff:127.0.0.1]:{port}").parse().unwrap())
            .rule(&format!("host: \"*:{port}\", tunnel: {tunnel}"))
            .serve()
            .await;
        for host in SPECIAL {
            let target = format!("{host}:{port}");
            let mut outcomes = vec![through(&proxy.agent, &target).await];
            if !tunnel {
                let mut raw = proxy.agent.dial().await;
                raw.say(format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n"))
                    .await;
                outcomes.push(told(raw.head().await, &mut raw).await);
            }
            for outcome in outcomes {
                assert_eq!(
                    outcome,
                    (403, "address_refused".to_owned()),
                    "{target}, tunnel: {tunnel}"
                );
            }
        }
    }
    assert_eq!(witness.connections(), 0);
}
