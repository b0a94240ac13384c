//! Binding: every socket is bound before any task starts, so that a taken port fails the start.

use crate::base::turn::Turn;
use crate::config::model::{Bind, Redirect};
use socket2::SockRef;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

/// A bound socket. A unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: Socket,
    /// As the config names it.
    pub(super) bind: Bind,
    pub(super) local: Local,
    pub(super) redirect: Option<Redirect>,
    /// Device and inode of a unix socket's file, if it is ours to remove.
    pub(super) file: Option<(u64, u64)>,
    /// Whether another process listens there, before this one or after it: then the file is that one's.
    elsewhere: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
    Vsock(VsockListener),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
            Self::Vsock(listener) => listener.as_fd(),
        }
    }
}

/// Where a redirected connection was going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// The address the agent dialled.
    pub address: SocketAddr,
    /// Whether a program of this machine may have dialled it: what REDIRECT takes on its way out arrives on loopback. With
    /// TPROXY nothing but the other side's address could tell.
    pub may_be_from_here: bool,
}

/// Where a socket is really bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// The address with its real port.
    Tcp(SocketAddr),
    /// The socket's file.
    Unix(PathBuf),
    /// The vsock port.
    Vsock(u32),
}

/// Why a socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program has it.
    #[error("cannot listen on {0}: the address is in use; end the program that has it, or choose another in `listen`")]
    Taken(String),
    /// It may not be made transparent.
    #[error(
        "cannot take TPROXY connections on {0}: {1}; run Keyferry with CAP_NET_ADMIN, or use REDIRECT without `tproxy`"
    )]
    Tproxy(String, #[source] io::Error),
    /// The path holds something that is no socket.
    #[error("cannot listen on unix:{0}: something that is no socket is there; remove it or choose another path")]
    NoSocket(PathBuf),
    /// The kernel has no vsock.
    #[error(
        "cannot listen on {0}: this kernel has no vsock; load its module (`modprobe vhost_vsock` on the host of virtual \
         machines), or let the machine's monitor pass connections to a unix socket (docs/bridge.md)"
    )]
    NoVsock(String),
    /// Nobody passed it.
    #[error(
        "nobody passed a socket named `{0}`: write `FileDescriptorName={0}` in the .socket unit that starts Keyferry, or \
         an address in `listen`"
    )]
    NotPassed(String),
    /// It may be used by others than the config says.
    #[error(
        "unix:{0} has the mode {1:04o} and not {2:04o}, and it cannot be changed: {3}; write `SocketMode={2:04o}` in the \
         .socket unit, or leave `mode` out"
    )]
    Mode(PathBuf, u32, u32, #[source] io::Error),
    /// Anything else the kernel says.
    #[error("cannot listen on {0}: {1}")]
    Io(String, #[source] io::Error),
}

/// Connections the kernel queues before we accept them.
const BACKLOG: i32 = 1024;

/// For how long another start may have its turn in the same folder. Whoever holds on to it longer is no Keyferry.
const PATIENCE: Duration = Duration::from_secs(2);

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
            Bind::Vsock(port) => Self::vsock(*port),
            Bind::Passed(name) => Err(Error::NotPassed(name.clone())),
        }
    }

    pub(super) fn new(socket: Socket, bind: Bind, local: Local, file: Option<(u64, u64)>) -> Self {
        Self {
            socket,
            bind,
            local,
            redirect: None,
            file,
            elsewhere: AtomicBool::new(false),
        }
    }

    /// Where it is really bound.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Another process listens there too, so that the file stays when this one stops.
    pub fn is_elsewhere(&self) {
        self.elsewhere.store(true, Ordering::SeqCst);
    }

    /// No other process listens there any more.
    pub fn is_only_here(&self) {
        self.elsewhere.store(false, Ordering::SeqCst);
    }

    /// Takes connections that were redirected here, and learns where each was going.
    ///
    /// # Errors
    /// When the kernel does not let it: TPROXY needs `CAP_NET_ADMIN`.
    pub fn redirected(mut self, redirect: Redirect) -> Result<Self, Error> {
        if let (Socket::Tcp(listener), Redirect::Tproxy) = (&self.socket, redirect) {
            let socket = SockRef::from(listener);
            // One that was passed may be it already, and is then not asked to be.
            let set = match self.local {
                Local::Tcp(SocketAddr::V4(_)) if socket.ip_transparent_v4().unwrap_or(false) => Ok(()),
                Local::Tcp(SocketAddr::V4(_)) => socket.set_ip_transparent_v4(true),
                _ if socket.ip_transparent_v6().unwrap_or(false) => Ok(()),
                Local::Tcp(SocketAddr::V6(_)) | Local::Unix(_) | Local::Vsock(_) => socket.set_ip_transparent_v6(true),
            };
            set.map_err(|error| Error::Tproxy(self.local.to_string(), error))?;
        }
        self.redirect = Some(redirect);
        Ok(self)
    }

    /// Where a connection was going before it was redirected here; `None` when it was not.
    pub(super) fn original(&self, stream: &TcpStream) -> Option<Original> {
        let reached = stream.local_addr().ok()?;
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (original, direct) = match self.redirect? {
            Redirect::Nat => {
                let socket = SockRef::from(stream);
                let asked = if reached.ip().to_canonical().is_ipv4() {
                    socket.original_dst_v4()
                } else {
                    socket.original_dst_v6()
                };
                let original = asked.ok()?.as_socket()?;
                (original, canonical(original) == canonical(reached))
            }
            // The address is left as it is, so only the port tells that it was meant for this listener.
            Redirect::Tproxy => (
                reached,
                matches!(self.local, Local::Tcp(own) if own.port() == reached.port()),
            ),
        };
        (!direct).then(|| Original {
            address: canonical(original),
            may_be_from_here: self.redirect == Some(Redirect::Tproxy) || reached.ip().to_canonical().is_loopback(),
        })
    }

    fn tcp(address: SocketAddr) -> Result<Self, Error> {
        let listener = tcp_listener(address).map_err(|e| explain(address.to_string(), e))?;
        let local = listener.local_addr().map_err(|e| explain(address.to_string(), e))?;
        Ok(Self::new(
            Socket::Tcp(listener),
            Bind::Tcp(address),
            Local::Tcp(local),
            None,
        ))
    }

    fn vsock(port: u32) -> Result<Self, Error> {
        let named = || format!("vsock:{port}");
        let listener =
            VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port)).map_err(|e| match e.raw_os_error() {
                Some(code) if code == rustix::io::Errno::AFNOSUPPORT.raw_os_error() => Error::NoVsock(named()),
                _ => explain(named(), e),
            })?;
        Ok(Self::new(
            Socket::Vsock(listener),
            Bind::Vsock(port),
            Local::Vsock(port),
            None,
        ))
    }

    fn unix(path: &Path, mode: u32) -> Result<Self, Error> {
        let named = || format!("unix:{}", path.display());
        // The file must never be there with wider bits than asked, so it is made under a tight mask of its own
        // directory entry: bind creates it 0777 & !umask, and only then can it be narrowed. A private directory
        // closes that gap.
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        // Of two that start at once, each could take the other's new socket for a stale one.
        let folder = Arc::new(File::open(parent).map_err(|e| explain(named(), e))?);
        let _turn = Turn::take(&folder, PATIENCE);
        clear_stale(path)?;
        let staging = tempfile::Builder::new()
            .prefix(".keyferry-")
            .tempdir_in(parent)
            .map_err(|e| explain(named(), e))?;
        let staged = staging.path().join("s");
        let listener = UnixListener::bind(&staged).map_err(|e| explain(named(), e))?;
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(mode)).map_err(|e| explain(named(), e))?;
        std::fs::rename(&staged, path).map_err(|e| explain(named(), e))?;
        let (bind, local) = (Bind::Unix(path.to_owned()), Local::Unix(path.to_owned()));
        Ok(Self::new(Socket::Unix(listener), bind, local, identity(path)))
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

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
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

pub(super) fn explain(address: String, error: io::Error) -> Error {
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
            Self::Vsock(port) => write!(f, "vsock:{port}"),
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Not one that another made in its place, nor one that another goes on with.
        if let Local::Unix(path) = &self.local
            && self.file.is_some()
            && identity(path) == self.file
            && !self.elsewhere.load(Ordering::SeqCst)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}
