//! Where audit records go.

use super::scope::Scope;
use crate::config::looks::shown;
use crate::config::model::{AuditSink, AuditSpec, WhenFull};
use crate::config::raw::{AuditMap, RawAudit, RawConfig};
use crate::config::read::Findings;

/// When a file is turned over, and how many old ones are kept, unless the config says otherwise.
const ROTATE_AT: u64 = 100 << 20;
const KEEP: u32 = 5;
/// A file turned over more often than this holds no useful stretch of time.
const LEAST_ROTATE: u64 = 64 << 10;
const MOST_KEPT: u32 = 10_000;

/// Checks `audit`; without it records go to a file in Keyferry's own directory.
pub(super) fn check(
    raw: Option<&RawAudit>,
    scope: &Scope<'_>,
    whole: &RawConfig,
    found: &mut Findings<'_>,
) -> Option<AuditSpec> {
    let sink = match raw {
        Some(RawAudit::Stdout) => AuditSink::Stdout,
        Some(RawAudit::None) => AuditSink::None,
        Some(RawAudit::File(file)) => return self::file(file, scope, found),
        None => AuditSink::File {
            path: super::default_path("audit.jsonl", "`audit: { file: … }` or `audit: stdout`", whole, found)?,
            rotate_at: ROTATE_AT,
            keep: KEEP,
        },
    };
    Some(AuditSpec {
        sink,
        when_full: WhenFull::default(),
    })
}

fn file(raw: &AuditMap, scope: &Scope<'_>, found: &mut Findings<'_>) -> Option<AuditSpec> {
    let path = scope.path(&raw.file, found);
    let mut fit = !raw.bad;
    if let Some(rotate) = raw.rotate.as_ref().filter(|r| r.0 < LEAST_ROTATE) {
        found.error(rotate.at, "a file is turned over at 64KiB or more");
        fit = false;
    }
    if let Some(keep) = raw.keep.as_ref().filter(|k| k.value > MOST_KEPT) {
        found.error(keep.at, format!("at most {MOST_KEPT} old files are kept"));
        fit = false;
    }
    let when_full = match raw.when_full.as_ref().map(|w| w.as_str()) {
        None | Some("count") => WhenFull::Count,
        Some("refuse") => WhenFull::Refuse,
        Some(other) => {
            let place = raw.when_full.as_ref().map_or(raw.at, |w| w.at);
            found
                .error(place, format!("`when_full` cannot be `{}`", shown(other)))
                .hint("write `count` or `refuse`");
            return None;
        }
    };
    let sink = AuditSink::File {
        path: path?,
        rotate_at: raw.rotate.as_ref().map_or(ROTATE_AT, |r| r.0),
        keep: raw.keep.as_ref().map_or(KEEP, |k| k.value),
    };
    fit.then_some(AuditSpec { sink, when_full })
}
