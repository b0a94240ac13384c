//! The operator's listener is out of agents' reach, however they spell where it is and whatever the rules allow.

use crate::rig::agent::{content_length, status};
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use std::net::{SocketAddr, TcpListener};

/// Everything that leads to a listener on this machine, or looks so.
fn spellings() -> Vec<String> {
    let mut all: Vec<String> = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "127.0.0.2",
        "0.0.0.0",
        "0",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:0.0.0.0]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ops.test",
        "unspecified.test",
    ]
    .map(str::to_owned)
    .into();
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    all.push(own.trim().to_owned());
    // Addresses of this machine beside loopback, as a packet to elsewhere would leave from.
    let outward = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if outward.connect("192.0.2.1:9").is_ok() {
        all.push(outward.local_addr().unwrap().ip().to_string());
    }
    all
}

/// Tries every spelling in every form; nothing may come of any.
async fn unreachable(bind: &str) {
    let root = Root::new();
    let free = TcpListener::bind(bind.replace("PORT", "0"))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let bind: SocketAddr = bind.replace("PORT", &free.to_string()).parse().unwrap();
    let proxy = Rig::new(&root)
        .reach_as("ops.test", format!("127.0.0.1:{free}").parse().unwrap())
        .reach_as("unspecified.test", format!("0.0.0.0:{free}").parse().unwrap())
        .allow_networks("0.0.0.0/0, \"::/0\"")
        .secret("ADMIN_TOKEN", "admin-token-5e6f7a8b")
        .config(
            "admin: { bind: \"ADMIN\", token: admin_token }"
                .replace("ADMIN", &bind.to_string())
                .as_str(),
        )
        .config("limits: { connect_time: 2s }")
        // The widest rules there can be.
        .rule(&format!("host: \"ops.test:{free}\", tunnel: true"))
        .rule(&format!("host: [\"*:{free}\", \"localhost:{free}\", ops.test]"))
        .serve()
        .await;
    let mut refused = 0;
    for host in spellings() {
        let mut forms = vec![format!(
            "GET http://{host}:{free}/metrics HTTP/1.1\r\nHost: {host}:{free}\r\n\r\n"
        )];
        forms.push(format!("CONNECT {host}:{free} HTTP/1.1\r\nHost: {host}:{free}\r\n\r\n"));
        for form in forms {
            let mut raw = proxy.agent.dial().await;
            raw.say(&form).await;
            let mut head = raw.head().await;
            if form.starts_with("CONNECT") && status(&head) == 200 {
                // Intercepted: what is inside is judged and dialled by itself.
                raw.say(format!("GET /metrics HTTP/1.1\r\nHost: {host}:{free}\r\n\r\n"))
                    .await;
                head = raw.head().await;
            }
            let body = raw.bytes(content_length(&head)).await;
            let said = format!("{head}{}", String::from_utf8_lossy(&body));
            assert!(
                status(&head) >= 400 && !said.contains("keyferry_build_info"),
                "{form}: {said}"
            );
            let lower = head.to_lowercase();
            assert!(
                lower.contains("x-keyferry-error: "),
                "the answer is not ours: {form}: {said}"
            );
            refused += usize::from(lower.contains("x-keyferry-error: loop_detected"));
        }
    }
    assert!(refused >= 20, "only {refused} led there at all");
    // It is there all the same, for the operator.
    let mut raw = crate::rig::agent::Raw::new(tokio::net::TcpStream::connect(("127.0.0.1", free)).await.unwrap());
    raw.say("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer admin-token-5e6f7a8b\r\nConnection: close\r\n\r\n").await;
    let (said, _) = raw.rest().await;
    assert!(String::from_utf8_lossy(&said).contains("keyferry_build_info"));
}

#[tokio::test]
async fn the_admin_listener_on_loopback_cannot_be_reached_through_the_proxy() {
    unreachable("127.0.0.1:PORT").await;
}

#[tokio::test]
async fn the_admin_listener_on_every_address_cannot_be_reached_through_the_proxy() {
    unreachable("0.0.0.0:PORT").await;
    unreachable("[::]:PORT").await;
}
