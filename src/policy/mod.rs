//! Rules, decisions and limits: the only maker of [`Permitted`] and [`Passage`], without which no
//! byte reaches an upstream. Pure: it neither reads a secret nor opens a socket.

pub mod decide;
pub mod limit;
pub mod permitted;

pub use decide::{Denied, Policy, Reach};
pub use permitted::{Passage, Permitted};
