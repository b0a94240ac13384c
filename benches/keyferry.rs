//! What Keyferry costs, part by part: `cargo bench`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "a measurement that cannot go on should stop at once, and nothing outside sees this crate"
)]

mod parts;

criterion::criterion_group!(
    all,
    parts::policy::decisions,
    parts::ca::leaves,
    parts::scrub::bodies,
    parts::scrub::coded,
    parts::whole::proxy,
);
criterion::criterion_main!(all);
