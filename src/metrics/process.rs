//! What the kernel says of this process, read when someone asks.

use super::{Error, add, gauge};
use prometheus::{Gauge, IntGauge, Registry};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(super) struct Process {
    resident: IntGauge,
    files: IntGauge,
    threads: IntGauge,
    tasks: IntGauge,
    cpu: Gauge,
}

impl Process {
    pub(super) fn new(registry: &Registry) -> Result<Self, Error> {
        let started = gauge(
            registry,
            "process_start_time_seconds",
            "When the process started, Unix time",
        )?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        started.set(i64::try_from(now.as_secs()).unwrap_or_default());
        Ok(Self {
            resident: gauge(registry, "process_resident_memory_bytes", "Resident memory")?,
            files: gauge(registry, "process_open_fds", "Open file descriptors")?,
            threads: gauge(registry, "process_threads", "Threads")?,
            tasks: gauge(registry, "keyferry_tasks", "Tasks that run on those threads")?,
            cpu: add(
                registry,
                Gauge::new("process_cpu_seconds_total", "Processor time spent, user and system")?,
            )?,
        })
    }

    /// Asks the kernel. What cannot be read, as where there is no `/proc`, stays as it was.
    pub(super) fn read(&self) {
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            if let Some(kib) = field(&status, "VmRSS:") {
                self.resident.set(kib.saturating_mul(1024));
            }
            if let Some(threads) = field(&status, "Threads:") {
                self.threads.set(threads);
            }
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let alive = runtime.metrics().num_alive_tasks();
            self.tasks.set(i64::try_from(alive).unwrap_or(i64::MAX));
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the directory being read.
            let open = entries.count().saturating_sub(1);
            self.files.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
        if let Some(ticks) = std::fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(ticks)
        {
            #[expect(clippy::cast_precision_loss, reason = "ticks of processor time fit a double")]
            self.cpu.set(ticks as f64 / TICKS_A_SECOND);
        }
    }
}

/// The number after `name` in `/proc/self/status` (proc_pid_status(5)).
fn field(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/self/stat`, its fields 14 and 15 (proc_pid_stat(5)). The second
/// field may hold anything, spaces and parentheses too, so counting starts behind its last one.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()?.saturating_add(next()?))
}

/// `USER_HZ`: what the kernel shows user space, the same on every architecture we build for.
const TICKS_A_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_program_name_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        assert_eq!(ticks(stat), Some(11 + 12));
    }
}
