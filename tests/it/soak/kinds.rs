//! What the load consists of, and how each kind of exchange may end on record.

/// One kind of exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kept,
    Streams,
    Fresh,
    Absolute,
    WebSocket,
    Events,
    Grpc,
    Upload,
    Download,
    StandIn,
    Login,
    Abandoned,
    Denied,
    Away,
    Stranger,
    Misdirected,
    Malformed,
    Garbled,
    Untrusting,
    Misplaced,
    Echo,
    Hidden,
    Cut,
    Stalled,
    Garbage,
    Limited,
    Reset,
}

impl Kind {
    pub const ALL: [Self; 27] = [
        Self::Kept,
        Self::Streams,
        Self::Fresh,
        Self::Absolute,
        Self::WebSocket,
        Self::Events,
        Self::Grpc,
        Self::Upload,
        Self::Download,
        Self::StandIn,
        Self::Login,
        Self::Abandoned,
        Self::Denied,
        Self::Away,
        Self::Stranger,
        Self::Misdirected,
        Self::Malformed,
        Self::Garbled,
        Self::Untrusting,
        Self::Misplaced,
        Self::Echo,
        Self::Hidden,
        Self::Cut,
        Self::Stalled,
        Self::Garbage,
        Self::Limited,
        Self::Reset,
    ];

    /// As it stands in a path or a host name, what it is, and the codes it may end with.
    pub fn spec(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Kept => ("kept", "GET on a kept HTTP/1.1 connection", &["ok"]),
            Self::Streams => ("streams", "GET, eight at a time on an HTTP/2 connection", &["ok"]),
            Self::Fresh => ("fresh", "GET behind a CONNECT of its own", &["ok"]),
            Self::Absolute => ("absolute", "plain HTTP in absolute-form", &["ok"]),
            Self::WebSocket => ("websocket", "WebSocket with five messages each way", &["ok"]),
            Self::Events => ("events", "server-sent events", &["ok"]),
            Self::Grpc => ("grpc", "messages both ways with trailers, as gRPC sends them", &["ok"]),
            Self::Upload => ("upload", "upload of 200 kB", &["ok"]),
            Self::Download => ("download", "download of 1 MB", &["ok"]),
            Self::StandIn => ("standin", "placeholder in its header and its field", &["ok"]),
            Self::Login => ("login", "Basic credential from a program", &["ok"]),
            Self::Abandoned => ("abandoned", "download that the agent leaves half-way", &["agent_gone"]),
            Self::Denied => (
                "denied",
                "path that no rule allows",
                &["denied_by_policy", "ambiguous_path"],
            ),
            Self::Away => ("away", "CONNECT to a host that no rule allows", &["denied_by_policy"]),
            Self::Stranger => ("stranger", "CONNECT without a token", &["agent_unknown"]),
            Self::Misdirected => ("misdirected", "`Host` of another host", &["misdirected_request"]),
            Self::Malformed => (
                "malformed",
                "two hosts, TRACE, a host with a user",
                &["malformed_request", "method_refused"],
            ),
            Self::Garbled => ("garbled", "neither TLS nor HTTP in a tunnel", &["not_http"]),
            Self::Untrusting => ("untrusting", "agent that does not trust the CA", &["agent_tls_failed"]),
            Self::Misplaced => ("misplaced", "placeholder in a wrong place", &["placeholder_misplaced"]),
            Self::Echo => ("echo", "upstream that echoes the credential in every encoding", &["ok"]),
            Self::Hidden => (
                "hidden",
                "the same in codings that the agent did not offer",
                &["credential_echoed", "response_not_scrubbable"],
            ),
            Self::Cut => (
                "cut",
                "upstream that resets half-way",
                &["upstream_broke_off", "upstream_protocol"],
            ),
            Self::Stalled => ("stalled", "upstream that says nothing", &["exchange_timeout"]),
            Self::Garbage => ("garbage", "upstream that sends garbage", &["upstream_protocol"]),
            Self::Limited => ("limited", "more requests than the rule's rate", &["rate_limited", "ok"]),
            Self::Reset => ("reset", "HTTP/2 stream reset at once", &["agent_gone", "ok"]),
        }
    }

    pub fn name(self) -> &'static str {
        self.spec().0
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it may also leave no record: a stream that is reset before its request was read was none.
    pub fn may_be_unheard(self) -> bool {
        self == Self::Reset
    }
}
