//! One file per part.

pub mod ca;
