//! Binding: every socket is bound before any task starts, so that a taken port fails the start.

use crate::config::model::Bind;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// A bound socket. A unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: Socket,
    local: Local,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Where a socket is really bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// The address with its real port.
    Tcp(SocketAddr),
    /// The socket's file.
    Unix(PathBuf),
}

/// Why a socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program has it.
    #[error("cannot listen on {0}: the address is in use; end the program that has it, or choose another in `listen`")]
    Taken(String),
    /// The path holds something that is no socket.
    #[error("cannot listen on unix:{0}: something that is no socket is there; remove it or choose another path")]
    NoSocket(PathBuf),
    /// Anything else the kernel says.
    #[error("cannot listen on {0}: {1}")]
    Io(String, #[source] io::Error),
}

/// Connections the kernel queues before we accept them.
const BACKLOG: i32 = 1024;

impl Bound {
    /// Binds the address. A stale unix socket, whose owner is gone, is replaced; `mode` is its
    /// permission bits, 0600 without.
    ///
    /// # Errors
    /// When the address is taken or the kernel refuses.
    pub fn bind(bind: &Bind, mode: Option<u32>) -> Result<Self, Error> {
        match bind {
            Bind::Tcp(address) => Self::tcp(*address),
            Bind::Unix(path) => Self::unix(path, mode.unwrap_or(0o600)),
        }
    }

    /// Where it is really bound.
    pub fn local(&self) -> &Local {
        &self.local
    }

    fn tcp(address: SocketAddr) -> Result<Self, Error> {
        let listener = tcp_listener(address).map_err(|e| explain(address.to_string(), e))?;
        let local = listener.local_addr().map_err(|e| explain(address.to_string(), e))?;
        Ok(Self {
            socket: Socket::Tcp(listener),
            local: Local::Tcp(local),
        })
    }

    fn unix(path: &Path, mode: u32) -> Result<Self, Error> {
        let named = || format!("unix:{}", path.display());
        clear_stale(path)?;
        // The file must never be there with wider bits than asked, so it is made under a tight mask of its own
        // directory entry: bind creates it 0777 & !umask, and only then can it be narrowed. A private directory
        // closes that gap.
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let staging = tempfile::Builder::new()
            .prefix(".keyferry-")
            .tempdir_in(parent)
            .map_err(|e| explain(named(), e))?;
        let staged = staging.path().join("s");
        let listener = UnixListener::bind(&staged).map_err(|e| explain(named(), e))?;
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(mode)).map_err(|e| explain(named(), e))?;
        std::fs::rename(&staged, path).map_err(|e| explain(named(), e))?;
        Ok(Self {
            socket: Socket::Unix(listener),
            local: Local::Unix(path.to_owned()),
        })
    }
}

fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Removes a socket file nobody listens on any more.
fn clear_stale(path: &Path) -> Result<(), Error> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err(Error::NoSocket(path.to_owned()));
    }
    let named = format!("unix:{}", path.display());
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::Taken(named));
    }
    std::fs::remove_file(path).map_err(|e| explain(named, e))
}

fn explain(address: String, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::AddrInUse {
        Error::Taken(address)
    } else {
        Error::Io(address, error)
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Local::Unix(path) = &self.local {
            let _ = std::fs::remove_file(path);
        }
    }
}
