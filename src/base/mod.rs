//! Words every room shares. Imports no other room, reads and writes nothing, and knows no policy.

pub mod ask;
pub mod aws_host;
pub mod body;
pub mod budget;
pub mod clock;
pub mod directories;
pub mod endpoint;
pub mod frame;
pub mod gathered;
pub mod glob;
pub mod host;
pub mod idle;
pub mod ids;
pub mod metadata;
pub mod meter;
pub mod metered;
pub mod paced;
pub mod peer;
pub mod received;
pub mod secret;
pub mod shape;
pub mod tasks;
pub mod template;
pub mod turn;
pub mod wire;
