//! What Keyferry uses while the load is on, and whether that grows.

use super::load::Load;
use crate::rig::admin::page;
use crate::rig::proxy::Proxy;
use std::time::Duration;

/// What one look at the metrics found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub resident: i64,
    pub files: i64,
    pub threads: i64,
    pub tasks: i64,
    pub connections: i64,
    pub exchanges: i64,
    pub lost: i64,
}

/// Looks at every page of the operator's listener, none of which tells a secret.
pub async fn look(proxy: &Proxy, load: &Load) -> Sample {
    for path in ["/status", "/audit?tail=1000", "/"] {
        load.hide(path, page(proxy, path).await.as_bytes());
    }
    let told = page(proxy, "/metrics").await;
    load.hide("/metrics", told.as_bytes());
    let value = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        #[expect(clippy::cast_possible_truncation, reason = "counts, and bytes of memory")]
        let value = line.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap() as i64;
        value
    };
    Sample {
        resident: value("process_resident_memory_bytes"),
        files: value("process_open_fds"),
        threads: value("process_threads"),
        tasks: value("keyferry_tasks"),
        connections: value("keyferry_connections"),
        exchanges: value("keyferry_exchanges"),
        lost: value("keyferry_audit_lost"),
    }
}

/// One figure of all samples.
pub type Figure = fn(&Sample) -> i64;

/// What is judged, with what it may grow by: a tenth, and this much.
pub const FIGURES: [(&str, Figure, i64); 4] = [
    ("resident memory", |sample| sample.resident, 16 << 20),
    ("open files", |sample| sample.files, 40),
    ("threads", |sample| sample.threads, 4),
    ("tasks", |sample| sample.tasks, 80),
];

/// The medians of the first and of the last third of what came after the warm-up, which is the first quarter.
pub fn thirds(samples: &[Sample], figure: Figure) -> (i64, i64) {
    let after = &samples[samples.len() / 4..];
    let third = after.len() / 3;
    (
        median(&after[..third], figure),
        median(&after[after.len() - third..], figure),
    )
}

fn median(samples: &[Sample], figure: Figure) -> i64 {
    let mut values: Vec<_> = samples.iter().map(figure).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// What has grown by more than it may.
pub fn grown(samples: &[Sample]) -> Vec<String> {
    let judged = FIGURES.iter().filter_map(|(name, figure, room)| {
        let (first, last) = thirds(samples, *figure);
        (last > first + first / 10 + room).then(|| format!("{name} grew from {first} to {last}"))
    });
    judged.collect()
}

/// Looks now and then until the load is over.
pub async fn watch(proxy: &Proxy, load: &Load, length: Duration, every: Duration) -> Vec<Sample> {
    let end = tokio::time::Instant::now() + length;
    let mut samples = Vec::new();
    while tokio::time::Instant::now() < end {
        samples.push(look(proxy, load).await);
        tokio::time::sleep(every).await;
    }
    samples
}

#[test]
fn growth_is_seen_and_noise_is_not() {
    let samples = |resident: fn(i64) -> i64| -> Vec<Sample> {
        let one = |at| Sample {
            resident: resident(at),
            files: 100 + at % 7,
            ..Sample::default()
        };
        (0..120).map(one).collect()
    };
    assert_eq!(
        grown(&samples(|at| (100 << 20) + ((at % 13) << 20))),
        Vec::<String>::new()
    );
    // What fills up at the beginning does not count.
    assert_eq!(grown(&samples(|at| at.min(30) << 22)), Vec::<String>::new());
    assert_eq!(grown(&samples(|at| (100 << 20) + (at << 19))).len(), 1);
}
