//! The load: agents that go on until they are told to stop, and note what they saw.

use super::kinds::Kind;
use super::spelled::Spelled;
use super::tally::Tally;
use super::{honest, hostile};
use crate::rig::agent::{Agent, Http, Reply};
use crate::rig::origin::AnyBody;
use http::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What every agent of the load shares.
pub struct Load {
    /// One that shows its token and trusts Keyferry's CA.
    pub agent: Agent,
    /// One that trusts the upstreams, and Keyferry not.
    pub pinning: Agent,
    pub tally: Tally,
    pub spelled: Spelled,
    pub stop: AtomicBool,
    /// Between two exchanges of one agent.
    pub pause: Duration,
}

/// What agents stand in for the vendor's key with.
pub const STAND_IN: &str = "vk-soak-standin-0000000000000000";

impl Load {
    /// One agent of the load: the same thing again and again, which differs from its neighbours'.
    pub async fn go(self: Arc<Self>, at: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            match at % 25 {
                0 => honest::kept(&self, false).await,
                1 => honest::streams(&self).await,
                2 => honest::fresh(&self).await,
                3 => honest::absolute(&self).await,
                4 => honest::websocket(&self).await,
                5 => honest::events(&self).await,
                6 => honest::grpc(&self).await,
                7 => honest::upload(&self).await,
                8 => honest::download(&self).await,
                9 => honest::stand_in(&self).await,
                10 => honest::login(&self).await,
                11 => honest::tunnel(&self).await,
                12 => honest::kept(&self, true).await,
                13 => hostile::abandoned(&self).await,
                14 => hostile::denied(&self).await,
                15 => hostile::turned_away(&self).await,
                16 => hostile::malformed(&self).await,
                17 => hostile::unheard(&self).await,
                18 => hostile::misplaced(&self).await,
                19 | 20 => hostile::echo(&self).await,
                21 => hostile::broken(&self, "cut.test", Kind::Cut).await,
                22 => hostile::broken(&self, "stalled.test", Kind::Stalled).await,
                23 => hostile::broken(&self, "garbage.test", Kind::Garbage).await,
                _ => hostile::reset(&self).await,
            }
            self.rest().await;
        }
    }

    /// A moment for the others.
    pub async fn rest(&self) {
        tokio::time::sleep(self.pause).await;
    }

    /// A connection to `host`, of either protocol.
    pub async fn http(&self, host: &str, http2: bool) -> Http {
        if http2 {
            self.agent.h2(host).await
        } else {
            self.agent.h1(host).await
        }
    }

    /// One exchange that is answered whole: what it was answered is noted, and holds no secret.
    pub async fn ask(
        &self,
        http: &mut Http,
        kind: Kind,
        host: &str,
        request: impl FnOnce(&str) -> Request<AnyBody>,
    ) -> Option<Reply> {
        let (number, url) = self.url(kind, host);
        let response = match http.send(request(&url)).await {
            Ok(response) => response,
            Err(error) => return self.failed(kind, number, &error),
        };
        match Reply::read(response).await {
            Ok(reply) => {
                self.tally.saw(kind, number, reply.status.as_u16(), reply.code());
                self.search(kind, &reply);
                Some(reply)
            }
            Err(error) => self.failed(kind, number, &error),
        }
    }

    /// A number, and the URL that has it.
    pub fn url(&self, kind: Kind, host: &str) -> (usize, String) {
        let number = self.tally.begin(kind);
        (number, format!("https://{host}/{}/{number}", kind.name()))
    }

    /// Holds that an answer is the one an honest agent should get.
    pub fn well(&self, kind: Kind, reply: Option<Reply>, well: impl FnOnce(&Reply) -> bool) {
        if let Some(reply) = reply
            && !(reply.status == 200 && well(&reply))
        {
            let text: String = reply.text().chars().take(300).collect();
            self.tally.fail(format!("{}: {} {text}", kind.name(), reply.status));
        }
    }

    /// Holds that nothing of an answer tells a secret.
    pub fn search(&self, kind: Kind, reply: &Reply) {
        let heads = format!("{:?} {:?}", reply.headers, reply.trailers);
        self.hide(kind.name(), heads.as_bytes());
        self.hide(kind.name(), &reply.body);
    }

    /// Holds that no secret stands in what somebody was told.
    pub fn hide(&self, whom: &str, told: &[u8]) {
        if let Some(around) = self.spelled.told(told) {
            self.tally.fail(format!("{whom} is told a secret: …{around}…"));
        }
    }

    fn failed<T>(&self, kind: Kind, number: usize, error: &hyper::Error) -> Option<T> {
        self.tally.fail(format!("{} {number} failed: {error:?}", kind.name()));
        None
    }
}
