//! Counters, in Prometheus' text format.
//!
//! Labels come from the config and from our own code, never from an agent, so there are only as
//! many series as those name. What runs for each request are handles made beforehand.

mod process;
mod rule;
mod secret;

pub use rule::{RuleCounts, RuleMetrics};

use parking_lot::RwLock;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use rule::RuleFamilies;
use secret::SecretFamilies;
use std::collections::HashMap;
use std::sync::Arc;

/// Why the counters could not be set up: a name of ours is used twice or is no metric name.
#[derive(Debug, thiserror::Error)]
#[error("the metrics could not be set up: {0}")]
pub struct Error(#[from] prometheus::Error);

/// Every counter of one running program.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: RuleFamilies,
    rules: RwLock<HashMap<Arc<str>, Arc<RuleMetrics>>>,
    process: process::Process,
    denied: IntCounterVec,
    failed: IntCounterVec,
    secrets: SecretFamilies,
    questions: IntCounterVec,
    build: IntGaugeVec,
    /// Connections from agents, now.
    pub connections: IntGauge,
    /// Connections from agents, ever.
    pub accepted: IntCounter,
    /// Exchanges under way.
    pub exchanges: IntGauge,
    /// TLS handshakes with agents that succeeded.
    pub handshakes: IntCounter,
    /// TLS handshakes with agents that failed.
    pub handshake_failures: IntCounter,
    /// Leaf certificates made.
    pub leaves_minted: IntGauge,
    /// Connections to upstreams opened.
    pub upstream_opened: IntCounter,
    /// Requests that went over a connection already open.
    pub upstream_reused: IntCounter,
    /// Audit records that were never written.
    pub audit_lost: IntGauge,
    /// Whether the audit log's last write failed.
    pub audit_failing: IntGauge,
    /// Successful reloads of the configuration.
    pub reloads: IntCounter,
    /// Reloads that were refused.
    pub reload_failures: IntCounter,
    /// From a request's head to the head of its response.
    pub first_byte: Histogram,
    /// From a request's head to the end of its response.
    pub total: Histogram,
}

/// How a secret's fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// A value came.
    Ok,
    /// None came.
    Failed,
}

/// How a DNS question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// With addresses, or with none of the kind asked for.
    Answered,
    /// No rule allows the name.
    Denied,
    /// Nothing of the kind is told.
    Refused,
    /// The agent asked too often, or too much was being looked up.
    Limited,
    /// Nobody knows who asked.
    Unknown,
    /// It made no sense.
    Malformed,
    /// It was allowed, and could not be looked up.
    Failed,
}

impl Told {
    const ALL: [(Self, &str); 7] = [
        (Self::Answered, "answered"),
        (Self::Denied, "denied"),
        (Self::Refused, "refused"),
        (Self::Limited, "limited"),
        (Self::Unknown, "unknown"),
        (Self::Malformed, "malformed"),
        (Self::Failed, "failed"),
    ];
}

impl Metrics {
    /// Sets up every counter at zero.
    ///
    /// # Errors
    /// When a name is used twice; a mistake of ours that the tests would show.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
            families: RuleFamilies::new(r)?,
            rules: RwLock::default(),
            process: process::Process::new(r)?,
            denied: counters(r, "keyferry_denials_total", "Requests refused, by code", "code")?,
            failed: counters(r, "keyferry_failures_total", "Requests that broke, by code", "code")?,
            secrets: SecretFamilies::new(r)?,
            questions: counters(r, "keyferry_dns_questions_total", "DNS questions, by answer", "answer")?,
            build: add(
                r,
                IntGaugeVec::new(Opts::new("keyferry_build_info", "Always 1"), &["version"])?,
            )?,
            connections: gauge(r, "keyferry_connections", "Connections from agents")?,
            accepted: counter(r, "keyferry_connections_total", "Connections from agents, ever")?,
            exchanges: gauge(r, "keyferry_exchanges", "Exchanges under way")?,
            handshakes: counter(r, "keyferry_handshakes_total", "TLS handshakes with agents")?,
            handshake_failures: counter(
                r,
                "keyferry_handshake_failures_total",
                "TLS handshakes with agents that failed",
            )?,
            leaves_minted: gauge(r, "keyferry_leaves_minted", "Leaf certificates made since the start")?,
            upstream_opened: counter(
                r,
                "keyferry_upstream_connections_total",
                "Connections to upstreams opened",
            )?,
            upstream_reused: counter(
                r,
                "keyferry_upstream_reuses_total",
                "Requests over a connection already open",
            )?,
            audit_lost: gauge(r, "keyferry_audit_lost", "Audit records never written, since the start")?,
            audit_failing: gauge(r, "keyferry_audit_failing", "1 while the audit log cannot be written")?,
            reloads: counter(r, "keyferry_reloads_total", "Configurations taken up")?,
            reload_failures: counter(r, "keyferry_reload_failures_total", "Configurations refused")?,
            first_byte: histogram(
                r,
                "keyferry_first_byte_seconds",
                "From a request's head to its response's head",
            )?,
            total: histogram(
                r,
                "keyferry_request_seconds",
                "From a request's head to its response's end",
            )?,
            registry,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// Series that are there before anything is counted.
    fn begin(&self) {
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for (_, answer) in Told::ALL {
            self.questions.with_label_values(&[answer]);
        }
    }

    /// The handle for one rule's counters; take it when the config is loaded, not for each request.
    /// The empty name stands for "no rule matched". Past [`MOST_RULES`] names, all others share
    /// one series, `(other)`.
    pub fn for_rule(&self, name: &str) -> Arc<RuleMetrics> {
        if let Some(known) = self.rules.read().get(name) {
            return Arc::clone(known);
        }
        let mut rules = self.rules.write();
        let name = if rules.len() < MOST_RULES || rules.contains_key(name) {
            name
        } else {
            "(other)"
        };
        let made = rules
            .entry(name.into())
            .or_insert_with(|| Arc::new(self.families.rule(name)));
        Arc::clone(made)
    }

    /// Counts a request that was refused. `code` must be one of our own.
    pub fn denied(&self, code: &'static str) {
        self.denied.with_label_values(&[code]).inc();
    }

    /// Counts a request that broke. `code` must be one of our own.
    pub fn failed(&self, code: &'static str) {
        self.failed.with_label_values(&[code]).inc();
    }

    /// Counts a DNS question.
    pub fn asked(&self, told: Told) {
        let answer = Told::ALL
            .iter()
            .find(|(one, _)| *one == told)
            .map(|(_, answer)| *answer);
        self.questions.with_label_values(&[answer.unwrap_or_default()]).inc();
    }

    /// Counts a try at a secret, by its name in the config. Past [`MOST_SECRETS`] names, all others share one series, `(other)`.
    pub fn secret_fetched(&self, name: &str, fetch: Fetch) {
        self.secrets.fetched(name, fetch);
    }

    /// Counts a connection from an agent until the answer is dropped.
    pub fn connected(&self) -> Active {
        self.accepted.inc();
        Active::new(&self.connections)
    }

    /// Counts an exchange until the answer is dropped.
    pub fn exchanging(&self) -> Active {
        Active::new(&self.exchanges)
    }

    /// Everything, in Prometheus' text format (version 0.0.4).
    ///
    /// # Errors
    /// When two metrics contradict each other; a mistake of ours that the tests would show.
    pub fn render(&self) -> Result<String, Error> {
        self.process.read();
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

/// Something that is under way until this is dropped.
#[derive(Debug)]
pub struct Active(IntGauge);

impl Active {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Rules with a series of their own.
pub const MOST_RULES: usize = 1000;

/// Secrets with series of their own.
pub const MOST_SECRETS: usize = 1000;

/// Seconds; from a cached answer next door to a model that thinks for minutes.
const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    add(registry, IntCounter::new(name, help)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    add(registry, IntGauge::new(name, help)?)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntCounterVec, Error> {
    add(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn histogram(registry: &Registry, name: &str, help: &str) -> Result<Histogram, Error> {
    let how = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
    add(registry, Histogram::with_opts(how)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
    use super::*;

    #[test]
    fn each_rule_counts_by_itself_and_keeps_its_handle() {
        let metrics = Metrics::new().unwrap();
        metrics.for_rule("github").ok.inc();
        metrics.for_rule("github").bytes_out.inc_by(7);
        metrics.for_rule("npm").denied.inc();
        let text = metrics.render().unwrap();
        for line in [
            r#"keyferry_requests_total{outcome="ok",rule="github"} 1"#,
            r#"keyferry_requests_total{outcome="denied",rule="npm"} 1"#,
            r#"keyferry_bytes_total{direction="out",rule="github"} 7"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(metrics.for_rule("github").counts().ok, 1);
    }

    #[test]
    fn names_past_the_bound_share_one_series() {
        let metrics = Metrics::new().unwrap();
        for number in 0..MOST_RULES + 50 {
            metrics.for_rule(&format!("rule {number}")).ok.inc();
        }
        let text = metrics.render().unwrap();
        assert!(text.contains(r#"keyferry_requests_total{outcome="ok",rule="(other)"} 50"#));
        assert_eq!(metrics.rules.read().len(), MOST_RULES + 1);
    }

    #[test]
    fn each_secret_counts_by_itself_up_to_a_bound() {
        let metrics = Metrics::new().unwrap();
        for number in 0..MOST_SECRETS + 3 {
            metrics.secret_fetched(&format!("secret {number}"), Fetch::Ok);
        }
        metrics.secret_fetched("secret 0", Fetch::Failed);
        let text = metrics.render().unwrap();
        for line in [
            r#"keyferry_secret_fetches_total{result="ok",secret="secret 0"} 1"#,
            r#"keyferry_secret_fetches_total{result="failed",secret="secret 0"} 1"#,
            r#"keyferry_secret_fetches_total{result="ok",secret="(other)"} 3"#,
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn a_connection_is_counted_until_it_is_dropped() {
        let metrics = Metrics::new().unwrap();
        let first = metrics.connected();
        let second = metrics.connected();
        assert_eq!(metrics.connections.get(), 2);
        drop((first, second));
        assert_eq!((metrics.connections.get(), metrics.accepted.get()), (0, 2));
    }

    #[test]
    fn the_process_tells_of_its_memory_and_files() {
        let metrics = Metrics::new().unwrap();
        let text = metrics.render().unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|l| l.starts_with(name)).expect(name);
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
        assert!(value("process_threads") >= 1.0);
    }
}
