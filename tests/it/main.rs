//! The promises Keyferry makes, each kept over real sockets by the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a test that cannot go on should stop at once, and nothing outside sees this crate"
)]

mod admin;
mod agents;
mod authority;
mod bad_start;
mod bad_upstream;
mod ca;
mod check;
mod clients;
mod clock;
mod conformance;
mod docs;
mod expect;
mod explain;
mod faults;
mod fidelity;
mod firewall;
mod hmac;
mod hostile;
mod identity;
mod image;
mod injection;
mod launch;
mod layers;
mod leaves;
mod limits;
mod listeners;
mod logins;
mod minting;
mod mtls;
mod pages;
mod parents;
mod programs;
mod records;
mod reload;
mod rig;
mod run;
mod service;
mod shutdown;
mod siege;
mod signing;
mod soak;
mod stores;
mod streaming;
mod traces;
mod tunnels;
mod walls;
mod ways;
mod weak_upstream;
mod websocket;
