//! Leaves: making one, and finding one that is kept.

use criterion::{BatchSize, Criterion};
use keyferry::base::host::Host;
use keyferry::ca::authority::Authority;
use keyferry::ca::leaves::Leaves;
use keyferry::config::model::CaSource;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A mint by itself, a first visit to a host, and a later one among a thousand hosts.
pub fn leaves(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let authority = Arc::new(Authority::open(&CaSource::Memory).unwrap());
    let mut group = c.benchmark_group("leaf");

    let host = Host::parse("api.example.test").unwrap();
    group.bench_function("mint", |b| b.iter(|| authority.mint(black_box(&host)).unwrap()));

    // Every visit is to a host that was never asked for, so the cache is at its bound throughout.
    let leaves = Leaves::new(authority.clone(), 1_000).unwrap();
    let next = AtomicU64::new(0);
    group.bench_function("first_visit", |b| {
        b.to_async(&runtime).iter_batched(
            || Host::parse(&format!("h{}.test", next.fetch_add(1, Ordering::Relaxed))).unwrap(),
            |host| {
                let leaves = &leaves;
                async move { leaves.server_config(&host).await.unwrap() }
            },
            BatchSize::SmallInput,
        );
    });

    let leaves = Leaves::new(authority, 2_000).unwrap();
    let hosts: Vec<_> = (0..1_000)
        .map(|at| Host::parse(&format!("h{at}.test")).unwrap())
        .collect();
    for host in &hosts {
        runtime.block_on(leaves.server_config(host)).unwrap();
    }
    let minted = leaves.minted();
    let mut turn = hosts.iter().cycle();
    group.bench_function("kept", |b| {
        b.iter(|| {
            let host = turn.next().unwrap();
            runtime.block_on(leaves.server_config(black_box(host))).unwrap()
        });
    });
    assert_eq!(
        leaves.minted(),
        minted,
        "some were made again: not lookups alone were measured"
    );
    group.finish();
}
