//! One file per part.

pub mod ca;
pub mod scrub;
