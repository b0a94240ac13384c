//! Bodies with a content coding, decoded in bounded slices.

mod decoded;
mod decoder;
mod watched;

pub(super) use decoded::Decoded;
pub(super) use decoder::Decoder;
pub(super) use watched::Watched;
