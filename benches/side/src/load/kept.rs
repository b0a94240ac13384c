//! Requests on open connections.

use super::{Common, Tally, expect_ok, json};
use crate::http1::{self, Http1};
use crate::http2::{self, Http2};
use crate::way::Way;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Streams at one time on each connection, over HTTP/2
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Send a JSON text of so many bytes
    #[arg(long, conflicts_with = "grpc")]
    send: Option<usize>,
    /// Send a gRPC message, and hold the answer to `grpc-status: 0`
    #[arg(long)]
    grpc: bool,
}

/// Opens once all connections are.
type Gate = watch::Receiver<bool>;

/// Handshakes that are under way at one time.
const OPENED_AT_ONCE: usize = 16;

/// A gRPC message of 64 bytes, with its prefix.
fn message() -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 64];
    bytes.resize(5 + 64, b'm');
    bytes.into()
}

pub async fn once(common: &Common) -> io::Result<Value> {
    let way = Way::new(&common.way)?;
    let asked = async {
        if way.http2() {
            let request = http2::request(&way, "GET", &common.path, &[]);
            return Ok(Http2::open(&way).await?.ask(request, None).await?.status);
        }
        let request = http1::request(&way, way.host(), "GET", &common.path, "");
        let mut connection = Http1::open(&way, way.host(), 16 * 1024).await?;
        io::Result::Ok(connection.ask(&request, |_| {}).await?.status)
    };
    Ok(match asked.await {
        Ok(status) => serde_json::json!({ "status": status }),
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    })
}

pub async fn run(args: Args) -> io::Result<Value> {
    let way = Arc::new(Way::new(&args.common.way)?);
    let tally = Arc::new(Tally::default());
    // All are open, and have had an answer, before one asks again: those that come late would stand behind them.
    let (all_open, gate) = watch::channel(false);
    let opening = stream::iter(0..args.connections).for_each_concurrent(OPENED_AT_ONCE, async |_| {
        let opened = if way.http2() {
            http2_streams(&way, &args, &tally, &gate).await
        } else {
            http1_connection(&way, &args, &tally, &gate).await
        };
        if let Err(error) = opened {
            tally.failed(error);
        }
    });
    opening.await;
    // Those that did not open do not listen.
    let _ = all_open.send(true);
    Ok(tally.measure(&args.common).await)
}

async fn http1_connection(way: &Arc<Way>, args: &Args, tally: &Arc<Tally>, gate: &Gate) -> io::Result<()> {
    let request = match args.send.map(json) {
        None => http1::request(way, way.host(), "GET", &args.common.path, ""),
        Some(body) => {
            let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            let mut request = http1::request(way, way.host(), "POST", &args.common.path, &more);
            request.extend_from_slice(&body);
            request
        }
    };
    let mut connection = Http1::open(way, way.host(), 16 * 1024).await?;
    expect_ok(connection.ask(&request, |_| {}).await?.status)?;
    let (way, tally, mut gate) = (Arc::clone(way), Arc::clone(tally), gate.clone());
    tokio::spawn(async move {
        let _ = gate.wait_for(|open| *open).await;
        while tally.goes_on() {
            let since = Instant::now();
            let asked = connection.ask(&request, |_| {}).await;
            let kept = match asked.and_then(|reply| expect_ok(reply.status).map(|()| reply.kept)) {
                Ok(kept) => {
                    tally.answered(since);
                    kept
                }
                Err(error) => {
                    tally.failed(error);
                    false
                }
            };
            if !kept && tally.goes_on() {
                match Http1::open(&way, way.host(), 16 * 1024).await {
                    Ok(fresh) => connection = fresh,
                    Err(error) => return tally.failed(error),
                }
            }
        }
    });
    Ok(())
}

async fn http2_streams(way: &Arc<Way>, args: &Args, tally: &Arc<Tally>, gate: &Gate) -> io::Result<()> {
    let (method, more, body): (_, &[_], _) = match args.send {
        _ if args.grpc => (
            "POST",
            &[("content-type", "application/grpc"), ("te", "trailers")],
            Some(message()),
        ),
        Some(length) => ("POST", &[("content-type", "application/json")], Some(json(length))),
        None => ("GET", &[], None),
    };
    let request = http2::request(way, method, &args.common.path, more);
    let mut connection = Http2::open(way).await?;
    expect_ok(connection.ask(request.clone(), body.clone()).await?.status)?;
    for _ in 0..args.streams {
        let (mut stream, tally) = (connection.clone(), Arc::clone(tally));
        let (request, body, mut gate) = (request.clone(), body.clone(), gate.clone());
        let wants = args.grpc.then(|| "0".to_owned());
        tokio::spawn(async move {
            let _ = gate.wait_for(|open| *open).await;
            while tally.goes_on() {
                let since = Instant::now();
                match stream.ask(request.clone(), body.clone()).await {
                    Ok(reply) if reply.status == 200 && reply.grpc == wants => tally.answered(since),
                    Ok(reply) => tally.failed(format!("status {}, gRPC {:?}", reply.status, reply.grpc)),
                    // The connection is gone for all its streams.
                    Err(error) => return tally.failed(error),
                }
            }
        });
    }
    Ok(())
}
