//! Takes credentials out of what an upstream sends back.
//!
//! Wherever a credential went out, the reply is searched for it: headers, body as it streams, trailers,
//! WebSocket messages; plain and in every spelling that `spell` lists. What is found is replaced by
//! as many bytes, so that `Content-Length`, gRPC lengths and WebSocket lengths stay true. The room knows no
//! rule and no request: it is given [`Needles`] and bytes.
//!
//! What it cannot see: a transformation of the upstream's own (encryption, a hash, other compression, case
//! folding, a value cut into messages), and up to four bits of the first and last byte of a value inside base64.

mod body;
mod coding;
mod decode;
mod envelope;
mod grams;
mod needles;
mod reply;
mod spell;
mod stream;
pub mod websocket;

pub use body::body;
pub use coding::{Asked, Unscrubbable, ask, ask_plainly};
pub use needles::{MIN_SEARCHED, Needles, headers};
pub use reply::{decoded, reply};

#[cfg(test)]
mod tests;
