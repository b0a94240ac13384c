//! Keyferry as a process: its log, its signals, its memory.

use super::{PATIENCE, eventually};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A Keyferry process and its log.
pub struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let writing = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = writing.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log }
    }

    /// All it has said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends it as the kernel would that has no memory left: at once, and without a word.
    pub async fn kill(&mut self) {
        self.signal("KILL");
        self.ended().await;
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by its `kill` name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// The first address where agents connect, or its log if it ended before it had one.
    pub async fn listening(&self) -> Result<SocketAddr, String> {
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            let admin = |line: &&str| line.ends_with("(admin)");
            let log = self.log();
            let mut lines = log.lines().filter(|line| !admin(line));
            if let Some(address) = lines.find_map(address_in) {
                return Ok(address);
            }
            if ended(self.child.id()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(self.log())
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = eventually("the end of `keyferry serve`", || self.child.try_wait().unwrap()).await;
        // The log's last lines may still be on their way from the pipe.
        tokio::time::sleep(Duration::from_millis(50)).await;
        status
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.split("listening on ").nth(1)?.split(' ').next()?.parse().ok()
}

/// Whether a child has ended and only waits to be collected.
fn ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim_start().starts_with('Z'))
}
