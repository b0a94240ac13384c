//! From one request to its reply.

use super::Shared;
use crate::base::body::Body;
use crate::base::host::{Host, Target};
use crate::metrics::RuleCounts;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A reply before its headers.
struct Reply {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Shared {
    /// Answers one request. Its body, if it has one, is never read.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let reply = self.judge(request).unwrap_or_else(|| self.route(request));
        let mut response = Response::new(Body::full(reply.body));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if reply.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        if reply.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"keyferry admin\""),
            );
        }
        response
    }

    /// What is wrong with the request, whatever it asks for.
    fn judge<B>(&self, request: &Request<B>) -> Option<Reply> {
        if !self.is_our_name(request) {
            let hint = "ask by address or as `localhost`\n";
            return Some(plain(StatusCode::MISDIRECTED_REQUEST, hint));
        }
        if request.method() != Method::GET {
            return Some(plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n"));
        }
        // Probes of an orchestrator carry no token, and learn one word.
        if matches!(request.uri().path(), "/healthz" | "/readyz") || self.shows_token(request) {
            return None;
        }
        let hint = "this wants `Authorization: Bearer TOKEN`\n";
        Some(plain(StatusCode::UNAUTHORIZED, hint))
    }

    /// Whether it was meant for us. A web page can point a name of its own at our address and have
    /// the browser ask here, but it cannot choose the `Host` that the browser then sends.
    fn is_our_name<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        let origin_form = request.uri().authority().is_none();
        let target = host.to_str().ok().and_then(|host| Target::parse(host, Some(80)).ok());
        origin_form
            && target.is_some_and(|target| match &target.host {
                Host::Ip(_) => true,
                Host::Name(name) => &**name == "localhost" || self.hosts.contains(&target.host),
            })
    }

    fn shows_token<B>(&self, request: &Request<B>) -> bool {
        let settings = self.settings.load();
        let Some(token) = &settings.token else {
            // Before the first configuration nobody knows whether a token is due.
            return self.ready.load(Ordering::Acquire);
        };
        let shown = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let bearer = shown.and_then(|value| value.split_at_checked(7));
        bearer.is_some_and(|(scheme, offered)| scheme.eq_ignore_ascii_case(b"bearer ") && token.matches(offered))
    }

    fn route<B>(&self, request: &Request<B>) -> Reply {
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            "/metrics" => self.metrics(),
            "/status" => self.status(),
            "/audit" => self.audit(request.uri().query().unwrap_or_default()),
            _ => plain(
                StatusCode::NOT_FOUND,
                "there are /metrics, /healthz, /readyz, /status and /audit?tail=N\n",
            ),
        }
    }

    fn readiness(&self) -> Reply {
        if !self.ready.load(Ordering::Acquire) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n");
        }
        if self.tasks.is_stopping() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        if !self.audit.accepts() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the audit log cannot be written\n");
        }
        plain(StatusCode::OK, "ready\n")
    }

    fn metrics(&self) -> Reply {
        self.metrics
            .audit_lost
            .set(i64::try_from(self.audit.lost()).unwrap_or(i64::MAX));
        self.metrics.audit_failing.set(i64::from(self.audit.is_failing()));
        match self.metrics.render() {
            Ok(body) => Reply {
                status: StatusCode::OK,
                kind: "text/plain; version=0.0.4; charset=utf-8",
                body,
            },
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }

    fn status(&self) -> Reply {
        let settings = self.settings.load();
        let status = &settings.status;
        let totals = self.audit.totals();
        let rules = status.rules.iter().map(|name| {
            let RuleCounts { ok, denied, failed } = self.metrics.for_rule(name).counts();
            RuleLine {
                name: Arc::clone(name),
                ok,
                denied,
                failed,
            }
        });
        json(&StatusReply {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.started.elapsed().as_secs(),
            config: &status.fingerprint,
            listen: &status.listen,
            agents: &status.agents,
            rules: rules.collect(),
            connections: self.metrics.connections.get(),
            requests: Requests {
                allowed: totals.allowed,
                denied: totals.denied,
                failed: totals.failed,
            },
            audit: AuditReply {
                failing: self.audit.is_failing(),
                lost: self.audit.lost(),
            },
        })
    }

    fn audit(&self, query: &str) -> Reply {
        let mut wanted = DEFAULT_TAIL;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (&*name, value.parse()) {
                ("tail", Ok(number)) => wanted = number,
                _ => return plain(StatusCode::BAD_REQUEST, "the query is `tail=N`\n"),
            }
        }
        let mut body = String::new();
        for record in self.audit.tail(wanted) {
            // A record always serialises: it holds nothing but text and numbers.
            body.push_str(&serde_json::to_string(&*record).unwrap_or_default());
            body.push('\n');
        }
        Reply {
            status: StatusCode::OK,
            kind: "application/x-ndjson",
            body,
        }
    }
}

/// Records told when no number is asked for.
const DEFAULT_TAIL: usize = 100;

#[derive(Serialize)]
struct StatusReply<'a> {
    version: &'static str,
    uptime_seconds: u64,
    config: &'a str,
    listen: &'a [String],
    agents: &'a [Arc<str>],
    rules: Vec<RuleLine>,
    connections: i64,
    requests: Requests,
    audit: AuditReply,
}

#[derive(Serialize)]
struct RuleLine {
    name: Arc<str>,
    ok: u64,
    denied: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Requests {
    allowed: u64,
    denied: u64,
    failed: u64,
}

#[derive(Serialize)]
struct AuditReply {
    failing: bool,
    lost: u64,
}

fn plain(status: StatusCode, body: &str) -> Reply {
    Reply {
        status,
        kind: "text/plain; charset=utf-8",
        body: body.to_owned(),
    }
}

fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(body) => Reply {
            status: StatusCode::OK,
            kind: "application/json",
            body: body + "\n",
        },
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}
