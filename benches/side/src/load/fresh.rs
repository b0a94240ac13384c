//! A new connection for each request: to one name, or to many.

use super::{Common, Tally, expect_ok};
use crate::http1::{self, Http1};
use crate::meter::Meter;
use crate::way::Way;
use serde_json::{Map, Value};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Connections being made at one time
    #[arg(long, default_value_t = 16)]
    at_once: usize,
}

#[derive(clap::Args)]
pub struct NameArgs {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// How many names, h1 and on, under the host's own parent
    #[arg(long, default_value_t = 1000)]
    names: usize,
    /// Seconds after which the rest is left out
    #[arg(long, default_value_t = 20.0)]
    limit: f64,
}

/// For one connection and one answer.
const PATIENCE: Duration = Duration::from_secs(15);

async fn one(way: &Way, host: &str, path: &str, tally: &Tally) {
    let since = Instant::now();
    let asked = async {
        let mut connection = Http1::open(way, host, 4096).await?;
        let request = http1::request(way, host, "GET", path, "");
        expect_ok(connection.ask(&request, |_| {}).await?.status)?;
        io::Result::Ok(connection)
    };
    match timeout(PATIENCE, asked).await {
        Ok(Ok(mut connection)) => {
            tally.answered(since);
            let _ = connection.link.shutdown().await;
        }
        Ok(Err(error)) => tally.failed(error),
        Err(_) => tally.failed("no answer in time"),
    }
}

pub async fn run(args: Args) -> io::Result<Value> {
    let way = Arc::new(Way::new(&args.common.way)?);
    let tally = Arc::new(Tally::default());
    for _ in 0..args.at_once {
        let (way, tally, path) = (Arc::clone(&way), Arc::clone(&tally), args.common.path.clone());
        tokio::spawn(async move {
            while tally.goes_on() {
                one(&way, way.host(), &path, &tally).await;
            }
        });
    }
    Ok(tally.measure(&args.common).await)
}

/// Two passes over the same names: the first makes a certificate for each, the second finds them.
pub async fn names(args: NameArgs) -> io::Result<Value> {
    let mut told = pass(&args).await?;
    let again = pass(&args).await?;
    if let (Value::Object(told), Value::Object(again)) = (&mut told, again) {
        let again = again.into_iter().filter(|(name, _)| SECOND.contains(&name.as_str()));
        told.extend(
            again
                .map(|(name, value)| (format!("again_{name}"), value))
                .collect::<Map<_, _>>(),
        );
    }
    Ok(told)
}

/// What is told of the second pass.
const SECOND: [&str; 4] = ["rate", "cpu_s_per_1000", "p50_us", "errors"];

async fn pass(args: &NameArgs) -> io::Result<Value> {
    let way = Arc::new(Way::new(&args.common.way)?);
    let tally = Arc::new(Tally::default());
    let next = Arc::new(AtomicUsize::new(1));
    let parent = way
        .host()
        .split_once('.')
        .map_or("test", |(_, parent)| parent)
        .to_owned();
    let meter = Meter::start(&args.common.meter);
    tally.counting.store(true, Ordering::Relaxed);
    let until = Instant::now() + Duration::from_secs_f64(args.limit);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..args.at_once {
        let (way, tally, next) = (Arc::clone(&way), Arc::clone(&tally), Arc::clone(&next));
        let (path, parent, names) = (args.common.path.clone(), parent.clone(), args.names);
        workers.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at > names || Instant::now() > until || !tally.goes_on() {
                    return;
                }
                one(&way, &format!("h{at}.{parent}"), &path, &tally).await;
            }
        });
    }
    while workers.join_next().await.is_some() {}
    Ok(tally.told(meter.end()))
}
