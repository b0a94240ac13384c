//! Tokens of an agent's own login stay with Keyferry: whatever the token endpoint answers, and wherever the agent carries
//! what it holds instead.

mod device;
mod docker;
mod kept;
mod page;
mod programs;
mod registry;
mod replies;
mod used;

use crate::rig::agent::{Reply, request};
use crate::rig::origin::{AnyBody, Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::routes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::sync::{Arc, Mutex};

/// Real tokens, of the shapes that services give.
pub const ACCESS: &str = "sk-ant-oat01-Qm3vT7xKd9LpWz2RbY5cNf8HsJ4gA6eU-AbCdEfGhAA";
pub const REFRESH: &str = "sk-ant-ort01-Zk8wP2nVt5XqLr7MyB3dJc6HfS9gE4aU-IjKlMnOpAA";

/// What the token endpoint answers next.
pub type Next = Arc<Mutex<Box<dyn Fn() -> Response<AnyBody> + Send>>>;

/// A token endpoint that answers as it is told, the API that its tokens are for, and a proxy between them and agents.
pub struct Login {
    pub auth: Origin,
    pub api: Origin,
    pub other: Origin,
    pub next: Next,
    pub proxy: Proxy,
}

/// The rules of most tests: two agents, one login.
pub const RULES: [&str; 3] = [
    "name: token, host: auth.test, capture: { login: mail }",
    "name: api, host: api.test, inject: [{ login: mail }]",
    "name: other, host: other.test",
];

impl Login {
    pub async fn start(speaks: Speaks) -> Self {
        Self::with(speaks, |rig| RULES.iter().fold(rig, |rig, rule| rig.rule(rule))).await
    }

    pub async fn with(speaks: Speaks, rules: impl FnOnce(Rig) -> Rig) -> Self {
        let root = Root::new();
        let next: Next = Arc::new(Mutex::new(Box::new(|| routes::empty(StatusCode::NOT_FOUND))));
        let told = Arc::clone(&next);
        let service = move |request: Request<AnyBody>, _: Origin| -> crate::rig::origin::Answer {
            let told = Arc::clone(&told);
            Box::pin(async move {
                let _ = request.into_body().collect().await;
                told.lock().unwrap()()
            })
        };
        let auth = Origin::with(&root, "auth.test", speaks, Arc::new(service)).await;
        let api = Origin::speaking(&root, "api.test", speaks).await;
        let other = Origin::speaking(&root, "other.test", speaks).await;
        let rig = Rig::new(&root)
            .reach(&auth)
            .reach(&api)
            .reach(&other)
            .secret("ALICE", "alice-token-0123456789")
            .secret("BOB", "bob-token-0123456789")
            .config("agents: { alice: { token: alice }, bob: { token: bob } }");
        let mut proxy = rules(rig).serve().await;
        proxy.agent = offering(&proxy, "alice");
        Self {
            auth,
            api,
            other,
            next,
            proxy,
        }
    }

    /// What the token endpoint answers from now on.
    pub fn answers(&self, answer: impl Fn() -> Response<AnyBody> + Send + 'static) {
        *self.next.lock().unwrap() = Box::new(answer);
    }

    /// The same with this JSON.
    pub fn answers_json(&self, value: serde_json::Value) {
        self.answers(move || routes::json(&value));
    }

    /// What an agent gets for a form posted to the token endpoint.
    pub async fn asks(&self, form: &str) -> Reply {
        let mut http = self.proxy.agent.h2("auth.test").await;
        http.reply(posted("https://auth.test/token", form)).await
    }

    /// A login: the stand-ins for [`ACCESS`] and [`REFRESH`].
    pub async fn logged_in(&self) -> (String, String) {
        self.answers_json(serde_json::json!({
            "token_type": "Bearer", "access_token": ACCESS, "expires_in": 3600, "refresh_token": REFRESH, "scope": "all",
        }));
        let reply = self.asks("grant_type=authorization_code&code=abc").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        without_tokens(&reply);
        let said = reply.json();
        let field = |name: &str| said[name].as_str().unwrap().to_owned();
        (field("access_token"), field("refresh_token"))
    }

    /// What the API answers, and what `name` it was sent, with this credential in it.
    pub async fn shows(&self, host: &str, name: &str, value: &str) -> Reply {
        let mut http = self.proxy.agent.h2(host).await;
        let mut request = crate::rig::agent::get(&format!("https://{host}/echo"));
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        http.reply(request).await
    }
}

/// The same agent's way, under another name.
pub fn offering(proxy: &Proxy, agent: &str) -> crate::rig::agent::Agent {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{agent}:{agent}-token-0123456789"));
    let mut agent = proxy.agent.clone();
    agent.offer = Some(format!("Basic {pair}"));
    agent
}

pub fn posted(url: &str, form: &str) -> Request<AnyBody> {
    let mut request = request(Method::POST, url, form.to_owned());
    let kind = if form.starts_with('{') {
        "application/json"
    } else {
        "application/x-www-form-urlencoded"
    };
    request.headers_mut().insert("content-type", kind.parse().unwrap());
    request
}

/// Nothing of the real tokens is in what the agent got.
pub fn without_tokens(reply: &Reply) {
    let all = format!("{:?}\n{}", reply.headers, reply.text());
    for token in [ACCESS, REFRESH] {
        for part in [token, &token[13..37]] {
            assert!(!all.contains(part), "a token came through: {all}");
        }
    }
}
