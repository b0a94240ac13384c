//! From agent and ask to a decision: first match wins, nothing matched is denied.

use super::limit::{Held, Limiter, Over};
use super::permitted::{Named, Passage, Permitted};
use crate::base::ask::Ask;
use crate::base::body::Body;
use crate::base::glob::HostMap;
use crate::base::host::{Host, Target};
use crate::base::ids::{AgentId, RuleId, SecretId};
use crate::config::Config;
use crate::config::model::{Action, Inject, Rate, Rule, RuleLimits};
use http::Request;
use std::sync::Arc;
use std::time::Duration;

/// The rules, ready to be asked. A decision costs what the host has labels and rules of its own,
/// however many rules there are in all.
#[derive(Debug)]
pub struct Policy {
    hosts: HostMap<u32>,
    rules: Vec<Ready>,
    /// The ports that rules speak of.
    ports: Vec<u16>,
    /// How often an agent may ask for names.
    questions: Option<Limiter>,
}

/// DNS questions of one agent: as many at once, and a tenth of that each second. Opening a connection takes two or three.
const QUESTIONS: Rate = Rate {
    count: 1000,
    per: Duration::from_secs(10),
};
/// Of those, such as wait for an answer.
const WAITING: u32 = 16;

#[derive(Debug)]
struct Ready {
    rule: Arc<Rule>,
    inject: Arc<[Inject]>,
    /// What it may give.
    secrets: Arc<[SecretId]>,
    /// The logins whose tokens it may give.
    logins: Arc<[Arc<str>]>,
    limiter: Option<Limiter>,
}

/// What may happen to a connection towards a target, before any request is seen.
#[derive(Debug)]
pub enum Reach {
    /// Bytes may pass unread.
    Tunnel(Passage),
    /// Decrypt, then judge each request.
    Intercept,
}

/// Why something was not allowed, for the agent to read: nothing here is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No rule speaks of the host.
    #[error("no rule allows {target}")]
    Host {
        /// Where it wanted to go.
        target: Target,
    },
    /// Rules speak of the host, but none of them for this agent.
    #[error("no rule allows this agent to reach {target}")]
    Agent {
        /// Where it wanted to go.
        target: Target,
    },
    /// Rules speak of the host, but none of this method and path.
    #[error("rule `{rule}` does not allow {method} on this path of {target}")]
    Request {
        /// The first rule for the host.
        rule: Arc<str>,
        /// The method asked for.
        method: String,
        /// Where it wanted to go.
        target: Target,
        /// What that rule allows.
        allowed: Vec<String>,
    },
    /// The path can be read in two ways, and the rules for the host speak of paths.
    #[error("the path can be read in more than one way, and rule `{rule}` allows only certain paths")]
    Path {
        /// The rule that speaks of paths.
        rule: Arc<str>,
    },
    /// A rule says no.
    #[error("rule `{rule}` denies {target}{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Rule {
        /// Its name.
        rule: Arc<str>,
        /// Where it wanted to go.
        target: Target,
        /// The operator's words.
        reason: Option<String>,
    },
    /// The rule allows it, but not so often.
    #[error("rule `{rule}` allows only so many {what}")]
    Limit {
        /// Its name.
        rule: Arc<str>,
        /// Which limit.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The target is for tunnels only: the connection was made before the rules changed.
    #[error("rule `{rule}` allows only an opaque tunnel to {target}")]
    Opaque {
        /// Its name.
        rule: Arc<str>,
        /// Where it wanted to go.
        target: Target,
    },
}

impl Denied {
    /// The rule that said no, if one did.
    pub fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::Host { .. } | Self::Agent { .. } => None,
            Self::Request { rule, .. }
            | Self::Path { rule }
            | Self::Rule { rule, .. }
            | Self::Limit { rule, .. }
            | Self::Opaque { rule, .. } => Some(rule),
        }
    }
}

impl Policy {
    /// Takes the rules of `config`.
    pub fn new(config: &Config) -> Self {
        let mut hosts = HostMap::default();
        let rules = config.rules.iter().zip(0..).map(|(rule, at)| {
            for pattern in &rule.hosts {
                hosts.insert(pattern, at);
            }
            Ready::new(rule, config.agents.len())
        });
        let rules = rules.collect();
        let named = config.rules.iter().flat_map(|rule| &rule.hosts);
        let mut ports: Vec<u16> = named.filter_map(|pattern| pattern.port).chain([443, 80]).collect();
        ports.sort_unstable_by_key(|port| (*port != 443, *port));
        ports.dedup();
        let questions = RuleLimits {
            rate: Some(QUESTIONS),
            concurrent: Some(WAITING),
            ..RuleLimits::default()
        };
        Self {
            hosts,
            rules,
            ports,
            questions: Limiter::new(&questions, config.agents.len()),
        }
    }

    /// A place among this agent's questions, unless it asks too often or too much at one time.
    pub fn question(&self, agent: AgentId) -> Option<Held> {
        self.questions.as_ref()?.admit(agent.index()).ok()
    }

    /// Whether this agent may know where `host` is: some rule lets it be reached, on whatever port.
    ///
    /// # Errors
    /// When none does; why it does not on the first port, which is 443.
    pub fn name(&self, agent: AgentId, host: &Host) -> Result<Named, Denied> {
        let mut first = None;
        for port in &self.ports {
            match self.allows_some(agent, &Target::new(host.clone(), *port)) {
                Ok(()) => return Ok(Named(host.clone())),
                Err(denied) => {
                    first.get_or_insert(denied);
                }
            }
        }
        Err(first.unwrap_or_else(|| unmatched(false, &Target::new(host.clone(), 443))))
    }

    /// Whether some rule allows this agent anything there, before one denies all.
    fn allows_some(&self, agent: AgentId, target: &Target) -> Result<(), Denied> {
        let known = self.hosts.lookup(target);
        for (_, ready) in self.rules_of(&known).filter(|(_, ready)| ready.rule.speaks_to(agent)) {
            match &ready.rule.action {
                Action::Deny { .. } if ready.rule.allow.is_some() => {}
                Action::Deny { reason } => return Err(ready.denies(target, reason.as_ref())),
                Action::Intercept { .. } | Action::Tunnel => return Ok(()),
            }
        }
        Err(unmatched(!known.is_empty(), target))
    }

    /// What may happen to a connection of `agent` to `target`.
    ///
    /// The first rule for host and agent decides, except that a request not listed by an
    /// intercepting rule may still be allowed by a later one, which only the request can tell.
    ///
    /// # Errors
    /// When no rule lets this agent reach the target.
    pub fn reach(&self, agent: AgentId, target: &Target) -> Result<Reach, Denied> {
        let mut known = false;
        for (_, ready) in self.rules_of(&self.hosts.lookup(target)) {
            known = true;
            let rule = &ready.rule;
            if !rule.speaks_to(agent) {
                continue;
            }
            return match &rule.action {
                Action::Deny { reason } if rule.allow.is_none() => Err(ready.denies(target, reason.as_ref())),
                Action::Deny { .. } | Action::Intercept { .. } => Ok(Reach::Intercept),
                Action::Tunnel => {
                    let held = ready.admit(agent)?;
                    Ok(Reach::Tunnel(Passage {
                        target: target.clone(),
                        rule: Arc::clone(rule),
                        held,
                    }))
                }
            };
        }
        Err(unmatched(known, target))
    }

    /// Judges one request. The only way to a [`Permitted`].
    ///
    /// # Errors
    /// When no rule allows it, or one denies it, or it goes over a rule's limits.
    pub fn permit(&self, agent: AgentId, ask: &Ask, request: Request<Body>) -> Result<Permitted, Denied> {
        let known = self.hosts.lookup(&ask.target);
        let (id, ready) = self.judge(agent, ask, &known)?;
        let (inject, plaintext, strays) = match &ready.rule.action {
            Action::Intercept { plaintext, strays, .. } => (Arc::clone(&ready.inject), *plaintext, *strays),
            Action::Deny { reason } => return Err(ready.denies(&ask.target, reason.as_ref())),
            Action::Tunnel => {
                return Err(Denied::Opaque {
                    rule: Arc::clone(&ready.rule.name),
                    target: ask.target.clone(),
                });
            }
        };
        let held = ready.admit(agent)?;
        let rule = Arc::clone(&ready.rule);
        Ok(Permitted {
            agent,
            target: ask.target.clone(),
            scheme: ask.scheme,
            request: Box::new(request),
            id,
            rule,
            inject,
            plaintext,
            strays,
            watched: self.watched(&known),
            logins: self.logins(&known),
            asking: self.asking(&known),
            held,
        })
    }

    /// The rule that decides over `ask`, whatever it decides; limits are not counted. What
    /// `keyferry explain` shows.
    ///
    /// # Errors
    /// When no rule matches.
    pub fn explain(&self, agent: AgentId, ask: &Ask) -> Result<(RuleId, &Rule), Denied> {
        let (id, ready) = self.judge(agent, ask, &self.hosts.lookup(&ask.target))?;
        Ok((id, &ready.rule))
    }

    fn judge(&self, agent: AgentId, ask: &Ask, known: &[u32]) -> Result<(RuleId, &Ready), Denied> {
        let mut nearest: Option<&Rule> = None;
        for (id, ready) in self.rules_of(known) {
            let rule = &*ready.rule;
            if !rule.speaks_to(agent) {
                continue;
            }
            let Some(allow) = &rule.allow else {
                return Ok((id, ready));
            };
            // A path with two meanings matches nothing: not this rule, and no later one either, for
            // one that denies might have been meant for it.
            let Some(path) = &ask.path else {
                return Err(Denied::Path {
                    rule: Arc::clone(&rule.name),
                });
            };
            let mut methods = std::iter::once(&ask.method).chain(&ask.overrides);
            if matches!(rule.action, Action::Deny { .. }) {
                if methods.any(|m| allow.iter().any(|a| a.forbids(m.as_str(), path))) {
                    return Ok((id, ready));
                }
                // It says what is forbidden, not what is allowed.
                continue;
            }
            if methods.all(|m| allow.iter().any(|a| a.matches(m.as_str(), path))) {
                return Ok((id, ready));
            }
            nearest = nearest.or(Some(rule));
        }
        Err(match nearest {
            Some(rule) => Denied::Request {
                rule: Arc::clone(&rule.name),
                method: ask.overrides.first().unwrap_or(&ask.method).to_string(),
                target: ask.target.clone(),
                allowed: rule.allow.iter().flatten().map(|a| a.text().to_owned()).collect(),
            },
            None => unmatched(!known.is_empty(), &ask.target),
        })
    }

    /// What any rule for this host may give it, whoever asks.
    fn watched(&self, known: &[u32]) -> Arc<[SecretId]> {
        let rules = self.rules_of(known).map(|(_, ready)| &ready.secrets);
        let mut giving = rules.filter(|secrets| !secrets.is_empty());
        let Some(first) = giving.next() else {
            return Arc::default();
        };
        let mut all: Option<Vec<SecretId>> = None;
        for more in giving.filter(|more| *more != first) {
            all.get_or_insert_with(|| first.to_vec()).extend_from_slice(more);
        }
        let Some(mut all) = all else { return Arc::clone(first) };
        all.sort_unstable();
        all.dedup();
        all.into()
    }

    /// The logins whose tokens any rule for this host may give it.
    fn logins(&self, known: &[u32]) -> Arc<[Arc<str>]> {
        let mut all: Vec<Arc<str>> = Vec::new();
        for login in self.rules_of(known).flat_map(|(_, ready)| &*ready.logins) {
            if !all.contains(login) {
                all.push(Arc::clone(login));
            }
        }
        if all.is_empty() { Arc::default() } else { all.into() }
    }

    /// The rules for this host that ask a program.
    fn asking(&self, known: &[u32]) -> Arc<[RuleId]> {
        let asks = |ready: &Ready| ready.inject.iter().any(|one| matches!(one, Inject::Program(_)));
        let asking = self.rules_of(known).filter(|(_, ready)| asks(ready)).map(|(id, _)| id);
        let asking: Vec<RuleId> = asking.collect();
        if asking.is_empty() {
            Arc::default()
        } else {
            asking.into()
        }
    }

    /// The rules of a host, as [`HostMap::lookup`] has them.
    fn rules_of(&self, known: &[u32]) -> impl Iterator<Item = (RuleId, &Ready)> {
        let rules = known.iter();
        rules.filter_map(|at| self.rules.get(*at as usize).map(|ready| (RuleId(*at), ready)))
    }
}

impl Ready {
    fn new(rule: &Rule, agents: usize) -> Self {
        let inject: Arc<[Inject]> = match &rule.action {
            Action::Intercept { inject, .. } => inject.as_slice().into(),
            Action::Deny { .. } | Action::Tunnel => Arc::default(),
        };
        let mut secrets: Vec<SecretId> = inject.iter().flat_map(Inject::secrets).collect();
        secrets.sort_unstable();
        secrets.dedup();
        let logins = inject.iter().filter_map(|one| match one {
            Inject::Login { login, .. } => Some(Arc::clone(login)),
            _ => None,
        });
        let logins = logins.collect();
        Self {
            rule: Arc::new(rule.clone()),
            secrets: secrets.into(),
            logins,
            inject,
            limiter: Limiter::new(&rule.limits, agents),
        }
    }

    fn admit(&self, agent: AgentId) -> Result<Held, Denied> {
        let Some(limiter) = &self.limiter else {
            return Ok(Held::default());
        };
        let rule = || Arc::clone(&self.rule.name);
        limiter
            .admit(agent.index())
            .map_err(|Over { retry_after, what }| Denied::Limit {
                rule: rule(),
                what,
                retry_after,
            })
    }

    fn denies(&self, target: &Target, reason: Option<&String>) -> Denied {
        Denied::Rule {
            rule: Arc::clone(&self.rule.name),
            target: target.clone(),
            reason: reason.cloned(),
        }
    }
}

impl Rule {
    fn speaks_to(&self, agent: AgentId) -> bool {
        self.agents.as_ref().is_none_or(|agents| agents.contains(&agent))
    }
}

fn unmatched(known: bool, target: &Target) -> Denied {
    let target = target.clone();
    if known {
        Denied::Agent { target }
    } else {
        Denied::Host { target }
    }
}
