//! YAML as written → checked model, every mistake with its line and column. Holds references to
//! secrets, never a value, so a config may be printed, diffed and shown.

pub mod model;

pub use model::Config;
