//! What a request allocates, and what an idle tunnel holds: exact counts, each under a ceiling, whatever else the
//! machine does. `cargo bench --bench allocations`; with `SIZES=1` it lists the sizes too.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    dead_code,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "a measurement that cannot go on should stop at once, and nothing outside sees this crate"
)]

mod parts {
    pub mod counting;
    pub mod whole;
}

use futures_util::future::join_all;
use parts::counting::{self, Counting, of_proxy};
use parts::whole::{
    self,
    client::{Link, Way},
};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations for one request on open connections, by what agent and origin speak. They are what is needed today:
/// lower them with whatever lowers the count.
const CEILINGS: [(&str, bool, bool, u64); 4] = [
    ("agent HTTP/1.1, origin HTTP/1.1", false, false, 60),
    ("agent HTTP/1.1, origin HTTP/2", false, true, 60),
    ("agent HTTP/2, origin HTTP/1.1", true, false, 60),
    ("agent HTTP/2, origin HTTP/2", true, true, 60),
];
/// Bytes of the heap for an idle intercepted HTTP/1.1 connection.
const IDLE_CEILING: u64 = 40 * 1024;
const REQUESTS: u64 = 500;
const TUNNELS: u64 = 200;

fn main() {
    // The proxy has threads of its own, so that what client and origin allocate is not counted.
    let proxy = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(|| of_proxy(true))
        .build()
        .unwrap();
    let others = Builder::new_current_thread().enable_all().build().unwrap();
    let mut over = Vec::new();
    for (name, agent_http2, origin_http2, ceiling) in CEILINGS {
        let dir = tempfile::tempdir().unwrap();
        let (way, app) = started(&proxy, &others, dir.path(), origin_http2);
        let (count, bytes) = others.block_on(requests(&way, agent_http2));
        println!("{name}: {count} allocations, {bytes} bytes for a request (at most {ceiling})");
        if count > ceiling {
            over.push(name);
        }
        proxy.block_on(app.finish());
    }
    let dir = tempfile::tempdir().unwrap();
    let (way, app) = started(&proxy, &others, dir.path(), true);
    let idle = others.block_on(tunnels(&way));
    println!("an idle tunnel: {idle} bytes of the heap (at most {IDLE_CEILING})");
    if idle > IDLE_CEILING {
        over.push("an idle tunnel");
    }
    proxy.block_on(app.finish());
    assert!(over.is_empty(), "more than before: {}", over.join("; "));
}

fn started(proxy: &Runtime, others: &Runtime, dir: &std::path::Path, origin_http2: bool) -> (Way, keyferry::app::App) {
    let origin = others.block_on(whole::origin::start(whole::HOST, origin_http2));
    let started = proxy.block_on(async { proxy.spawn(whole::started(dir.to_owned(), origin)).await.unwrap() });
    (started.through, started.app)
}

async fn requests(way: &Way, http2: bool) -> (u64, u64) {
    let mut link = Link::open(way, http2).await;
    for _ in 0..20 {
        link.ask().await;
    }
    let before = counting::made();
    for _ in 0..REQUESTS {
        link.ask().await;
    }
    each(&before, &counting::made(), REQUESTS)
}

async fn tunnels(way: &Way) -> u64 {
    Link::open(way, false).await.ask().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = counting::live();
    let mut links = join_all((0..TUNNELS).map(|_| Link::open(way, false))).await;
    join_all(links.iter_mut().map(Link::ask)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    each(&before, &counting::live(), TUNNELS).1
}

/// Blocks and bytes for each of `many`; with `SIZES` set, what they are made of is listed.
fn each(before: &[i64], after: &[i64], many: u64) -> (u64, u64) {
    let many = i64::try_from(many).unwrap();
    let blocks = before.iter().zip(after).map(|(before, after)| after - before);
    let mut sizes: Vec<(i64, i64)> = blocks.zip((0..).step_by(counting::STEP)).collect();
    let count: i64 = sizes.iter().map(|(count, _)| count).sum();
    let bytes: i64 = sizes.iter().map(|(count, size)| count * size).sum();
    if std::env::var_os("SIZES").is_some() {
        sizes.sort_by_key(|(count, size)| -count * size);
        for (count, size) in sizes.iter().filter(|(count, _)| count * 4 > many) {
            println!("  {:6.2} of up to {size} bytes", *count as f64 / many as f64);
        }
    }
    (
        u64::try_from(count / many).unwrap(),
        u64::try_from(bytes / many).unwrap(),
    )
}
