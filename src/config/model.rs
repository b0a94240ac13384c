//! The configuration as meant. It cannot hold nonsense: every name is resolved to an id, and a
//! tunnelled rule has no place for an injector.

pub use super::agent::{AgentSpec, CertificateName, CertificateProof, Proof};
use super::hmac::Hmac;
use super::kept::Kept;
use super::mint::{Mint, Uses};
use super::parent::{Except, Parent, Via};
use super::program::Program;
use crate::base::ask::Scheme;
use crate::base::glob::{Allow, HostPattern};
use crate::base::host::{Host, Target};
use crate::base::ids::{AgentId, SecretId};
use crate::base::template::Template;
use http::HeaderName;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where agents connect; never empty for `serve`.
    pub listen: Vec<Listen>,
    /// The operator's listener, if any.
    pub admin: Option<Admin>,
    /// Where the CA comes from.
    pub ca: CaSource,
    /// The way out.
    pub upstream: Upstream,
    /// Where each secret lives; a [`SecretId`] is a position here.
    pub secrets: Vec<SecretSpec>,
    /// Who may ask; an [`AgentId`] is a position here. Never empty: with none configured there is
    /// one, `default`, that needs to show nothing.
    pub agents: Vec<AgentSpec>,
    /// First match wins; a [`crate::base::ids::RuleId`] is a position here.
    pub rules: Vec<Rule>,
    /// Where records go.
    pub audit: AuditSpec,
    /// Caps and deadlines.
    pub limits: Limits,
}

/// One socket agents connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub bind: Bind,
    /// What is spoken there.
    pub speak: Speak,
    /// Whether the socket itself is TLS (an HTTPS proxy).
    pub tls: bool,
    /// Permission bits of a unix socket.
    pub mode: Option<u32>,
    /// Networks whose balancers tell who is behind them, in a PROXY header that is then due.
    pub proxy_protocol: Vec<IpNet>,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// `127.0.0.1:8080`; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// `unix:/run/keyferry/proxy.sock`.
    Unix(PathBuf),
    /// `vsock:8080`: that port, for every virtual machine on this host.
    Vsock(u32),
    /// `systemd:NAME`: whatever socket the service manager passes under that name.
    Passed(String),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock(port) => write!(f, "vsock:{port}"),
            Self::Passed(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// What a listener speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speak {
    /// HTTP proxying: CONNECT and absolute-form, HTTP/1.1 and HTTP/2; and SOCKS5 by its first byte.
    Proxy,
    /// SOCKS5 alone.
    Socks,
    /// Whatever was redirected there: TLS by the name in its hello, plain HTTP by its `Host`.
    Transparent {
        /// How the original address is learnt.
        redirect: Redirect,
        /// The target where a hello names no host.
        default: Option<Target>,
    },
    /// Plain requests below the base URL of an upstream.
    Gateway {
        /// Hosts it is called by, beside addresses and names of one label.
        names: Arc<[Host]>,
    },
    /// DNS, over UDP and TCP: addresses of what the rules allow.
    Dns {
        /// What every allowed name has for addresses; with none, each has its own.
        answer: Arc<[IpAddr]>,
    },
}

/// How the firewall brings connections to a transparent listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirect {
    /// `REDIRECT`: the address is translated, and the kernel remembers the original (`SO_ORIGINAL_DST`).
    Nat,
    /// `TPROXY`: the address is left as it is (`IP_TRANSPARENT`).
    Tproxy,
}

impl Speak {
    /// As the config names it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Socks => "socks",
            Self::Transparent { .. } => "transparent",
            Self::Gateway { .. } => "gateway",
            Self::Dns { .. } => "dns",
        }
    }
}

/// The operator's listener: metrics, health, status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub bind: Bind,
    /// The bearer token it wants; without one, only a loopback or unix address is allowed.
    pub token: Option<SecretId>,
}

/// Where the CA comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaSource {
    /// Made on first use in this directory, kept there.
    Dir(PathBuf),
    /// Made at start, never written.
    Memory,
    /// The user's own: PEM certificate (chain allowed, issuing certificate first) and key.
    Own {
        /// Certificate chain, issuing certificate first.
        certificate: PathBuf,
        /// Private key of the issuing certificate.
        key: PathBuf,
    },
}

/// The way out.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// Whether the system's roots are trusted (the default).
    pub system_roots: bool,
    /// Further roots, PEM files.
    pub roots: Vec<PathBuf>,
    /// Fixed answers for names: the address dialled, and the port if it differs.
    pub resolve: Vec<(Host, Fixed)>,
    /// Networks that may be reached although they are private, loopback or link-local.
    pub allow_networks: Vec<IpNet>,
    /// The proxy that requests go out through.
    pub parent: Option<Arc<Parent>>,
    /// What is reached past it.
    pub parent_except: Vec<Except>,
}

/// A fixed answer to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The address to dial.
    pub ip: IpAddr,
    /// The port to dial instead of the target's own.
    pub port: Option<u16>,
}

/// A secret's name and where it lives; never its value.
#[derive(Debug, Clone)]
pub struct SecretSpec {
    /// As the config names it.
    pub name: Arc<str>,
    /// Where the value comes from.
    pub source: Source,
    /// Whether it is a document of several lines, such as a key, and never sent as it is.
    pub document: bool,
    /// Where its source holds JSON: which text in it is the value.
    pub field: Option<Arc<str>>,
    /// What the agent holds instead. Made up in the value's shape when absent.
    pub placeholder: Option<String>,
    /// The environment variables in which `run` hands the placeholder to the agent.
    pub agent_env: Vec<String>,
}

/// Where a secret's value lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An environment variable of Keyferry's own, read at start.
    Env(String),
    /// A file, read at start and again when it changes.
    File(PathBuf),
    /// A file that the service manager passes under this name (`LoadCredential=`).
    Credential(String),
    /// The standard output of a program.
    Exec {
        /// Program and arguments; no shell.
        argv: Vec<String>,
        /// How long a value is good for; without it, as long as Keyferry runs.
        ttl: Option<Duration>,
        /// How long the program may take.
        timeout: Duration,
    },
    /// An entry of Keyferry's own encrypted file.
    Store(String),
    /// A token that is asked for, or made.
    Minted(Box<Mint>),
    /// What a store of others keeps.
    Kept(Box<Kept>),
}

impl Source {
    /// Whether a value is fetched when it is wanted, and so may be fetched anew.
    pub fn is_fetched(&self) -> bool {
        match self {
            Self::Exec { .. } | Self::Minted(_) | Self::Kept(_) => true,
            Self::Env(_) | Self::File(_) | Self::Credential(_) | Self::Store(_) => false,
        }
    }

    /// The secrets that this one is had with.
    pub fn uses(&self) -> Vec<&Uses> {
        match self {
            Self::Minted(mint) => mint.uses(),
            Self::Kept(kept) => kept.uses(),
            Self::Env(_) | Self::File(_) | Self::Credential(_) | Self::Exec { .. } | Self::Store(_) => Vec::new(),
        }
    }

    /// The variables of Keyferry's own that it is read from, or had with.
    pub fn variables(&self) -> Vec<&str> {
        match self {
            Self::Env(name) => vec![name],
            Self::Kept(kept) => kept.variables().to_vec(),
            Self::Minted(mint) => mint.variables(),
            Self::File(_) | Self::Credential(_) | Self::Exec { .. } | Self::Store(_) => Vec::new(),
        }
    }
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// As the config names it; a preset's name when that made it; `rule N` (from 1) otherwise.
    pub name: Arc<str>,
    /// Which targets it speaks of.
    pub hosts: Vec<HostPattern>,
    /// Which agents; `None` is all.
    pub agents: Option<Vec<AgentId>>,
    /// Which methods and paths; `None` is all. A request that is not listed goes on to the next rule.
    pub allow: Option<Vec<Allow>>,
    /// What happens to a request that matches.
    pub action: Action,
    /// Which way it goes out.
    pub via: Via,
    /// Caps for this rule.
    pub limits: RuleLimits,
    /// Its base URL on gateway listeners, if it has one.
    pub mount: Option<Mount>,
}

/// Where the upstream of a rule is found on gateway listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What its paths begin with: `/anthropic`.
    pub prefix: Arc<str>,
    /// The upstream.
    pub target: Target,
    /// How it is reached.
    pub scheme: Scheme,
    /// Variables in which `run --gateway` hands the base URL to the command, each with what follows the prefix in it.
    pub variables: Vec<(String, String)>,
}

/// What a matching rule does. A tunnel is opaque, so there is no way to write one with an injector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Refuse, with the operator's words.
    Deny {
        /// Told to the agent.
        reason: Option<String>,
    },
    /// Pass bytes unread.
    Tunnel,
    /// Decrypt, judge each request, inject.
    Intercept {
        /// Credentials, in order; empty means inspect only.
        inject: Vec<Inject>,
        /// Whether credentials may go over plain HTTP on this rule.
        plaintext: bool,
        /// What happens to a stand-in in a body or message, outside its own place.
        strays: Strays,
        /// Whose tokens are kept from the agent, where what answers is a token endpoint.
        capture: Option<Arc<Capture>>,
    },
}

/// What is kept from the agent in the replies of a token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The login that the tokens are of; [`Inject::Login`] says where they may be used.
    pub login: Arc<str>,
    /// The fields that hold a token, at any depth of a reply.
    pub tokens: Vec<String>,
    /// Whether the tokens outlive this process, in the encrypted file.
    pub keep: bool,
}

/// What happens to a stand-in that streams by outside its own place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strays {
    /// The request is ended before the stand-in has gone out whole.
    #[default]
    Block,
    /// It goes out as what it is, which is worth nothing. For a model's transcripts, which hold whatever the agent saw:
    /// one look at its environment would end each request that comes after.
    Pass,
}

/// One credential and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inject {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer(SecretId),
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user name; no colon in it.
        user: String,
        /// The password.
        password: SecretId,
    },
    /// A header of this name.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: Template,
    },
    /// A query parameter of this name.
    Query {
        /// Its name, unencoded.
        name: String,
        /// Its value, unencoded.
        value: Template,
    },
    /// A cookie of this name, among the agent's own.
    Cookie {
        /// Its name.
        name: String,
        /// Its value.
        value: Template,
    },
    /// A signature by a keyed hash.
    Hmac(Box<Hmac>),
    /// A signature as AWS has it, in the place of the agent's own.
    SigV4(Box<SigV4>),
    /// Headers that a program answers with.
    Program(Program),
    /// A certificate that the upstream is shown in the TLS handshake.
    Mtls(Mtls),
    /// The agent's stand-in, swapped for the value.
    Placeholder {
        /// Which secret's.
        secret: SecretId,
        /// Where it may stand.
        places: Vec<Place>,
    },
    /// The agent's stand-ins for the tokens of a login of its own, swapped for these.
    Login {
        /// Which login.
        login: Arc<str>,
        /// Where they may stand: headers, and fields of a body.
        places: Vec<Place>,
    },
}

impl Inject {
    /// The secrets it gives.
    pub fn secrets(&self) -> Vec<SecretId> {
        match self {
            Self::Bearer(id) | Self::Basic { password: id, .. } | Self::Placeholder { secret: id, .. } => vec![*id],
            Self::Header { value, .. } | Self::Query { value, .. } | Self::Cookie { value, .. } => {
                value.secrets().collect()
            }
            Self::Hmac(spec) => spec.secrets().collect(),
            Self::Login { .. } => Vec::new(),
            Self::SigV4(keys) => [keys.access_key_id, keys.secret_access_key]
                .into_iter()
                .chain(keys.session_token)
                .collect(),
            // A key that stays here, and a certificate that is none to hide; what no secret of the config is.
            Self::Mtls(_) | Self::Program(_) => Vec::new(),
        }
    }
}

/// Whose signature, and for what (AWS Signature Version 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigV4 {
    /// The id of the access key.
    pub access_key_id: SecretId,
    /// The key that signs.
    pub secret_access_key: SecretId,
    /// The token of temporary credentials.
    pub session_token: Option<SecretId>,
    /// The region; `None`: what the host's name says.
    pub region: Option<String>,
    /// The service's signing name; `None`: what the host's name says.
    pub service: Option<String>,
    /// Whether a body whose hash the client does not state goes out unsigned.
    pub unsigned: bool,
}

/// What the upstream is shown in the TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mtls {
    /// The certificate, and those that vouch for it.
    pub certificate: SecretId,
    /// Its private key; the same secret, where both stand in one.
    pub private_key: SecretId,
}

/// Where a placeholder may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `header:NAME`: anywhere in that header's value, inside a Basic credential too.
    Header(HeaderName),
    /// `query:NAME`: in that query parameter.
    Query(String),
    /// `path`: in the path.
    Path,
    /// `body:/a/b`: a JSON string at that pointer (RFC 6901), or the form field `a` for `body:/a`.
    Body(String),
    /// `websocket`: in text messages from the agent.
    WebSocket,
}

/// Caps for one rule, counted for each agent by itself. Written in the config; enforced by `policy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleLimits {
    /// Requests per period.
    pub rate: Option<Rate>,
    /// Requests at one time.
    pub concurrent: Option<u32>,
    /// Bytes in a request body.
    pub request_body: Option<u64>,
    /// Bytes in a response body.
    pub response_body: Option<u64>,
    /// From the request's head to the end of the response.
    pub time: Option<Duration>,
}

/// So many per so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSpec {
    /// The sink.
    pub sink: AuditSink,
    /// What to do when the sink cannot keep up or fails.
    pub when_full: WhenFull,
}

/// An audit sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSink {
    /// No records are kept (the default of `run` without a config).
    None,
    /// Standard output.
    Stdout,
    /// A file, turned over when it reaches a size.
    File {
        /// Where.
        path: PathBuf,
        /// Bytes after which it is turned over.
        rotate_at: u64,
        /// How many old ones are kept.
        keep: u32,
    },
}

/// What to do when records cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// Count what is lost, and say so in the next record and the metrics.
    #[default]
    Count,
    /// Refuse new exchanges until records can be written again.
    Refuse,
}

/// Caps and deadlines of the whole program. See [`Limits::default`] for each figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections from agents at one time.
    pub connections: usize,
    /// Connections of one agent at one time.
    pub agent_connections: usize,
    /// Requests of one agent at one time.
    pub agent_requests: usize,
    /// Bytes of bodies held in memory at one time, to be searched or decoded.
    pub bodies: u64,
    /// Bytes in a request head.
    pub head_bytes: usize,
    /// Streams on one HTTP/2 connection.
    pub streams: usize,
    /// From accept, or from the reply before, to a whole request head; likewise for a TLS handshake.
    pub head_time: Duration,
    /// Without a byte either way on a tunnel or WebSocket, or in any other exchange.
    pub idle_time: Duration,
    /// For the other side to take a byte that waits for it.
    pub stall_time: Duration,
    /// To resolve, connect and handshake with an upstream.
    pub connect_time: Duration,
    /// Between a request's last piece and the response's head; for the agent, to its next piece.
    pub response_time: Duration,
    /// For exchanges to finish once asked to stop.
    pub drain_time: Duration,
    /// Leaf certificates kept.
    pub leaves: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            agent_connections: 1_000,
            agent_requests: 1_000,
            bodies: 256 * 1024 * 1024,
            head_bytes: 256 * 1024,
            streams: 128,
            head_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(3600),
            stall_time: Duration::from_secs(600),
            connect_time: Duration::from_secs(30),
            response_time: Duration::from_secs(600),
            drain_time: Duration::from_secs(30),
            leaves: 1_000,
        }
    }
}

impl Limits {
    /// How long nothing may move in an exchange. Never less than an upstream may take to answer, or the agent would not
    /// be told that it did not.
    pub fn exchange_idle(&self) -> Duration {
        self.idle_time.max(self.connect_time + self.response_time)
    }
}

impl Rule {
    /// Whose tokens it keeps from the agent, if any.
    pub fn capture(&self) -> Option<&Arc<Capture>> {
        match &self.action {
            Action::Intercept { capture, .. } => capture.as_ref(),
            Action::Deny { .. } | Action::Tunnel => None,
        }
    }
}

impl Config {
    /// The secret of that id.
    pub fn secret(&self, id: SecretId) -> Option<&SecretSpec> {
        self.secrets.get(id.index())
    }

    /// The agent of that id.
    pub fn agent(&self, id: AgentId) -> Option<&AgentSpec> {
        self.agents.get(id.index())
    }

    /// The target a fixed answer gives for `target`, if any.
    pub fn fixed(&self, target: &Target) -> Option<SocketAddr> {
        let (_, fixed) = self.upstream.resolve.iter().find(|(host, _)| *host == target.host)?;
        Some(SocketAddr::new(fixed.ip, fixed.port.unwrap_or(target.port)))
    }
}
