//! Sockets agents connect to: binding them, and one accept loop for all. Knows who is on the other
//! side as far as the kernel says, and nothing of what is spoken.

pub mod accept;
pub mod bound;
pub mod datagrams;
pub mod handover;
pub mod inherited;
pub mod owner;

pub use accept::{Accepted, serve};
pub use bound::Bound;
pub use datagrams::Datagrams;
pub use inherited::Inherited;
