//! Attacks on the proxy's time, memory and room, from an agent and from an upstream: each meets a bound of its own,
//! memory stays flat under all of them, and an honest agent is served meanwhile.

#![allow(clippy::excessive_nesting, reason = "tables of attacks, tried on many connections")]

mod agent2;
mod early;
mod given_up;
mod names;
mod origin1;
mod origin2;
mod room;
mod slow;
mod untaken;

use crate::rig::agent::{Agent, get};
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::soon;
use std::time::Duration;

/// Memory that an attack may add to the proxy while it lasts, where a test does not say otherwise. What is bounded here
/// are buffers of some hundred kilobytes for each of a few dozen connections; what a missing bound lets in is all that
/// the attacker cares to send.
pub const FLAT: u64 = 48 << 20;

/// A proxy between two agents and an honest origin. One of the agents is hostile.
pub struct Siege {
    pub proxy: Proxy,
    pub origin: Origin,
    /// Asks for one thing after the other, and is to be answered.
    pub honest: Agent,
    pub hostile: Agent,
}

impl Siege {
    /// A proxy with these `limits`, in YAML flow style without braces.
    pub async fn under(limits: &str) -> Self {
        Self::with(limits, async |rig, _| rig).await
    }

    /// The same with what `more` adds to its configuration.
    pub async fn with(limits: &str, more: impl AsyncFnOnce(Rig, &Root) -> Rig) -> Self {
        let root = Root::new();
        let origin = Origin::start(&root, "api.test").await;
        let rig = Rig::new(&root)
            .reach(&origin)
            .secret("HONEST", "honest-token-5b1d7c")
            .secret("HOSTILE", "hostile-token-93ae02")
            .config("agents: { honest: { token: honest }, hostile: { token: hostile } }")
            .config(&format!("limits: {{ {limits} }}"))
            .rule("host: api.test");
        let proxy = more(rig, &root).await.serve().await;
        let agent = |token: &str| Agent {
            offer: Some(format!("Bearer {token}")),
            ..proxy.agent.clone()
        };
        Self {
            honest: agent("honest-token-5b1d7c"),
            hostile: agent("hostile-token-93ae02"),
            proxy,
            origin,
        }
    }

    /// Lets the attack run. All the while the honest agent makes one connection after the other, and each of its
    /// requests is answered; and the proxy does not grow by more than `flat` bytes.
    #[expect(clippy::print_stdout, reason = "the figure in SECURITY.md is read off here")]
    pub async fn withstands<T>(&self, flat: u64, attack: impl Future<Output = T>) -> T {
        // What a first request sets up is not the attack's.
        self.serves().await;
        let before = self.proxy.child.resident();
        let most = std::cell::Cell::new(before);
        let look = || most.set(most.get().max(self.proxy.child.resident()));
        let honest = async {
            loop {
                self.serves().await;
                look();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let outcome = tokio::select! {
            outcome = attack => outcome,
            () = honest => unreachable!("it serves for as long as it takes"),
        };
        look();
        self.serves().await;
        let grown = most.get() - before;
        let told = format!("{} KiB were added to {}", grown >> 10, before >> 10);
        println!("{told}");
        assert!(grown < flat, "{told}");
        outcome
    }

    /// The honest agent gets its answer, over HTTP/1.1 and HTTP/2.
    pub async fn serves(&self) {
        for http2 in [false, true] {
            let answered = async {
                let mut http = crate::fidelity::by(&self.honest, http2).await;
                http.reply(get("https://api.test/hello")).await
            };
            assert_eq!(soon("the honest agent's answer", answered).await.text(), "hello");
        }
    }
}

/// Runs the same attack on so many connections at once.
pub async fn on_each<T, F: Future<Output = T>>(count: usize, attack: impl Fn(usize) -> F) -> Vec<T> {
    futures_util::future::join_all((0..count).map(attack)).await
}
