//! What one configuration is made into, and the swap to the next on reload.

use super::fault::Fault;
use super::lobby::Lobby;
use super::share::{Share, Taken};
use crate::audit::Log;
use crate::base::budget::Budget;
use crate::base::ids::AgentId;
use crate::base::tasks::Tasks;
use crate::ca::leaves::Leaves;
use crate::config::Config;
use crate::front::gateway::Gateway;
use crate::identity::Identity;
use crate::inject::{Captured, Injector, StandIns};
use crate::metrics::{Metrics, RuleMetrics};
use crate::net::Upstream;
use crate::policy::Policy;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// One configuration, ready for use. Replaced whole or not at all.
#[derive(Debug)]
pub struct Live {
    /// Counts up with every reload.
    pub generation: u64,
    /// The configuration itself.
    pub config: Arc<Config>,
    /// Who may ask.
    pub identity: Identity,
    /// What they may ask for.
    pub policy: Policy,
    /// What is added.
    pub injector: Injector,
    /// The tokens of agents' own logins.
    pub captured: Arc<Captured>,
    /// What agents hold instead.
    pub stand_ins: Arc<StandIns>,
    /// The way out.
    pub upstream: Arc<Upstream>,
    /// The base URLs of upstreams.
    pub gateway: Arc<Gateway>,
    /// Counters, by rule.
    pub rules: Vec<Arc<RuleMetrics>>,
    /// What each agent takes up, by agent.
    pub shares: Vec<Arc<Share>>,
}

/// The data path. One for the whole program, shared by every connection.
#[derive(Debug)]
pub struct Proxy {
    live: ArcSwap<Live>,
    generation: watch::Sender<u64>,
    /// Whether another process takes the connections that come from now on.
    succeeded: AtomicBool,
    /// Certificates for the agents' side.
    pub leaves: Arc<Leaves>,
    /// Where records go.
    pub log: Log,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The tasks that serve agents.
    pub tasks: Tasks,
    /// Connections of which it is not known yet whose they are.
    pub lobby: Arc<Lobby>,
}

impl Proxy {
    /// Puts the parts together.
    pub fn new(live: Live, leaves: Arc<Leaves>, log: Log, metrics: Arc<Metrics>, tasks: Tasks, lobby: Lobby) -> Self {
        let generation = watch::Sender::new(live.generation);
        Self {
            live: ArcSwap::from_pointee(live),
            generation,
            succeeded: AtomicBool::new(false),
            leaves,
            log,
            metrics,
            tasks,
            lobby: Arc::new(lobby),
        }
    }

    /// The configuration in force now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Puts another configuration in force: the next request is judged by it, and open tunnels
    /// look whether they may stand.
    pub fn replace(&self, live: Live) {
        let generation = live.generation;
        self.live.store(Arc::new(live));
        self.generation.send_replace(generation);
    }

    /// Another process accepts in this one's place. So those who connected here meanwhile are heard, although this one
    /// is about to stop: they would see a refusal where there is none.
    pub fn succeeded(&self) {
        self.succeeded.store(true, Ordering::SeqCst);
    }

    /// Whether nothing is begun any more, as the proxy stops and nobody follows it.
    pub fn is_closing(&self) -> bool {
        self.tasks.is_stopping() && !self.succeeded.load(Ordering::SeqCst)
    }

    /// Resolves once nothing is begun any more.
    async fn closing(&self) {
        self.tasks.stopping().await;
        if !self.is_closing() {
            std::future::pending().await
        }
    }

    /// Resolves when a connection on which nothing is asked for is to end: at a stop, but where another process
    /// follows not before `asked`, or the time for it is up.
    pub async fn leaving(&self, asked: &Notify) {
        self.tasks.stopping().await;
        if !self.is_closing() {
            let head_time = self.live().config.limits.head_time;
            let _ = tokio::time::timeout(head_time, asked.notified()).await;
        }
    }

    /// Waits for the first words on a connection: not for ever, and not while closing.
    pub async fn first<T>(&self, time: Duration, words: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            said = tokio::time::timeout(time, words) => said.ok(),
            () = self.closing() => None,
        }
    }

    /// Tells when another configuration came into force.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl Live {
    /// The agent of that name.
    pub fn agent_named(&self, name: &str) -> Option<AgentId> {
        let at = self.config.agents.iter().position(|agent| &*agent.name == name)?;
        u32::try_from(at).ok().map(AgentId)
    }

    /// A place among the agent's connections.
    ///
    /// # Errors
    /// When it has as many as it may have.
    pub fn connection_of(&self, agent: AgentId) -> Result<Option<Taken>, Fault> {
        let share = self.shares.get(agent.index());
        share
            .map(|share| share.connection(self.config.limits.agent_connections))
            .transpose()
    }

    /// A place among the agent's requests.
    ///
    /// # Errors
    /// When it has as many as it may have.
    pub fn request_of(&self, agent: AgentId) -> Result<Option<Taken>, Fault> {
        let share = self.shares.get(agent.index());
        share
            .map(|share| share.request(self.config.limits.agent_requests))
            .transpose()
    }

    /// What bodies of the agent's exchanges may take of memory.
    pub fn memory_of(&self, agent: AgentId) -> Budget {
        let share = self.shares.get(agent.index());
        share.map_or_else(|| Budget::new(0), |share| share.memory().clone())
    }

    /// The agent's name.
    pub fn agent_name(&self, id: AgentId) -> Option<Arc<str>> {
        self.config.agent(id).map(|agent| Arc::clone(&agent.name))
    }
}
