//! From a checked configuration to the live parts of the data path.

use crate::admin::Status;
use crate::base::ids::SecretId;
use crate::base::secret::IsToken;
use crate::base::shape::placeholder_like;
use crate::base::tasks::Tasks;
use crate::config::Config;
use crate::config::model::{Action, Inject, Rule};
use crate::front::gateway::Gateway;
use crate::identity::Identity;
use crate::inject::{Captured, Injector, StandIns, login};
use crate::metrics::Metrics;
use crate::net::Upstream;
use crate::policy::Policy;
use crate::proxy::Live;
use crate::proxy::share::Shares;
use crate::store::{Store, StoreOptions};
use anyhow::{Result, bail};
use aws_lc_rs::digest;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What stays the same from one configuration to the next.
#[derive(Debug)]
pub struct Surroundings {
    /// Keyferry's own directory.
    pub data_dir: PathBuf,
    /// Where stand-ins come from.
    pub seed: Vec<u8>,
    /// Addresses Keyferry listens on, never dialled.
    pub own: Vec<SocketAddr>,
    /// Tasks that serve no agent: upstream connections, watching.
    pub background: Tasks,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What each agent takes up.
    pub shares: Shares,
    /// The tokens of agents' own logins.
    pub captured: Arc<Captured>,
}

/// Builds all that `config` asks for, or nothing.
///
/// # Errors
/// Every secret that is missing, or roots that cannot be read.
pub async fn live(
    config: Arc<Config>,
    around: &Surroundings,
    generation: u64,
    previous: Option<Store>,
) -> Result<(Live, Store)> {
    let metrics = Arc::clone(&around.metrics);
    let mut options = StoreOptions::new(&around.data_dir);
    options.previous = previous;
    options.on_fetch = Some(Arc::new(move |name, had| {
        let fetch = if had {
            crate::metrics::Fetch::Ok
        } else {
            crate::metrics::Fetch::Failed
        };
        metrics.secret_fetched(name, fetch);
    }));
    let store = match Store::open(&config.secrets, options, &around.background) {
        Ok(store) => store,
        Err(missing) => bail!(
            "{}",
            missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        ),
    };
    let upstream = Arc::new(Upstream::new(
        &config,
        around.own.clone(),
        login::logins(&store),
        around.background.clone(),
    )?);
    store.reach(&upstream);
    around
        .background
        .spawn(Upstream::tend(Arc::downgrade(&upstream), around.background.clone()));
    around.captured.load(&kept_logins(&config)).await?;
    let stand_ins = Arc::new(stand_ins(&config, &store, &around.seed).await);
    let token = |id| token_test(&store, id);
    let live = Live {
        generation,
        identity: Identity::new(&config, token)?,
        policy: Policy::new(&config),
        gateway: Arc::new(Gateway::new(&config)),
        injector: Injector::new(
            &config,
            Arc::new(store.clone()),
            Arc::clone(&stand_ins),
            Arc::clone(&around.captured),
        ),
        captured: Arc::clone(&around.captured),
        stand_ins,
        upstream,
        rules: config
            .rules
            .iter()
            .map(|rule| around.metrics.for_rule(&rule.name))
            .collect(),
        shares: around.shares.of(
            config.agents.iter().map(|agent| Arc::clone(&agent.name)),
            config.limits.bodies,
        ),
        config,
    };
    Ok((live, store))
}

/// The logins whose tokens are in the encrypted file.
fn kept_logins(config: &Config) -> Vec<Arc<str>> {
    let captures = config.rules.iter().filter_map(Rule::capture);
    captures
        .filter(|capture| capture.keep)
        .map(|capture| Arc::clone(&capture.login))
        .collect()
}

/// The test for a token that is a secret, asking the store anew each time.
pub fn token_test(store: &Store, id: SecretId) -> IsToken {
    let store = store.clone();
    IsToken::new(move |offered| store.current(id).is_some_and(|held| held.secret.matches(offered)))
}

/// What the operator's listener tells of a configuration.
pub fn status(config: &Config, listen: Vec<String>) -> Status {
    let digest = digest::digest(&digest::SHA256, format!("{config:?}").as_bytes());
    Status {
        fingerprint: digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect(),
        rules: config.rules.iter().map(|rule| Arc::clone(&rule.name)).collect(),
        agents: config.agents.iter().map(|agent| Arc::clone(&agent.name)).collect(),
        listen,
    }
}

/// A stand-in for each secret that agents hold one of: as configured, or made in its shape.
async fn stand_ins(config: &Config, store: &Store, seed: &[u8]) -> StandIns {
    let mut by_secret: Vec<Option<Arc<str>>> = Vec::with_capacity(config.secrets.len());
    for (spec, at) in config.secrets.iter().zip(0..) {
        let id = SecretId(at);
        by_secret.push(match &spec.placeholder {
            Some(placeholder) => Some(placeholder.as_str().into()),
            None if !spec.agent_env.is_empty() || is_swapped(config, id) => match store.get(id).await {
                Ok(held) => Some(placeholder_like(&held.secret, &spec.name, seed).into()),
                Err(error) => {
                    tracing::warn!("no placeholder can be made yet: {error}");
                    None
                }
            },
            None => None,
        });
    }
    let names = config.secrets.iter().map(|secret| Arc::clone(&secret.name)).collect();
    StandIns::new(names, by_secret)
}

fn is_swapped(config: &Config, id: SecretId) -> bool {
    let actions = config.rules.iter().map(|rule| &rule.action);
    let injects = actions.filter_map(|action| match action {
        Action::Intercept { inject, .. } => Some(inject),
        Action::Deny { .. } | Action::Tunnel => None,
    });
    injects
        .flatten()
        .any(|one| matches!(one, Inject::Placeholder { secret, .. } if *secret == id))
}
