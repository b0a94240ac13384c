//! A way in whose way out leads through a parent proxy: another Keyferry, which alone knows where the names lead.

use super::Way;
use crate::rig::agent::Http;
use crate::rig::netns::Networks;
use crate::rig::proxy::{Proxy, Rig};

/// The way, and the parent behind it.
pub struct Parented<W> {
    way: W,
    _parent: Proxy,
}

impl<W: Way> Way for Parented<W> {
    const NAME: &'static str = W::NAME;
    const DENIED: &'static str = W::DENIED;

    fn enter() -> Option<Networks> {
        W::enter()
    }

    async fn start(mut rig: Rig, networks: Option<Networks>) -> Self {
        let parent = rig.hand_names_to_a_parent().serve().await;
        let rig = rig.upstream(&format!("parent: \"http://{}\"", parent.address));
        Self {
            way: W::start(rig, networks).await,
            _parent: parent,
        }
    }

    fn proxy(&self) -> &Proxy {
        self.way.proxy()
    }

    async fn http(&self, host: &str, http2: bool) -> Result<Http, String> {
        self.way.http(host, http2).await
    }

    async fn stranger(&self) -> String {
        self.way.stranger().await
    }

    fn url(&self, host: &str, path: &str) -> String {
        self.way.url(host, path)
    }

    fn elsewhere(&self, url: &str) -> String {
        self.way.elsewhere(url)
    }
}
