//! What a stretch of time cost: the proxy's processor time and memory, and what else ran meanwhile.

use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

/// Whom to watch.
#[derive(clap::Args, Clone)]
pub struct MeterArgs {
    /// The proxy; what it starts is counted with it
    #[arg(long)]
    watch: Option<u32>,
    /// Origins, whose work is no disturbance
    #[arg(long)]
    origins: Vec<u32>,
}

/// Runs from its making to its [`end`](Self::end).
pub struct Meter {
    args: MeterArgs,
    start: Instant,
    proxy: Usage,
    others: f64,
    busy: f64,
}

#[derive(Clone, Copy, Default)]
struct Usage {
    seconds: f64,
    rss: u64,
    peak: u64,
}

impl Meter {
    pub fn start(args: &MeterArgs) -> Self {
        for pid in tree(args.watch) {
            // 5 sets the peak back to what is resident now (proc_pid_clear_refs(5)).
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
        Self {
            proxy: usage(args.watch),
            others: ours(args),
            busy: busy(),
            start: Instant::now(),
            args: args.clone(),
        }
    }

    /// Seconds of processor time, KiB of memory, and how many processors others kept busy.
    pub fn end(&self) -> Map<String, Value> {
        let wall = self.start.elapsed().as_secs_f64();
        let now = usage(self.args.watch);
        let cpu = now.seconds - self.proxy.seconds;
        let others = ours(&self.args) - self.others;
        let foreign = (busy() - self.busy - cpu - others) / wall;
        let found = json!({
            "wall_s": wall,
            "cpu_s": cpu,
            "cpu_share": cpu / wall,
            "rss_before_kib": self.proxy.rss,
            "rss_kib": now.rss,
            "rss_peak_kib": now.peak,
            "foreign": foreign.max(0.0),
        });
        match found {
            Value::Object(found) => found,
            _ => Map::new(),
        }
    }
}

/// Percentiles in microseconds.
pub fn percentiles(times: &mut [Duration]) -> Map<String, Value> {
    times.sort_unstable();
    let mut out = Map::new();
    for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("max_us", 1.0)] {
        let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        out.insert(name.to_owned(), json!(times.get(at).map(|t| t.as_nanos() as f64 / 1e3)));
    }
    out
}

/// Nanoseconds of the clock that all processes of a machine share.
pub fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Processor time of the origins and of this process.
fn ours(args: &MeterArgs) -> f64 {
    let origins = args.origins.iter().map(|pid| usage(Some(*pid)).seconds);
    origins.sum::<f64>() + usage(Some(std::process::id())).seconds
}

fn usage(root: Option<u32>) -> Usage {
    let mut sum = Usage::default();
    for pid in tree(root) {
        sum.seconds += stat(pid).map_or(0.0, |(_, seconds)| seconds);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        sum.rss += kib("VmRSS:").unwrap_or(0);
        sum.peak += kib("VmHWM:").unwrap_or(0);
    }
    sum
}

/// A process and all that came of it.
fn tree(root: Option<u32>) -> Vec<u32> {
    let Some(root) = root else { return Vec::new() };
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, (parent, _))) = pid.and_then(|pid| Some((pid, stat(pid)?))) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (HashSet::new(), vec![root]);
    while let Some(pid) = next.pop() {
        if found.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found.into_iter().collect()
}

/// Parent and seconds of processor time, those of children that ended included (proc_pid_stat(5)).
fn stat(pid: u32) -> Option<(u32, f64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11..15)?.iter().filter_map(|f| f.parse::<f64>().ok()).sum();
    Some((
        fields.get(1)?.parse().ok()?,
        ticks / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// Seconds that all processors together were busy: all but idle and waiting (proc_stat(5)).
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|f| f.parse().ok()).collect();
    let used = ticks.iter().take(8).sum::<f64>() - ticks.iter().skip(3).take(2).sum::<f64>();
    used / rustix::param::clock_ticks_per_second() as f64
}
