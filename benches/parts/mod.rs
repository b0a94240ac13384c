//! One file per part.

pub mod ca;
pub mod policy;
pub mod scrub;
pub mod whole;
