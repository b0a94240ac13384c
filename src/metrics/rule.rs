//! One rule's counters.

use super::{Error, add};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// One rule's counters, found once and then used without a lookup.
#[derive(Debug)]
pub struct RuleMetrics {
    /// Requests that went through.
    pub ok: IntCounter,
    /// Requests refused.
    pub denied: IntCounter,
    /// Requests that broke.
    pub failed: IntCounter,
    /// Body bytes from agents.
    pub bytes_in: IntCounter,
    /// Body bytes to agents.
    pub bytes_out: IntCounter,
    /// Traces of credentials removed from replies.
    pub scrubbed: IntCounter,
}

/// What a rule's counters stand at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleCounts {
    /// Requests that went through.
    pub ok: u64,
    /// Requests refused.
    pub denied: u64,
    /// Requests that broke.
    pub failed: u64,
}

impl RuleMetrics {
    /// What the counters stand at.
    pub fn counts(&self) -> RuleCounts {
        RuleCounts {
            ok: self.ok.get(),
            denied: self.denied.get(),
            failed: self.failed.get(),
        }
    }
}

#[derive(Debug)]
pub(super) struct RuleFamilies {
    requests: IntCounterVec,
    bytes: IntCounterVec,
    scrubbed: IntCounterVec,
}

impl RuleFamilies {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        let family = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, Error> {
            add(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        Ok(Self {
            requests: family(
                "keyferry_requests_total",
                "Requests, by rule and how they ended",
                &["rule", "outcome"],
            )?,
            bytes: family(
                "keyferry_bytes_total",
                "Body bytes, in from agents and out to them",
                &["rule", "direction"],
            )?,
            scrubbed: family(
                "keyferry_scrubbed_total",
                "Traces of credentials removed from replies",
                &["rule"],
            )?,
        })
    }

    pub(super) fn rule(&self, name: &str) -> RuleMetrics {
        RuleMetrics {
            ok: self.requests.with_label_values(&[name, "ok"]),
            denied: self.requests.with_label_values(&[name, "denied"]),
            failed: self.requests.with_label_values(&[name, "failed"]),
            bytes_in: self.bytes.with_label_values(&[name, "in"]),
            bytes_out: self.bytes.with_label_values(&[name, "out"]),
            scrubbed: self.scrubbed.with_label_values(&[name]),
        }
    }
}
