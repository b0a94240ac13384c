//! What Keyferry costs, part by part: `cargo bench`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a measurement that cannot go on should stop at once, and nothing outside sees this crate"
)]

mod parts;

criterion::criterion_group!(all, parts::ca::leaves, parts::scrub::bodies, parts::scrub::coded);
criterion::criterion_main!(all);
