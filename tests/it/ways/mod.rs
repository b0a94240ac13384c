//! Every way in, held to one table: [`table`] says what is promised, a [`Way`] how an agent comes in. A further way
//! needs a `Way` of its own and `tables!(name: ThatWay);`.

mod balancer;
mod bridge;
mod connect;
mod dns;
mod gateway;
mod hellos;
pub mod pages;
mod parented;
mod socks;
mod table;
mod transparent;
mod vsock;

use crate::rig::agent::{Http, Raw, status};
use crate::rig::netns::Networks;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use tokio::io::{AsyncRead, AsyncWrite};

/// What only Keyferry holds.
pub const KEY: &str = "sk-live-0a1b2c3d4e5f";
/// What the agent `ci` shows where the way lets it show something.
pub const TOKEN: &str = "agent-token-91b2c3";

/// How an agent comes in.
pub trait Way: Sized {
    /// What records call it.
    const NAME: &'static str;
    /// How it tells that no rule allows the host: what [`http`](Self::http) fails with, or the status and code of
    /// the first answer.
    const DENIED: &'static str;

    /// Networks of its own, entered before anything is started, if it needs some.
    fn enter() -> Option<Networks> {
        None
    }

    /// Adds its listener and the agent `ci` to a rig that has rules and secrets, and serves.
    async fn start(rig: Rig, networks: Option<Networks>) -> Self;

    fn proxy(&self) -> &Proxy;

    /// An HTTP connection that leads to port 443 of `host`, as the agent `ci`.
    async fn http(&self, host: &str, http2: bool) -> Result<Http, String>;

    /// The same as somebody nobody knows; how it is told that it may not.
    async fn stranger(&self) -> String;

    /// What the agent asks for to get `path` of `host`.
    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}{path}")
    }

    /// The same for a host that the connection does not lead to.
    fn elsewhere(&self, url: &str) -> String {
        url.replace("api.test", "other.test")
    }
}

/// Asks for a tunnel to port 443 of `host` on a connection that is open; the tunnel, or status and code.
pub async fn connect<I>(io: I, host: &str, offer: Option<&str>) -> Result<I, String>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut raw = Raw::new(io);
    let offer = offer.map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
    raw.say(format!(
        "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{offer}\r\n"
    ))
    .await;
    let head = raw.head().await;
    if status(&head) == 200 {
        return Ok(raw.io);
    }
    let code = head.lines().find_map(|line| line.strip_prefix("x-keyferry-error: "));
    Err(format!("{} {}", status(&head), code.unwrap_or_default()))
}

/// Keyferry on a unix socket, where the agent `ci` is this process' user, and on TCP, where it is nobody.
pub async fn on_a_unix_socket(rig: Rig) -> Proxy {
    let uid = rustix::process::getuid().as_raw();
    let listen = format!(
        "127.0.0.1:0, {{ bind: \"unix:{}/p.sock\", mode: \"0600\" }}",
        rig.dir().display()
    );
    let agents = format!("agents: {{ ci: {{ peer_uid: {uid} }} }}");
    rig.listen(&listen).config(&agents).serve().await
}

/// A way that is open, with a host that a rule allows to `ci` and one that no rule speaks of.
pub struct Ground<W> {
    pub way: W,
    pub api: Origin,
    pub other: Origin,
}

impl<W: Way> Ground<W> {
    pub async fn start() -> Self {
        let networks = W::enter();
        let root = Root::new();
        let (api, other) = (
            Origin::start(&root, "api.test").await,
            Origin::start(&root, "other.test").await,
        );
        let rig = Rig::new(&root)
            .reach(&api)
            .reach(&other)
            .secret("API_KEY", KEY)
            .secret("CI_TOKEN", TOKEN)
            .rule(
                "name: api, host: api.test, gateway: /api, agents: [ci], allow: [\"* /**\"], \
                 inject: [{ header: x-api-key, value: \"${api_key}\" }]",
            )
            .rule("name: shut, host: shut.test, deny: not this one");
        Self {
            way: W::start(rig, networks).await,
            api,
            other,
        }
    }

    /// A connection to the allowed host.
    pub async fn http(&self, http2: bool) -> Http {
        let way = self.way.http("api.test", http2).await;
        way.unwrap_or_else(|refusal| panic!("no way to api.test: {refusal}"))
    }

    pub fn url(&self, path: &str) -> String {
        self.way.url("api.test", path)
    }
}
