//! Binds everything, then builds everything, then runs: the one room that knows all parts and
//! decides nothing about a request.

pub mod assemble;
pub mod bridge;
pub mod demo;
pub mod descriptors;
pub mod guest;
mod machine;
mod own_tls;
pub mod print;
pub mod run;
pub mod secrets;
pub mod seed;
pub mod serve;
mod sockets;
pub mod succession;
pub mod surround;

pub use serve::{App, Options};
