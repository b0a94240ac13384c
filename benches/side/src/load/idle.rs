//! Connections on which nothing happens: what each takes of memory, and whether it still answers.

use super::{Common, Tally, expect_ok};
use crate::http1::{self, Http1};
use crate::meter::Meter;
use crate::way::Way;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Seconds after which no more are opened
    #[arg(long, default_value_t = 30.0)]
    limit: f64,
}

/// Being opened at one time.
const AT_ONCE: usize = 16;
/// Before it is looked what they take.
const SETTLE: Duration = Duration::from_secs(2);

pub async fn run(args: Args) -> io::Result<Value> {
    let way = Arc::new(Way::new(&args.common.way)?);
    let request: Arc<[u8]> = http1::request(&way, way.host(), "GET", &args.common.path, "").into();
    let tally = Arc::new(Tally::default());
    // What the first ones bring with them, as caches and threads, is not counted to each.
    drop(open(&way, &request).await?);
    let meter = Meter::start(&args.common.meter);
    let next = Arc::new(AtomicUsize::new(0));
    let until = Instant::now() + Duration::from_secs_f64(args.limit);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (way, request, tally, next) = (way.clone(), request.clone(), tally.clone(), next.clone());
        workers.spawn(async move {
            let mut open_ones = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < args.connections && Instant::now() < until && tally.goes_on() {
                match open(&way, &request).await {
                    Ok(connection) => open_ones.push(connection),
                    Err(error) => tally.failed(error),
                }
            }
            open_ones
        });
    }
    let mut held: Vec<Http1> = workers.join_all().await.into_iter().flatten().collect();
    sleep(SETTLE).await;
    let measured = meter.end();
    let kib = |name: &str| measured.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let each = (kib("rss_kib") - kib("rss_before_kib")) / held.len().max(1) as f64;
    let quiet = Meter::start(&args.common.meter);
    sleep(Duration::from_secs(1)).await;
    let quiet = quiet.end();
    tally.done.store(held.len() as u64, Ordering::Relaxed);
    let step = (held.len() / 100).max(1);
    for connection in held.iter_mut().step_by(step) {
        match timeout(Duration::from_secs(5), connection.ask(&request, |_| {})).await {
            Ok(Ok(reply)) if reply.status == 200 => {}
            Ok(Ok(reply)) => tally.failed(format!("status {} after idling", reply.status)),
            Ok(Err(error)) => tally.failed(format!("after idling: {error}")),
            Err(_) => tally.failed("no answer after idling"),
        }
    }
    let mut told = tally.told(measured);
    told["kib_each"] = json!(each);
    told["idle_cpu_share"] = quiet.get("cpu_share").cloned().unwrap_or_default();
    Ok(told)
}

async fn open(way: &Way, request: &[u8]) -> io::Result<Http1> {
    let mut connection = Http1::open(way, way.host(), 1024).await?;
    let reply = timeout(Duration::from_secs(15), connection.ask(request, |_| {})).await??;
    expect_ok(reply.status)?;
    if reply.kept {
        return Ok(connection);
    }
    Err(io::Error::other("the connection is not kept"))
}
