//! The data path: from an accepted connection to the last byte of the last reply. The only room that
//! sees the whole of it, and it holds no policy of its own: each step hands on a proof.

mod again;
mod captured;
pub mod connection;
pub mod counted;
pub mod entry;
pub mod exchange;
pub mod fault;
pub mod gateway;
pub mod grant;
pub mod halfclose;
pub mod hygiene;
pub mod intercept;
pub mod live;
pub mod lobby;
mod named;
pub mod recorded;
pub mod resolver;
pub mod serving;
pub mod share;
pub mod socks;
mod splice;
pub mod told;
pub mod transparent;
pub mod tunnel;
pub mod upgrade;

pub use live::{Live, Proxy};
