//! YAML as written → checked model, every mistake with its line and column. Holds references to
//! secrets, never a value, so a config may be printed, diffed and shown.
//!
//! The way is `tree` (YAML with places) → `raw` (as written) → `check` (as meant) → [`model`].

pub mod agent;
pub mod aws;
mod check;
pub mod hmac;
pub mod kept;
mod leaf;
mod load;
mod looks;
pub mod mint;
mod mistakes;
pub mod model;
pub mod parent;
pub mod place;
pub mod places;
pub mod presets;
pub mod program;
mod raw;
mod raw_kept;
mod read;
pub mod schema;
#[cfg(test)]
mod tests;
mod tree;
pub mod watch;

pub use load::Loaded;
pub use mistakes::{Mistake, Mistakes};
pub use model::Config;
pub use places::{data_dir, find, users_own};
