//! Base URLs: clients that take one and no proxy.

use super::table::{tables, told};
use super::{KEY, TOKEN, Way, pages};
use crate::clients::basic;
use crate::rig::agent::{Http, Raw, get, status};
use crate::rig::origin::{Origin, Received, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{routes, soon};
use http::{HeaderName, HeaderValue, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};

const LISTEN: &str = "{ bind: \"127.0.0.1:0\", speak: gateway }";

struct ByUrl<const TLS: bool>(Proxy);

impl<const TLS: bool> ByUrl<TLS> {
    async fn open(&self, from: [u8; 4], http2: bool) -> Http {
        let tcp = dial_from(from, self.0.address).await;
        if TLS {
            let alpn: &[&str] = if http2 { &["h2"] } else { &["http/1.1"] };
            let tls = self.0.agent.handshake(tcp, "127.0.0.1", alpn).await.unwrap();
            return if http2 {
                Http::two(tls).await
            } else {
                Http::one(tls).await
            };
        }
        if http2 {
            Http::two(tcp).await
        } else {
            Http::one(tcp).await
        }
    }
}

/// A connection from another loopback address, which is another agent.
pub async fn dial_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

impl<const TLS: bool> Way for ByUrl<TLS> {
    const NAME: &'static str = "gateway";
    const DENIED: &'static str = "403 denied_by_policy";

    async fn start(rig: Rig, _: Option<crate::rig::netns::Networks>) -> Self {
        let rig = rig.config("agents: { ci: { address: 127.0.0.2 } }");
        let listen = format!("{{ bind: \"127.0.0.1:0\", speak: gateway, tls: {TLS} }}");
        Self(rig.listen(&listen).serve().await)
    }

    fn proxy(&self) -> &Proxy {
        &self.0
    }

    async fn http(&self, _: &str, http2: bool) -> Result<Http, String> {
        Ok(self.open([127, 0, 0, 2], http2).await)
    }

    async fn stranger(&self) -> String {
        let mut http = self.open([127, 0, 0, 1], false).await;
        told(&http.reply(get(&self.url("api.test", "/"))).await)
    }

    fn url(&self, host: &str, path: &str) -> String {
        let prefix = host.trim_end_matches(".test");
        let scheme = if TLS { "https" } else { "http" };
        format!("{scheme}://{}/{prefix}{path}", self.0.address)
    }

    fn elsewhere(&self, url: &str) -> String {
        url.replace(&self.0.address.to_string(), "other.test")
    }
}

tables!(plain: ByUrl<false>, tls: ByUrl<true>);

/// A gateway to `api.test`, with a credential, and to `open.test`, without.
async fn ground(more: &str) -> (Origin, Origin, Proxy) {
    let root = Root::new();
    let (api, open) = (
        Origin::start(&root, "api.test").await,
        Origin::start(&root, "open.test").await,
    );
    let rig = Rig::new(&root)
        .reach(&api)
        .reach(&open)
        .secret("API_KEY", KEY)
        .secret("CI_TOKEN", TOKEN)
        .config(more)
        .rule("host: api.test, gateway: /api, inject: [{ header: x-api-key, value: \"${api_key}\" }]")
        .rule("host: open.test, gateway: /open/deep");
    (api, open, rig.listen(LISTEN).serve().await)
}

#[tokio::test]
async fn a_token_where_the_upstreams_key_would_be_tells_who_asks_and_goes_no_further() {
    let (api, open, proxy) = ground("agents: { ci: { token: ci_token } }").await;
    let bearer = format!("Bearer {TOKEN}");
    let login = basic("ci", TOKEN);
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("authorization", &login),
        ("x-api-key", TOKEN),
        ("api-key", TOKEN),
        ("x-goog-api-key", TOKEN),
        ("proxy-authorization", &login),
    ] {
        for prefix in ["api", "open/deep"] {
            let mut http = Http::one(proxy.agent.dial().await.io).await;
            let mut ask = get(&format!("http://{}/{prefix}/hello", proxy.address));
            let name: HeaderName = name.parse().unwrap();
            ask.headers_mut()
                .insert(name.clone(), HeaderValue::from_str(value).unwrap());
            assert_eq!(http.reply(ask).await.text(), "hello", "{name}");
        }
        let clean = |one: &Received| !format!("{:?}", one.headers).contains(&TOKEN[4..]);
        assert!(open.seen().iter().all(clean) && api.seen().iter().all(clean), "{name}");
    }
    assert!(api.seen().iter().all(|one| one.all("x-api-key") == [KEY]));
    let mut http = Http::one(proxy.agent.dial().await.io).await;
    let mut ask = get(&format!("http://{}/api/hello", proxy.address));
    ask.headers_mut().insert("x-api-key", HeaderValue::from_static("wrong"));
    assert_eq!(told(&http.reply(ask).await), "407 agent_unknown");
    let ask = get(&format!("http://{}/nowhere", proxy.address));
    assert_eq!(
        told(&http.reply(ask).await),
        "407 agent_unknown",
        "a stranger learns no prefix"
    );
}

#[tokio::test]
async fn a_path_cannot_leave_its_prefix_and_a_strange_host_is_refused() {
    let (api, open, proxy) = ground("").await;
    let cases = [
        ("/api/../open/deep/x", "localhost", "403", "ambiguous_path"),
        ("/api/%2e%2e/open/deep/x", "localhost", "403", "ambiguous_path"),
        ("/api/..%2fopen/deep/x", "localhost", "403", "ambiguous_path"),
        ("//api/x", "localhost", "403", "ambiguous_path"),
        ("/%61pi/x", "localhost", "403", "denied_by_policy"),
        ("/open/x", "localhost", "403", "denied_by_policy"),
        ("/api/x", "evil.example", "421", "misdirected_request"),
        (
            "http://evil.example/api/x",
            "evil.example",
            "421",
            "misdirected_request",
        ),
        ("http://evil.example/api/x", "localhost", "400", "malformed_request"),
    ];
    for (at, (path, host, expected, code)) in cases.into_iter().enumerate() {
        let mut raw = proxy.agent.dial().await;
        raw.say(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let head = raw.head().await;
        assert_eq!(status(&head).to_string(), expected, "{path} {host}: {head}");
        drop(raw);
        let record = proxy.records(at + 1).await.remove(at);
        assert_eq!(
            (&record["code"], &record["way"]),
            (&code.into(), &"gateway".into()),
            "{path}: {record:#}"
        );
    }
    assert_eq!((api.connections(), open.connections()), (0, 0));
}

#[tokio::test]
async fn an_upstream_is_found_by_its_host_too() {
    let (api, _, proxy) = ground("").await;
    let mut raw = proxy.agent.dial().await;
    raw.say("GET /api/v1 HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    assert_eq!(status(&raw.head().await), 200);
    let seen = api.only();
    assert_eq!(
        (seen.target.as_str(), seen.all("x-api-key")),
        ("/api/v1", vec![KEY.into()])
    );
}

#[tokio::test]
async fn redirects_and_cookies_lead_the_client_back_to_the_gateway() {
    let root = Root::new();
    let service = |_, _| -> crate::rig::origin::Answer {
        Box::pin(async {
            let moved = routes::with(
                routes::empty(StatusCode::FOUND),
                "location",
                "https://api.test/next?x=1",
            );
            routes::with(moved, "set-cookie", "sid=1; Domain=api.test; Path=/; Secure; HttpOnly")
        })
    };
    let api = Origin::with(&root, "api.test", Speaks::Both, Arc::new(service)).await;
    let rig = Rig::new(&root).reach(&api).rule("host: api.test, gateway: /api");
    let proxy = rig.listen(LISTEN).serve().await;
    for http2 in [false, true] {
        let tcp = proxy.agent.dial().await.io;
        let mut http = if http2 {
            Http::two(tcp).await
        } else {
            Http::one(tcp).await
        };
        let reply = http.reply(get(&format!("http://{}/api/login", proxy.address))).await;
        assert_eq!(reply.header("location"), "/api/next?x=1");
        assert_eq!(reply.header("set-cookie"), "sid=1; HttpOnly; Path=/api");
    }
}

#[tokio::test]
async fn what_is_no_http_costs_no_more_than_its_time() {
    let (_, _, proxy) = ground("limits: { head_time: 300ms }").await;
    for said in [&b""[..], b"GE", b"\x16\x03\x01\x02\x00junk", b"\x05\x01\x00", b"\0"] {
        let mut raw: Raw<TcpStream> = proxy.agent.dial().await;
        raw.say(said).await;
        raw.rest().await;
    }
}

#[tokio::test]
async fn curl_under_run_gets_base_urls_and_uses_no_proxy() {
    let root = Root::new();
    let api = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root)
        .reach(&api)
        .secret("API_KEY", KEY)
        .rule(
            "host: api.test, gateway: /api, base_url: [API_BASE_URL, API_V1_URL=/v1], \
             inject: [{ header: x-api-key, value: \"${api_key}\" }]",
        )
        .flag("--gateway");
    let script = "curl -sS --noproxy '*' \"$API_BASE_URL/one\" \"$API_V1_URL/two\"";
    let ran = rig.run(&["/bin/sh", "-c", script]).await.ok();
    assert!(
        ran.env["API_V1_URL"].ends_with("/api/v1"),
        "{:?}",
        ran.env["API_V1_URL"]
    );
    let paths: Vec<_> = api.seen().into_iter().map(|one| one.target).collect();
    assert_eq!(paths, ["/one", "/v1/two"]);
    assert!(
        rig.audit().iter().all(|one| one["way"] == "gateway"),
        "{:#?}",
        rig.audit()
    );
}

#[tokio::test]
async fn the_commands_on_the_page_about_base_urls_work() {
    let root = Root::new();
    let github = Origin::start(&root, "api.github.com").await;
    let listen = pages::entry("gateway.md", "listen").replace("127.0.0.1:8081", "\"127.0.0.1:0\"");
    let rule = pages::entry("gateway.md", "rules");
    let rule = rule.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
    let rig = Rig::new(&root)
        .reach(&github)
        .listen(&listen)
        .env("GITHUB_TOKEN", KEY)
        .config(&pages::line("gateway.md", "secrets:"))
        .rule(rule);
    let proxy = rig.serve().await;
    let at = proxy.address.to_string();
    let swapped = [("127.0.0.1:8081", at.as_str())];
    let printed = pages::run("gateway.md", &proxy, &swapped, &[("GITHUB_TOKEN", KEY)]).await;
    assert_eq!(printed.len(), 3);
    assert!(printed.iter().all(|text| text.contains("\"/zen\"")), "{printed:?}");
    let bearer = format!("Bearer {KEY}");
    assert!(
        github
            .seen()
            .iter()
            .all(|one| one.all("authorization") == [bearer.as_str()])
    );
}
