//! The loads. Each keeps so many requests going at a time, each next one sent when the last was answered, so a slow
//! proxy is asked less and never drowned.

mod bulk;
mod events;
mod fresh;
mod idle;
mod kept;
mod messages;

use crate::meter::{MeterArgs, percentiles};
use crate::way::WayArgs;
use bytes::Bytes;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What every load takes.
#[derive(clap::Args, Clone)]
pub struct Common {
    #[command(flatten)]
    way: WayArgs,
    #[command(flatten)]
    meter: MeterArgs,
    /// Seconds to measure for
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds beforehand
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    #[arg(long, default_value = "/small")]
    path: String,
}

#[derive(Subcommand)]
pub enum Load {
    /// One request, to see that all is well
    Once(Common),
    /// Requests on open connections
    Kept(kept::Args),
    /// A new connection for each request
    Fresh(fresh::Args),
    /// The first request to each of many names, and then the second
    Names(fresh::NameArgs),
    /// A large download
    Down(bulk::Args),
    /// A large upload
    Up(bulk::Args),
    /// How late each event of a stream is
    Events(events::Args),
    /// Connections on which nothing happens
    Idle(idle::Args),
    /// WebSocket messages, there and back
    Messages(messages::Args),
}

impl Load {
    pub async fn run(self) -> io::Result<Value> {
        match self {
            Self::Once(common) => kept::once(&common).await,
            Self::Kept(args) => kept::run(args).await,
            Self::Fresh(args) => fresh::run(args).await,
            Self::Names(args) => fresh::names(args).await,
            Self::Down(args) => bulk::down(args).await,
            Self::Up(args) => bulk::up(args).await,
            Self::Events(args) => events::run(args).await,
            Self::Idle(args) => idle::run(args).await,
            Self::Messages(args) => messages::run(args).await,
        }
    }
}

/// What all workers of a load note.
#[derive(Default)]
struct Tally {
    counting: AtomicBool,
    over: AtomicBool,
    done: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    times: Mutex<Vec<Duration>>,
}

/// After so many errors a load gives up.
const MOST_ERRORS: u64 = 200;

impl Tally {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && self.errors.load(Ordering::Relaxed) < MOST_ERRORS
    }

    /// Notes an answer to what was asked at `since`.
    fn answered(&self, since: Instant) {
        if self.counting.load(Ordering::Relaxed) {
            self.done.fetch_add(1, Ordering::Relaxed);
            self.times.lock().expect("no panic under it").push(since.elapsed());
        }
    }

    fn failed(&self, error: impl ToString) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first_error.lock().expect("no panic under it");
        first.get_or_insert_with(|| error.to_string());
    }

    /// Warms up, measures, and says what it came to.
    async fn measure(&self, common: &Common) -> Value {
        tokio::time::sleep(Duration::from_secs_f64(common.warmup)).await;
        let meter = crate::meter::Meter::start(&common.meter);
        self.counting.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs_f64(common.seconds)).await;
        self.counting.store(false, Ordering::Relaxed);
        let measured = meter.end();
        self.over.store(true, Ordering::Relaxed);
        self.told(measured)
    }

    fn told(&self, mut measured: Map<String, Value>) -> Value {
        let done = self.done.load(Ordering::Relaxed);
        let number = |name: &str| measured.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let (wall, cpu) = (number("wall_s"), number("cpu_s"));
        let mut told = Map::new();
        told.insert("done".into(), json!(done));
        told.insert("rate".into(), json!(done as f64 / wall));
        // Milliseconds for one request are seconds for a thousand.
        told.insert(
            "cpu_s_per_1000".into(),
            json!((done > 0).then(|| cpu * 1e3 / done as f64)),
        );
        told.append(&mut percentiles(&mut self.times.lock().expect("no panic under it")));
        told.insert("errors".into(), json!(self.errors.load(Ordering::Relaxed)));
        told.insert(
            "first_error".into(),
            json!(*self.first_error.lock().expect("no panic under it")),
        );
        told.append(&mut measured);
        Value::Object(told)
    }
}

/// A JSON text of about so many bytes, as APIs send and are sent.
pub fn json(length: usize) -> Bytes {
    let mut text = String::from("[");
    let mut number = 1000;
    while text.len() < length {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{{\"id\":{number},\"role\":\"user\",\"content\":\"What it is for, in a few words\",\"stars\":{number}}},"
        );
        number += 1;
    }
    text.replace_range(text.len() - 1.., "]");
    text.into()
}

/// Holds an answer to 200.
fn expect_ok(status: u16) -> io::Result<()> {
    if status == 200 {
        return Ok(());
    }
    Err(io::Error::other(format!("status {status}")))
}
