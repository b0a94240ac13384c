//! Rules, decisions and limits: the only maker of [`Permitted`] and [`Passage`], without which no
//! byte reaches an upstream, and of [`Named`], without which no name is looked up. Pure: it neither reads a secret nor opens a socket.

pub mod decide;
pub mod limit;
pub mod permitted;

pub use decide::{Denied, Policy, Reach};
pub use permitted::{Named, Passage, Permitted};
