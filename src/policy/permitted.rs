//! Proofs of policy. Their fields are private and only this room makes them; where they lead cannot
//! change afterwards.

use super::limit::Held;
use crate::base::ask::Scheme;
use crate::base::body::Body;
use crate::base::host::{Host, Target};
use crate::base::ids::{AgentId, RuleId, SecretId};
use crate::config::model::{Inject, Rule, Strays};
use http::{HeaderMap, Method, Request, Uri};
use std::sync::Arc;

/// A request that a rule allows, together with that rule. It owns the request: what was judged is
/// what is sent.
#[derive(Debug)]
pub struct Permitted {
    pub(super) agent: AgentId,
    pub(super) target: Target,
    pub(super) scheme: Scheme,
    /// Boxed: it goes through many hands.
    pub(super) request: Box<Request<Body>>,
    pub(super) id: RuleId,
    pub(super) rule: Arc<Rule>,
    pub(super) inject: Arc<[Inject]>,
    pub(super) plaintext: bool,
    pub(super) strays: Strays,
    pub(super) watched: Arc<[SecretId]>,
    pub(super) logins: Arc<[Arc<str>]>,
    pub(super) asking: Arc<[RuleId]>,
    pub(super) held: Held,
}

impl Permitted {
    /// Who asked.
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// In the clear or over TLS.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The rule that allowed it.
    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// That rule's position.
    pub fn rule_id(&self) -> RuleId {
        self.id
    }

    /// The credentials that rule gives.
    pub fn inject(&self) -> Arc<[Inject]> {
        Arc::clone(&self.inject)
    }

    /// The secrets that any rule may give this host, which therefore may come back from it.
    pub fn watched(&self) -> Arc<[SecretId]> {
        Arc::clone(&self.watched)
    }

    /// The logins whose tokens any rule may give this host, or keeps from its replies.
    pub fn logins(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.logins)
    }

    /// The rules that may give this host what a program answers.
    pub fn asking(&self) -> Arc<[RuleId]> {
        Arc::clone(&self.asking)
    }

    /// Whether that rule lets a credential go over plain HTTP.
    pub fn plaintext(&self) -> bool {
        self.plaintext
    }

    /// What that rule has happen to a stand-in outside its own place.
    pub fn strays(&self) -> Strays {
        self.strays
    }

    /// The request's method.
    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// The request's target as the agent wrote it. Only its path and query are ever sent.
    pub fn uri(&self) -> &Uri {
        self.request.uri()
    }

    /// Its headers, to read and to change.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.request.headers_mut()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// Its path and query.
    pub fn path_and_query(&self) -> &str {
        self.request
            .uri()
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// Replaces path and query, not the destination, which stands in [`target`](Self::target).
    pub fn set_path_and_query(&mut self, new: http::uri::PathAndQuery) {
        *self.request.uri_mut() = Uri::from(new);
    }

    /// Its body.
    pub fn body(&self) -> &Body {
        self.request.body()
    }

    /// Replaces the body by what `change` makes of it.
    pub fn map_body(&mut self, change: impl FnOnce(Body) -> Body) {
        let body = std::mem::replace(self.request.body_mut(), Body::Empty);
        *self.request.body_mut() = change(body);
    }

    /// Takes the body out, leaving an empty one.
    pub fn take_body(&mut self) -> Body {
        std::mem::replace(self.request.body_mut(), Body::Empty)
    }

    /// The same request once more, where there is no body, or one that is at hand.
    pub fn replay(&self) -> Option<Self> {
        let body = match self.request.body() {
            Body::Full(Some(bytes)) => Body::full(bytes.clone()),
            body if http_body::Body::is_end_stream(body) => Body::Empty,
            _ => return None,
        };
        if self.request.headers().contains_key(http::header::UPGRADE) {
            return None;
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.request.method().clone();
        *request.uri_mut() = self.request.uri().clone();
        *request.version_mut() = self.request.version();
        *request.headers_mut() = self.request.headers().clone();
        Some(Self {
            agent: self.agent,
            target: self.target.clone(),
            scheme: self.scheme,
            request: Box::new(request),
            id: self.id,
            rule: Arc::clone(&self.rule),
            inject: Arc::clone(&self.inject),
            plaintext: self.plaintext,
            strays: self.strays,
            watched: Arc::clone(&self.watched),
            logins: Arc::clone(&self.logins),
            asking: Arc::clone(&self.asking),
            held: self.held.clone(),
        })
    }

    /// Gives up the proof for what is sent: the way out, and only it, calls this.
    pub fn into_ask(self) -> (Target, Scheme, Box<Request<Body>>, Held) {
        (self.target, self.scheme, self.request, self.held)
    }
}

/// A tunnel that a rule allows: bytes to this target, unread.
#[derive(Debug)]
pub struct Passage {
    pub(super) target: Target,
    pub(super) rule: Arc<Rule>,
    pub(super) held: Held,
}

impl Passage {
    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The rule that allowed it.
    pub fn rule(&self) -> &Arc<Rule> {
        &self.rule
    }

    /// What must be kept for as long as the tunnel stands, for the rule's cap on concurrency.
    pub fn held(&self) -> Held {
        self.held.clone()
    }
}

/// A name that some rule allows an agent to reach: without a request or a tunnel, only such a one is looked up.
#[derive(Debug)]
pub struct Named(pub(super) Host);

impl Named {
    /// The name.
    pub fn host(&self) -> &Host {
        &self.0
    }
}
