//! All that an agent may learn of a failure. One file, so that one person can review it: `code`,
//! `message` and `hint` go to the agent, which may be hostile; `cause` goes to the record and the log.

use super::counted::TooLarge;
use crate::base::ask::Malformed;
use crate::base::body::Body;
use crate::base::budget::Full;
use crate::base::host::Target;
use crate::policy::Denied;
use crate::scrub::{self, Needles};
use crate::{audit::Outcome, front, identity, inject, net};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A failed exchange, for two readers.
#[derive(Debug)]
pub struct Fault {
    /// What the agent gets.
    pub status: StatusCode,
    /// Stable, listed in `docs/errors.md`.
    pub code: &'static str,
    /// For the agent.
    pub message: String,
    /// What to do next, for the agent.
    pub hint: Option<&'static str>,
    /// The rule that decided, if one did.
    pub rule: Option<Arc<str>>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Refused, or broken.
    pub outcome: Outcome,
    /// For the operator: the record and the log.
    pub cause: Option<String>,
}

/// The header that carries the code on every reply of our own.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-keyferry-error");

impl Fault {
    /// Refused by policy or for what it is: the message says it all.
    pub fn refused(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            code,
            message,
            hint: None,
            rule: None,
            retry_after: None,
            outcome: Outcome::Denied,
            cause: None,
        }
    }

    /// Broken: the agent is told `message`, the operator `cause`.
    pub fn broken(status: StatusCode, code: &'static str, message: &str, cause: impl std::fmt::Display) -> Self {
        let fault = Self::refused(status, code, message);
        Self {
            outcome: Outcome::Failed,
            cause: Some(cause.to_string()),
            ..fault
        }
    }

    /// The agent began a request body and left it at that.
    fn stopped_coming(cause: String) -> Self {
        let told = "the request body stopped coming";
        Self::broken(StatusCode::REQUEST_TIMEOUT, "request_timeout", told, cause)
    }

    /// The same, with what must not be told taken out of the cause.
    pub fn masked(mut self, needles: &[Arc<Needles>]) -> Self {
        if let Some(cause) = self.cause.take() {
            let mut bytes = cause.into_bytes();
            for needles in needles {
                needles.mask(&mut bytes);
            }
            self.cause = Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        self
    }

    fn hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// The reply: JSON for a program to read, or what gRPC clients understand.
    pub fn reply(&self, request_id: &str, grpc: bool) -> Response<Body> {
        let mut reply = Response::new(Body::Empty);
        let headers = reply.headers_mut();
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.code));
        if let Some(after) = self.retry_after {
            // Whole seconds (RFC 9110 §10.2.3), rounded up so that a retry is not too early.
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(after.as_secs() + u64::from(after.subsec_nanos() > 0)),
            );
        }
        if grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(self.grpc_status()));
            if let Ok(message) = HeaderValue::from_str(&grpc_message(&self.message)) {
                headers.insert("grpc-message", message);
            }
            return reply;
        }
        if self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"keyferry\""));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *reply.status_mut() = self.status;
        let text = json!({
            "error": self.code,
            "message": self.message,
            "hint": self.hint,
            "rule": self.rule.as_deref(),
            "request_id": request_id,
        });
        *reply.body_mut() = Body::full(format!("{text}\n"));
        reply
    }

    /// The nearest canonical status code of gRPC.
    fn grpc_status(&self) -> u32 {
        match self.status.as_u16() {
            400 => 3,             // INVALID_ARGUMENT
            403 => 7,             // PERMISSION_DENIED
            407 => 16,            // UNAUTHENTICATED
            413 | 429 | 431 => 8, // RESOURCE_EXHAUSTED
            421 => 9,             // FAILED_PRECONDITION
            408 | 504 => 4,       // DEADLINE_EXCEEDED
            502 | 503 => 14,      // UNAVAILABLE
            _ => 2,               // UNKNOWN
        }
    }
}

/// gRPC percent-encodes what is not printable ASCII in `grpc-message`.
fn grpc_message(text: &str) -> String {
    let byte = |b: u8| {
        if (b' '..=b'~').contains(&b) && b != b'%' {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        let message = malformed.to_string();
        match malformed {
            Malformed::Misdirected { .. } => {
                Self::refused(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", message)
                    .hint("open a connection of its own to each host")
            }
            Malformed::Authority | Malformed::Host(_) | Malformed::Form(_) => {
                Self::refused(StatusCode::BAD_REQUEST, "malformed_request", message)
            }
            Malformed::Refused(_) => Self::refused(StatusCode::METHOD_NOT_ALLOWED, "method_refused", message),
        }
    }
}

impl From<front::Error> for Fault {
    fn from(error: front::Error) -> Self {
        let message = error.to_string();
        match error {
            front::Error::Misdirected(_) | front::Error::Elsewhere(_) => {
                Self::refused(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", message)
            }
            front::Error::Ambiguous => Self::refused(StatusCode::FORBIDDEN, "ambiguous_path", message)
                .hint("write the path without dot segments or double slashes"),
            front::Error::NoMount => Self::refused(StatusCode::FORBIDDEN, "denied_by_policy", message),
            front::Error::Malformed(_) | front::Error::Host(_) => {
                Self::refused(StatusCode::BAD_REQUEST, "malformed_request", message)
            }
        }
    }
}

impl From<front::socks::Error> for Fault {
    fn from(error: front::socks::Error) -> Self {
        use front::socks::Error as E;
        let message = error.to_string();
        match error {
            E::Version4 | E::Command(_) => Self::refused(StatusCode::METHOD_NOT_ALLOWED, "method_refused", message),
            E::Malformed(_) | E::AddressType | E::Host(_) => {
                Self::refused(StatusCode::BAD_REQUEST, "malformed_request", message)
            }
        }
    }
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        let rule = denied.rule().cloned();
        let message = denied.to_string();
        let refused = |code| Self::refused(StatusCode::FORBIDDEN, code, message.clone());
        let fault = match denied {
            Denied::Host { .. } | Denied::Agent { .. } => {
                refused("denied_by_policy").hint("the operator can add a rule for this host")
            }
            Denied::Rule { .. } => refused("denied_by_policy"),
            Denied::Request { allowed, .. } => {
                let fault = refused("denied_by_policy");
                let message = format!("{}; it allows: {}", fault.message, allowed.join(", "));
                Self { message, ..fault }
            }
            Denied::Path { .. } => {
                refused("ambiguous_path").hint("write the path without dot segments or double slashes")
            }
            Denied::Opaque { .. } => refused("denied_by_policy").hint("open a new connection"),
            Denied::Limit { retry_after, .. } => {
                let fault = Self::refused(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message.clone());
                Self {
                    retry_after: Some(retry_after),
                    ..fault
                }
            }
        };
        Self { rule, ..fault }
    }
}

impl From<identity::Unknown> for Fault {
    fn from(unknown: identity::Unknown) -> Self {
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let fault = Self::refused(status, "agent_unknown", unknown.to_string());
        let cause = match unknown {
            identity::Unknown::Uncertified(why) => Some(why),
            identity::Unknown::Silent | identity::Unknown::Wrong => None,
        };
        Self { cause, ..fault }.hint("put the agent's token in the proxy URL: http://AGENT:TOKEN@HOST:PORT")
    }
}

impl From<inject::Error> for Fault {
    fn from(error: inject::Error) -> Self {
        use inject::Error as E;
        let message = error.to_string();
        match error {
            E::Unavailable { name, .. } => {
                let told = format!("credential `{name}` cannot be had; the request was not sent");
                Self::broken(StatusCode::BAD_GATEWAY, "credential_unavailable", &told, message)
                    .hint("the operator finds the cause in the audit log")
            }
            E::Unfit(name) => {
                let told = format!("credential `{name}` cannot stand where the rule puts it; the request was not sent");
                Self::broken(StatusCode::BAD_GATEWAY, "credential_unfit", &told, message)
            }
            E::Certificate(name, why) => certificate(&name, why, message),
            E::Plaintext(_) => Self::refused(StatusCode::FORBIDDEN, "plaintext_refused", message).hint("use https"),
            E::Misplaced(misplaced) => misplaced.into(),
            E::Body(inject::body::Error::NotText) => {
                let told = "the credential cannot stand where the rule puts it; the request was not sent";
                Self::broken(StatusCode::BAD_GATEWAY, "credential_unfit", told, message)
            }
            E::Body(inject::body::Error::TooLarge { .. }) => {
                Self::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
            }
            E::Body(_) => Self::refused(StatusCode::UNPROCESSABLE_ENTITY, "body_unsearchable", message),
            E::Unsignable(_) => Self::refused(StatusCode::UNPROCESSABLE_ENTITY, "request_unsignable", message),
            E::Slow(_) => Self::stopped_coming(message),
            E::Crowded(full) => Self {
                hint: Some("wait for others to end"),
                retry_after: Some(Duration::from_secs(1)),
                ..match full {
                    Full::Own => Self::refused(StatusCode::TOO_MANY_REQUESTS, "agent_limited", message),
                    Full::Whole => Self::refused(StatusCode::SERVICE_UNAVAILABLE, "proxy_busy", message),
                }
            },
            E::Collect(cause) => Self::broken(
                StatusCode::BAD_REQUEST,
                "request_body_failed",
                "the request body broke off",
                cause,
            ),
        }
    }
}

impl From<inject::captured::Unreadable> for Fault {
    fn from(unreadable: inject::captured::Unreadable) -> Self {
        use inject::captured::Unreadable as U;
        let cause = unreadable.to_string();
        match unreadable {
            U::Crowded(full) => inject::Error::Crowded(full).into(),
            _ => {
                let told = "the reply of the token endpoint cannot be read for certain; it was withheld, for it may hold tokens";
                Self::broken(StatusCode::BAD_GATEWAY, "token_reply_unreadable", told, cause)
            }
        }
    }
}

impl From<inject::Misplaced> for Fault {
    fn from(misplaced: inject::Misplaced) -> Self {
        Self::refused(StatusCode::FORBIDDEN, "placeholder_misplaced", misplaced.to_string())
            .hint("the value you hold is a placeholder; it works only towards its own service, in its own place")
    }
}

impl From<net::Error> for Fault {
    fn from(error: net::Error) -> Self {
        use net::Error as E;
        let cause = chain(&error);
        let gateway = |code, told: String| Self::broken(StatusCode::BAD_GATEWAY, code, &told, cause.clone());
        let late = |told: String| Self::broken(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", &told, cause.clone());
        match &error {
            E::Resolve(target, _) => gateway("upstream_unresolved", format!("{} has no address", target.host)),
            E::Guarded { target, kind, .. } => guarded(target, kind, cause),
            E::Loop(_) => Self::refused(
                StatusCode::LOOP_DETECTED,
                "loop_detected",
                "that leads back to the proxy",
            ),
            E::Parent { fault, target, .. } => parent(fault, target, cause),
            E::Exhausted(..) => exhausted(cause),
            E::Connect(target, _) => gateway("upstream_unreachable", format!("cannot connect to {target}")),
            E::ConnectTime(target) => late(format!("no connection to {target} in time")),
            E::Tls {
                target,
                certificate: true,
                ..
            } => gateway(
                "upstream_certificate",
                format!("the certificate of {target} does not verify"),
            )
            .hint("the operator finds the cause in the audit log, and can trust a private root in `upstream.roots`"),
            E::Tls { target, .. } => gateway("upstream_tls", format!("no TLS connection with {target}")),
            E::ClientCertificate { target, shown, .. } => {
                let told = match shown {
                    true => "does not take the client certificate that the rule has for it",
                    false => "wants a client certificate, and the rule has none",
                };
                gateway("client_certificate_refused", format!("{target} {told}"))
            }
            E::ResponseTime(target) => late(format!("{target} sent no response in time")),
            E::Stalled(_) => Self::stopped_coming(cause),
            E::Interim(target) | E::Fields(target, _) | E::Long(target, _) => gateway(
                "upstream_protocol",
                format!("{target} sent more than any response needs"),
            ),
            E::Http(target, _) => gateway("upstream_protocol", format!("{target} broke off or sent no valid HTTP")),
            E::RequestBody(_) if let Some(too_large) = find::<TooLarge>(&error) => {
                Self::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", too_large.to_string())
            }
            E::RequestBody(_) if let Some(wrong) = wrongly_signed(&error) => {
                Self::refused(StatusCode::BAD_REQUEST, "request_unsignable", wrong)
            }
            E::RequestBody(_) if let Some(misplaced) = find::<inject::Misplaced>(&error) => misplaced.clone().into(),
            E::RequestBody(_) => Self::broken(
                StatusCode::BAD_REQUEST,
                "request_body_failed",
                "the request body broke off",
                cause,
            ),
            E::Request(_) | E::Roots(_) => gateway("request_unsendable", "the request cannot be sent".to_owned()),
        }
    }
}

/// There is no client certificate that could be shown.
fn certificate(name: &str, why: net::UnfitCertificate, cause: String) -> Fault {
    use net::UnfitCertificate as U;
    let (code, told) = match why {
        U::Expired(_) => ("client_certificate_expired", "has expired"),
        U::Early(_) => ("client_certificate_expired", "is not good yet"),
        _ => ("credential_unfit", "cannot be used"),
    };
    let told = format!("the client certificate `{name}` {told}; the request was not sent");
    Fault::broken(StatusCode::BAD_GATEWAY, code, &told, cause).hint("the operator finds the cause in the audit log")
}

/// The address is one that agents may not reach.
fn guarded(target: &Target, kind: &str, cause: String) -> Fault {
    let told = format!("{} leads to {kind}, which agents may not reach", target.host);
    let fault = Fault::refused(StatusCode::FORBIDDEN, "address_refused", told);
    Fault {
        cause: Some(cause),
        ..fault
    }
    .hint("the operator can allow it in `upstream.allow_networks`")
}

/// There are no descriptors left to connect with.
fn exhausted(cause: String) -> Fault {
    let told = "the proxy has as many connections open as it may have";
    let fault = Fault::broken(StatusCode::SERVICE_UNAVAILABLE, "proxy_exhausted", told, cause);
    Fault {
        retry_after: Some(Duration::from_secs(1)),
        ..fault
    }
    .hint("try again; the operator can let the proxy open more files")
}

/// Of the parent proxy the agent learns no more than that there is one.
fn parent(fault: &net::parent::Fault, target: &Target, cause: String) -> Fault {
    use net::parent::{Fault as P, NoLogin};
    let (code, told) = match fault {
        P::Unreachable(_) | P::Broke(_) => ("parent_unreachable", "no connection to the parent proxy".to_owned()),
        P::Login(NoLogin::Unavailable(_)) => (
            "credential_unavailable",
            "the credential of the parent proxy cannot be had".to_owned(),
        ),
        P::Login(NoLogin::Unfit) => (
            "credential_unfit",
            "the credential of the parent proxy is no user and password".to_owned(),
        ),
        P::Unknown => (
            "parent_auth_failed",
            "the parent proxy does not accept what it was shown".to_owned(),
        ),
        P::Refused(_) => ("parent_refused", format!("the parent proxy does not let {target} pass")),
        P::NoWay(_) => ("upstream_unreachable", format!("cannot connect to {target}")),
        P::Garbage(_) => (
            "parent_protocol",
            "what the parent proxy answered makes no sense".to_owned(),
        ),
    };
    Fault::broken(StatusCode::BAD_GATEWAY, code, &told, cause).hint("the operator finds the cause in the audit log")
}

impl From<scrub::Unscrubbable> for Fault {
    fn from(error: scrub::Unscrubbable) -> Self {
        let told = "the reply cannot be searched for the credential, so it is withheld";
        Self::broken(StatusCode::BAD_GATEWAY, error.code(), told, error)
    }
}

/// How a body is not what was signed of it.
fn wrongly_signed(error: &net::Error) -> Option<String> {
    let hash = find::<inject::sigv4::Mismatch>(error).map(ToString::to_string);
    hash.or_else(|| find::<inject::sigv4::Misframed>(error).map(ToString::to_string))
}

/// The first error of a kind among an error and what caused it.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
