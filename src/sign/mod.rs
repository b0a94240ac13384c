//! Signatures, and credentials in the form that whoever asks for them wants: pure functions of a secret and of what is
//! signed or said. Nothing here knows of a request in flight, of a store or of a clock.

pub mod aws_call;
pub mod jwt;
pub mod lent;
pub mod picked;
pub mod said;
pub mod session;
pub mod sigv4;
pub mod sigv4a;
