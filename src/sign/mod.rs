//! Signatures: pure functions of a secret and of what is signed. Nothing here knows of a request in flight, of a
//! store or of a clock.

pub mod sigv4;
