//! Keyferry: a TLS-terminating, credential-injecting forward proxy for AI agents.
//!
//! The rooms below stand in layers; each may import only the rooms named for it in
//! `ARCHITECTURE.md`, and `tests/it/layers.rs` holds that table.

pub mod admin;
pub mod app;
pub mod audit;
pub mod base;
pub mod ca;
pub mod cli;
pub mod config;
pub mod firewall;
pub mod front;
pub mod identity;
pub mod inject;
pub mod launch;
pub mod listen;
pub mod metrics;
pub mod net;
pub mod policy;
pub mod proxy;
pub mod scrub;
pub mod sign;
pub mod store;
