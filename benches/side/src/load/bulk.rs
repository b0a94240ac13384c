//! Large bodies, one after the other.

use super::{Common, Tally, expect_ok};
use crate::http1::{self, Http1};
use crate::meter::Meter;
use crate::way::Way;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 100 << 20)]
    bytes: u64,
    #[arg(long, default_value_t = 3)]
    times: usize,
}

/// For one body.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn down(args: Args) -> io::Result<Value> {
    let way = Way::new(&args.common.way)?;
    let request = http1::request(&way, way.host(), "GET", &args.common.path, "");
    repeat(&args, &way, async |connection: &mut Http1| {
        let reply = connection.ask(&request, |_| {}).await?;
        expect_ok(reply.status)?;
        if reply.length == args.bytes {
            return Ok(());
        }
        Err(io::Error::other(format!("{} bytes came", reply.length)))
    })
    .await
}

pub async fn up(args: Args) -> io::Result<Value> {
    let way = Way::new(&args.common.way)?;
    let more = format!(
        "Content-Type: application/octet-stream\r\nContent-Length: {}\r\n",
        args.bytes
    );
    let head = http1::request(&way, way.host(), "POST", "/upload", &more);
    // Of no use to a compressor, and no text.
    let block: Vec<u8> = (0..128 * 1024_u32)
        .map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8)
        .collect();
    repeat(&args, &way, async |connection: &mut Http1| {
        connection.link.write_all(&head).await?;
        let mut left = args.bytes;
        while left > 0 {
            let piece = left.min(block.len() as u64);
            connection.link.write_all(&block[..piece as usize]).await?;
            left -= piece;
        }
        connection.link.flush().await?;
        let mut told = Vec::new();
        let reply = connection.answer(|piece| told.extend_from_slice(piece)).await?;
        expect_ok(reply.status)?;
        if told == args.bytes.to_string().as_bytes() {
            return Ok(());
        }
        Err(io::Error::other("the origin had another number of bytes"))
    })
    .await
}

async fn repeat(args: &Args, way: &Way, one: impl AsyncFn(&mut Http1) -> io::Result<()>) -> io::Result<Value> {
    let tally = Tally::default();
    // Whatever is made for a first connection is no part of it.
    drop(Http1::open(way, way.host(), 1024).await);
    let meter = Meter::start(&args.common.meter);
    tally.counting.store(true, Ordering::Relaxed);
    let mut rates = Vec::new();
    for _ in 0..args.times {
        let mut connection = Http1::open(way, way.host(), 256 * 1024).await?;
        let since = Instant::now();
        match timeout(PATIENCE, one(&mut connection)).await {
            Ok(Ok(())) => {
                tally.answered(since);
                rates.push(args.bytes as f64 / 1e6 / since.elapsed().as_secs_f64());
            }
            Ok(Err(error)) => tally.failed(error),
            Err(_) => tally.failed("not done in time"),
        }
    }
    let measured = meter.end();
    let cpu = measured.get("cpu_s").and_then(Value::as_f64).unwrap_or(0.0);
    let gib = rates.len() as f64 * args.bytes as f64 / f64::from(1 << 30);
    let mut told = tally.told(measured);
    rates.sort_by(f64::total_cmp);
    told["mb_per_s"] = json!(rates.get(rates.len() / 2));
    told["cpu_s_per_gib"] = json!((gib > 0.0).then_some(cpu / gib));
    Ok(told)
}
