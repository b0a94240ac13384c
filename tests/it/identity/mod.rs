//! Who an agent is, and what becomes of those who are nobody.

mod admin;
mod asked;
mod certificates;
mod leaks;
mod tokens;

pub use asked::asked_twice;
