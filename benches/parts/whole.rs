//! The whole proxy over real sockets: rules, injection, scrubbing and an audit file, against the same client and the
//! same origin without it. All three share one process, so a figure holds the cost of all of them; what the proxy
//! adds is the difference to `direct`.

pub mod client;
pub mod origin;

use client::{Link, Way};
use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::future::join_all;
use keyferry::app::{App, Options};
use keyferry::config::Config;
use keyferry::listen::bound::Local;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Where the origin is, as clients know it.
pub const HOST: &str = "api.bench.test";
/// Connections, or streams of one connection, that ask at the same time.
const AT_ONCE: usize = 32;

/// Requests on open connections, new connections, and what one request takes longer through the proxy.
pub fn proxy(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let app = runtime.block_on(async { started(dir.path().to_owned(), origin::start(HOST, true).await).await });
    let ways = [("direct", &app.direct), ("proxy", &app.through)];
    requests(c, &runtime, &ways);
    connections(c, &runtime, &ways);
    added(&runtime, &ways);
    runtime.block_on(app.app.finish());
    let audit = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    assert!(
        audit.contains(r#""credentials":["token"]"#),
        "nothing was injected: {audit:.400}"
    );
}

/// As many requests at once as there are connections; over HTTP/2, streams of one connection.
fn requests(c: &mut Criterion, runtime: &Runtime, ways: &[(&str, &Way)]) {
    let mut group = c.benchmark_group("requests");
    group.throughput(Throughput::Elements(AT_ONCE as u64));
    for (name, way) in ways {
        let mut links = runtime.block_on(join_all((0..AT_ONCE).map(|_| Link::open(way, false))));
        group.bench_function(BenchmarkId::new("http1", name), |b| {
            b.iter(|| runtime.block_on(join_all(links.iter_mut().map(Link::ask))));
        });
        let link = runtime.block_on(Link::open(way, true));
        let mut streams: Vec<_> = (0..AT_ONCE).map(|_| link.stream()).collect();
        group.bench_function(BenchmarkId::new("http2", name), |b| {
            b.iter(|| runtime.block_on(join_all(streams.iter_mut().map(Link::ask))));
        });
    }
    group.finish();
}

/// A new connection, with CONNECT and a full handshake, and one request on it.
fn connections(c: &mut Criterion, runtime: &Runtime, ways: &[(&str, &Way)]) {
    let mut group = c.benchmark_group("new_connection");
    for (name, way) in ways {
        group.bench_function(*name, |b| {
            b.iter(|| runtime.block_on(async { Link::open(way, false).await.ask().await }));
        });
    }
    group.finish();
}

/// Prints how much longer one request takes, alone on an open connection. The two take turns, so that a busy
/// machine is busy for both.
fn added(runtime: &Runtime, ways: &[(&str, &Way)]) {
    const ROUNDS: usize = 500;
    let mut links: Vec<_> = ways
        .iter()
        .map(|(_, way)| runtime.block_on(Link::open(way, false)))
        .collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); links.len()];
    for _ in 0..ROUNDS {
        for (link, times) in links.iter_mut().zip(&mut times) {
            let start = Instant::now();
            runtime.block_on(link.ask());
            times.push(start.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| *times.select_nth_unstable(ROUNDS / 2).1;
    let [direct, through] = [median(&mut times[0]), median(&mut times[1])];
    let ratio = through.as_secs_f64() / direct.as_secs_f64();
    println!("one request: direct {direct:.1?}, through the proxy {through:.1?}: {ratio:.2} times\n");
}

pub struct Started {
    pub app: App,
    pub direct: Way,
    pub through: Way,
}

/// A proxy that injects a bearer token on the way to an origin at `address`, which shows a certificate under `root`.
pub async fn started(dir: PathBuf, (address, root): (SocketAddr, String)) -> Started {
    std::fs::write(dir.join("root.pem"), &root).unwrap();
    std::fs::write(dir.join("token"), "ghp_16C7e42F292c6912E7710c838347Ae178B4a").unwrap();
    let text = format!(
        r#"
listen: ["127.0.0.1:0"]
ca: {{ memory: true }}
audit: {{ file: audit.jsonl }}
upstream:
  roots: [./root.pem]
  resolve: {{ {HOST}: "{address}" }}
  allow_networks: [127.0.0.0/8]
secrets:
  token: {{ file: ./token }}
rules:
  - {{ name: other, host: "*.other.test", allow: ["GET /**"] }}
  - {{ name: bench, host: {HOST}, allow: ["POST /v1/messages", "GET /v1/**"], inject: [{{ bearer: token }}] }}
"#
    );
    let config = Config::parse(&text, &dir.join("keyferry.yaml")).map_err(|mistakes| mistakes.render(false));
    let options = Options {
        data_dir: dir.to_owned(),
        seed: vec![0; 32],
        own: None,
        inherited: keyferry::listen::Inherited::default(),
    };
    let app = App::build(config.unwrap().config, options).await.unwrap();
    app.start().await.unwrap();
    let (Local::Tcp(listener), _) = app.locals()[0].clone() else {
        unreachable!("it listens on TCP")
    };
    Started {
        direct: Way::direct(address, HOST, &root),
        through: Way::through(listener, HOST, &app.authority.certificate_pem()),
        app,
    }
}
