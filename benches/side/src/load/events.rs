//! An event stream: each event says when it was sent, by the clock that origin and load share.

use super::{Common, Tally, expect_ok};
use crate::http1::{self, Http1};
use crate::meter::{Meter, clock};
use crate::way::Way;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 100)]
    events: u64,
    /// Milliseconds between two
    #[arg(long, default_value_t = 20)]
    every: u64,
}

pub async fn run(args: Args) -> io::Result<Value> {
    let way = Way::new(&args.common.way)?;
    let path = format!("/events?count={}&every={}", args.events, args.every);
    let request = http1::request(&way, way.host(), "GET", &path, "");
    let tally = Tally::default();
    let mut connection = Http1::open(&way, way.host(), 64 * 1024).await?;
    let meter = Meter::start(&args.common.meter);
    let (mut ages, mut first, mut partial) = (Vec::new(), None, Vec::new());
    let since = Instant::now();
    let asked = connection.ask(&request, |piece| {
        let now = clock();
        first.get_or_insert_with(|| since.elapsed());
        partial.extend_from_slice(piece);
        while let Some(end) = memchr::memmem::find(&partial, b"\n\n") {
            ages.extend(sent(&partial[..end]).map(|sent| Duration::from_nanos(now.saturating_sub(sent))));
            partial.drain(..end + 2);
        }
    });
    let patience = Duration::from_millis(args.events * args.every + 10_000);
    let asked = timeout(patience, asked).await;
    match asked.map(|asked| asked.and_then(|reply| expect_ok(reply.status))) {
        Ok(Ok(())) if ages.len() as u64 == args.events => {}
        Ok(Ok(())) => tally.failed(format!("{} of {} events came", ages.len(), args.events)),
        Ok(Err(error)) => tally.failed(error),
        Err(_) => tally.failed("not done in time"),
    }
    let measured = meter.end();
    tally.done.store(ages.len() as u64, Ordering::Relaxed);
    *tally.times.lock().expect("no panic under it") = ages;
    let mut told = tally.told(measured);
    told["first_byte_us"] = json!(first.map(|first: Duration| first.as_nanos() as f64 / 1e3));
    Ok(told)
}

fn sent(event: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(event).ok()?.strip_prefix("data: ")?;
    text.split(' ').next()?.parse().ok()
}
