//! Who is on the other side of a connection, as far as the kernel says.

use std::fmt;
use std::net::SocketAddr;

/// Who is on the other side, in the kernel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection from this address.
    Tcp(SocketAddr),
    /// A unix socket whose other side runs as this uid.
    Unix {
        /// The uid at the time it connected (`SO_PEERCRED`).
        uid: u32,
    },
    /// A vsock connection from a virtual machine.
    Vsock {
        /// Its context id, which the hypervisor gave it (vsock(7)).
        cid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid } => write!(f, "unix:uid={uid}"),
            Self::Vsock { cid } => write!(f, "vsock:cid={cid}"),
        }
    }
}
