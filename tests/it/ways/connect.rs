//! CONNECT over TCP, which every other way is compared with.

use super::table::table;
use super::{TOKEN, Way};
use crate::clients::basic;
use crate::rig::agent::{Agent, Http};
use crate::rig::netns::Networks;
use crate::rig::proxy::{Proxy, Rig};

struct Connect(Proxy);

impl Connect {
    async fn offering(&self, offer: Option<String>, host: &str, http2: bool) -> Result<Http, String> {
        let agent = Agent {
            offer,
            ..self.0.agent.clone()
        };
        let (status, head, raw) = agent.connect(&format!("{host}:443")).await;
        if status != 200 {
            let code = head
                .lines()
                .find_map(|line| line.strip_prefix("x-keyferry-error: "))
                .unwrap_or_default();
            return Err(format!("{status} {code}"));
        }
        Ok(agent.http_over(raw.io, host, http2).await)
    }
}

impl Way for Connect {
    const NAME: &'static str = "proxy";
    const DENIED: &'static str = "403 denied_by_policy";

    async fn start(rig: Rig, _: Option<Networks>) -> Self {
        Self(rig.config("agents: { ci: { token: ci_token } }").serve().await)
    }

    fn proxy(&self) -> &Proxy {
        &self.0
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        self.offering(Some(basic("ci", TOKEN)), host, http2).await
    }

    async fn stranger(&self) -> String {
        self.offering(None, "api.test", false).await.err().unwrap()
    }
}

table!(Connect);
