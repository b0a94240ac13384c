//! Fields of one hop, fields written in other ways, and fields sent twice: the credential arrives once, and what the
//! agent is known by stays here.

use super::frames::Frames;
use super::witness::{Request, Witness};
use super::{KEY, kept};
use crate::rig::agent::{Raw, content_length, status};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use tokio::io::{AsyncRead, AsyncWrite};

const TOKEN: &str = "agent-token-1b2c3d4e5f";

async fn before(inject: &str) -> (Witness, Proxy) {
    let root = Root::new();
    let api = Witness::start(&root, "api.test").await;
    let plain = Witness::plain().await;
    let proxy = Rig::new(&root)
        .reach_as("api.test", api.address)
        .reach_as("plain.test", plain.address)
        .secret("API_KEY", KEY)
        .rule(&format!("host: api.test, inject: [{inject}]"))
        .serve()
        .await;
    (api, proxy)
}

async fn answer<I: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<I>) -> u16 {
    let head = raw.head().await;
    raw.bytes(content_length(&head)).await;
    status(&head)
}

/// Sends these field lines over HTTP/1.1 in one request; what arrived.
async fn sent(api: &Witness, proxy: &Proxy, target: &str, lines: &str) -> Request {
    let before = api.requests().len();
    let mut raw = proxy.agent.raw("api.test").await;
    raw.say(format!(
        "POST {target} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n{lines}\r\nabc"
    ))
    .await;
    assert_eq!(answer(&mut raw).await, 200, "{lines}");
    let mut came = api.requests();
    assert_eq!((came.len(), api.broken()), (before + 1, vec![]), "{lines}");
    came.pop().unwrap()
}

/// How often the credential stands in what arrived, and whether nothing else stands in fields like its own.
fn given(request: &Request, name: &str) -> usize {
    let like = |n: &str| n.replace('_', "-").eq_ignore_ascii_case(name);
    let fields: Vec<_> = request.fields.iter().filter(|(n, _)| like(n)).collect();
    let credential = format!("{request:?}").matches(KEY).count();
    assert_eq!(fields.len(), credential, "{request:#?}");
    credential
}

#[tokio::test]
async fn no_field_named_for_one_hop_takes_the_credential_with_it() {
    for (inject, name) in [
        ("{ bearer: api_key }", "authorization"),
        ("{ header: x-api-key, value: \"${api_key}\" }", "x-api-key"),
    ] {
        let (api, proxy) = before(inject).await;
        for lines in [
            "Connection: authorization, x-api-key\r\n",
            "Connection: AUTHORIZATION\r\nConnection: X-Api-Key, close\r\n",
            "Connection: keep-alive, x-api-key , authorization ;\r\n",
            "Connection: x_api_key\r\n",
            "Connection: host, content-length, content-type, cookie\r\n",
            "Connection: te, trailer, transfer-encoding\r\nTE: trailers\r\n",
            "Connection: \"x-api-key\", \0x01\r\n",
            "Proxy-Connection: authorization, x-api-key\r\n",
            "Keep-Alive: authorization, x-api-key\r\n",
            "Upgrade: authorization\r\nConnection: upgrade, x-api-key\r\n",
            "TE: trailers, authorization\r\n",
            "Trailer: authorization, x-api-key\r\n",
            "Expect: authorization\r\n",
        ] {
            if lines.contains('\0') {
                continue;
            }
            let seen = sent(&api, &proxy, "/m", lines).await;
            assert_eq!(given(&seen, name), 1, "{lines}: {seen:#?}");
            assert_eq!(
                (seen.all("host"), seen.body.as_slice()),
                (vec!["api.test"], &b"abc"[..])
            );
            for gone in ["proxy-connection", "keep-alive", "upgrade"] {
                assert!(seen.all(gone).is_empty(), "{lines}: {seen:#?}");
            }
        }
        kept(&proxy, &[]);
    }
}

#[tokio::test]
async fn every_copy_and_alias_of_an_injected_field_is_gone() {
    for (inject, name) in [
        ("{ bearer: api_key }", "authorization"),
        ("{ basic: { user: u, password: api_key } }", "authorization"),
        ("{ header: x-api-key, value: \"${api_key}\" }", "x-api-key"),
        ("{ header: x-api-key, value: \"a ${api_key} b\" }", "x-api-key"),
    ] {
        let (api, proxy) = before(inject).await;
        for lines in [
            "Authorization: theirs\r\nX-Api-Key: theirs\r\n",
            "authorization: theirs\r\nAUTHORIZATION: theirs\r\naUtHoRiZaTiOn: theirs\r\n",
            "x-api-key: theirs\r\nX-API-KEY: theirs\r\nX-Api-Key: theirs\r\n",
            "X_Api_Key: theirs\r\nx_api-key: theirs\r\nX-API_KEY: theirs\r\n",
            "Authorization:\r\nX-Api-Key:\r\n",
            "Authorization: Basic dGhlaXJzOnRoZWlycw==\r\nAuthorization: Bearer theirs\r\nX-Api-Key: a, b\r\n",
        ] {
            let seen = sent(&api, &proxy, "/m", lines).await;
            let like = |n: &str| n.replace('_', "-").eq_ignore_ascii_case(name);
            let values: Vec<_> = seen.fields.iter().filter(|(n, _)| like(n)).map(|(_, v)| v).collect();
            assert_eq!(values.len(), 1, "{inject}, {lines}: {seen:#?}");
            assert!(!values[0].contains("theirs"), "{inject}, {lines}: {seen:#?}");
        }
        let mut frames = Frames::greet(proxy.agent.tls("api.test", &["h2"]).await).await;
        let list = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "api.test"),
            (":path", "/h2"),
            ("authorization", "theirs"),
            ("authorization", "theirs too"),
            ("x-api-key", "theirs"),
            ("x_api_key", "theirs"),
        ];
        frames.head(1, &list, true).await;
        assert_eq!(frames.outcome(1).await.status(), 200);
        let seen = api.requests().pop().unwrap();
        assert_eq!((seen.target.as_str(), seen.all(name).len()), ("/h2", 1));
        assert!(!seen.all(name)[0].contains("theirs"), "{seen:#?}");
        kept(&proxy, &[&frames.heard]);
    }
}

#[tokio::test]
async fn every_copy_of_an_injected_query_parameter_is_gone() {
    let (api, proxy) = before("{ query: key, value: \"${api_key}\" }").await;
    for target in [
        "/m",
        "/m?",
        "/m?key=theirs",
        "/m?key=theirs&key=theirs&key",
        "/m?a=1&k%65y=theirs&%6b%65%79=theirs",
        "/m?key=theirs#key=theirs",
        "/m?&&key=&",
    ] {
        let seen = sent(&api, &proxy, target, "").await;
        let credential = seen.target.matches(KEY).count();
        assert!(
            credential == 1 && !seen.target.contains("theirs"),
            "{target}: {}",
            seen.target
        );
        assert!(seen.target.starts_with("/m?"), "{}", seen.target);
    }
    kept(&proxy, &[]);
}

#[tokio::test]
async fn what_the_agent_is_known_by_goes_no_further() {
    let root = Root::new();
    let api = Witness::start(&root, "api.test").await;
    let plain = Witness::plain().await;
    let mut proxy = Rig::new(&root)
        .reach_as("api.test", api.address)
        .reach_as("plain.test", plain.address)
        .secret("API_KEY", KEY)
        .secret("TOKEN", TOKEN)
        .config("agents: { ci: { token: token } }")
        .rule("host: api.test, inject: [{ bearer: api_key }]")
        .rule("host: plain.test")
        .serve()
        .await;
    proxy.agent.offer = Some(format!("Bearer {TOKEN}"));
    let offer = format!("Proxy-Authorization: Bearer {TOKEN}\r\nPROXY-AUTHORIZATION: Basic x\r\n");
    // It was taken for the tunnel; inside it, it is one field too many.
    for lines in [offer.clone(), format!("{offer}Connection: proxy-authorization\r\n")] {
        let seen = sent(&api, &proxy, "/m", &lines).await;
        assert_eq!(given(&seen, "authorization"), 1);
    }
    let mut raw = proxy.agent.dial().await;
    let once = format!("PROXY-AUTHORIZATION: Bearer {TOKEN}\r\n");
    // Who offers two things at once offers nothing that counts.
    for (offer, code) in [(&once, 200), (&offer, 407), (&once, 200)] {
        let head = "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nProxy-Connection: keep-alive\r\n";
        raw.say(format!("{head}{offer}\r\n")).await;
        assert_eq!(answer(&mut raw).await, code, "{offer}");
    }
    let mut frames = Frames::greet(proxy.agent.tls("api.test", &["h2"]).await).await;
    let bearer = format!("Bearer {TOKEN}");
    let list = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "api.test"),
        (":path", "/"),
        ("proxy-authorization", &bearer),
    ];
    frames.head(1, &list, true).await;
    assert_eq!(frames.outcome(1).await.status(), 200);
    for heard in [api.bytes(), plain.bytes()] {
        let heard = String::from_utf8_lossy(&heard).to_lowercase();
        assert!(!heard.contains(TOKEN) && !heard.contains("proxy-"), "{heard}");
    }
    assert!(!proxy.child.log().contains(TOKEN));
    assert!(
        !proxy
            .rig
            .audit()
            .iter()
            .any(|record| record.to_string().contains(TOKEN))
    );
}

#[tokio::test]
async fn an_unknown_agent_is_refused_on_every_way_in_and_on_every_request() {
    let root = Root::new();
    let api = Witness::start(&root, "api.test").await;
    let plain = Witness::plain().await;
    let proxy = Rig::new(&root)
        .reach_as("api.test", api.address)
        .reach_as("plain.test", plain.address)
        .secret("TOKEN", TOKEN)
        .config("agents: { ci: { token: token } }")
        .rule("host: api.test")
        .rule("host: plain.test")
        .serve()
        .await;
    for offer in [
        String::new(),
        "Proxy-Authorization: Bearer wrong\r\n".to_owned(),
        "Proxy-Authorization: Basic wrong\r\n".to_owned(),
        "Proxy-Authorization: Bearer\r\n".to_owned(),
        format!("Proxy-Authorization: {TOKEN}\r\n"),
        format!("Proxy-Authorization: Bearer {TOKEN}x\r\n"),
        format!("Proxy-Authorization: Bearer {}\r\n", &TOKEN[1..]),
        format!("Proxy-Authorization: Digest {TOKEN}\r\n"),
        format!("Authorization: Bearer {TOKEN}\r\n"),
        format!("Proxy-Authorization: Bearer wrong\r\nProxy-Authorization: Bearer {TOKEN}\r\n"),
    ] {
        let mut raw = proxy.agent.dial().await;
        for head in [
            "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n",
            "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n",
            "POST http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 0\r\n",
        ] {
            raw.say(format!("{head}{offer}\r\n")).await;
            assert_eq!(answer(&mut raw).await, 407, "{head}{offer}");
        }
    }
    // Known once is not known for good.
    let mut raw = proxy.agent.dial().await;
    let head = "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n";
    for (offer, code) in [(true, 200), (false, 407), (true, 200), (false, 407)] {
        let offer = if offer {
            format!("Proxy-Authorization: Bearer {TOKEN}\r\n")
        } else {
            String::new()
        };
        raw.say(format!("{head}{offer}\r\n")).await;
        assert_eq!(answer(&mut raw).await, code);
    }
    assert_eq!((api.connections(), plain.requests().len()), (0, 2));
}
