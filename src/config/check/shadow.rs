//! Rules that can never match, as an earlier one takes all they speak of.

use crate::base::glob::{HostGlob, HostPattern};
use crate::base::host::Host;
use crate::base::ids::AgentId;
use crate::config::model::Rule;
use crate::config::place::Place;
use crate::config::read::Findings;
use std::collections::HashMap;
use std::sync::Arc;

/// What earlier rules take whole: every method and path of a host.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    taken: HashMap<Key, Arc<str>>,
}

/// A host pattern in words, its port, and the agents it is taken for.
type Key = (String, Option<u16>, Option<Vec<AgentId>>);

impl Shadows {
    /// Notes what `rule` takes, and warns when nothing is left for it.
    pub(super) fn add(&mut self, rule: &Rule, place: Place, found: &mut Findings<'_>) {
        let by: Option<Vec<&Arc<str>>> = rule.hosts.iter().map(|h| self.taker(h, &rule.agents)).collect();
        if let Some(first) = by.as_ref().and_then(|by| by.first()) {
            found
                .warn(
                    place,
                    format!("rule `{}` never matches: `{first}` takes all it speaks of", rule.name),
                )
                .hint(format!("put it above `{first}`, or take it out"));
        }
        if rule.allow.is_some() {
            return;
        }
        for host in &rule.hosts {
            let key = (words(&host.host), host.port, rule.agents.clone());
            self.taken.entry(key).or_insert_with(|| Arc::clone(&rule.name));
        }
    }

    fn taker(&self, pattern: &HostPattern, agents: &Option<Vec<AgentId>>) -> Option<&Arc<str>> {
        let name = match &pattern.host {
            HostGlob::Exact(Host::Name(name)) => Some(&**name),
            HostGlob::Below(suffix) => Some(suffix.as_str()),
            _ => None,
        };
        let parents = name.into_iter().flat_map(|name| {
            std::iter::successors(name.split_once('.'), |(_, tail)| tail.split_once('.'))
                .map(|(_, tail)| format!("*.{tail}"))
        });
        let wider = [words(&pattern.host), "*".to_owned()].into_iter().chain(parents);
        let asked = |agents: &Option<Vec<AgentId>>, host: &String| {
            self.taken.get(&(host.clone(), pattern.port, agents.clone()))
        };
        wider
            .flat_map(|host| [asked(&None, &host), asked(agents, &host)])
            .flatten()
            .next()
    }
}

fn words(host: &HostGlob) -> String {
    match host {
        HostGlob::Any => "*".to_owned(),
        HostGlob::Exact(host) => host.to_string(),
        HostGlob::Below(suffix) => format!("*.{suffix}"),
        HostGlob::Inner(glob) => glob.clone(),
    }
}
