//! Listening sockets that were there before this process: those that the service manager passes (sd_listen_fds(3)), or
//! those of the process that this one follows.

use super::bound::{Bound, Error, Local, Socket};
use crate::config::model::Bind;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use socket2::SockRef;
use std::io;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_vsock::VsockListener;

/// Sockets that wait for the listener they are for.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Held>);

#[derive(Debug)]
pub(super) struct Held {
    /// What it is for: `systemd:NAME`, or the `bind` that the process before had for it.
    pub(super) name: String,
    pub(super) local: Local,
    pub(super) socket: OwnedFd,
    /// Device and inode of its file, where the process before made it.
    pub(super) file: Option<(u64, u64)>,
    /// Whether it was the process before that had it.
    pub(super) ours: bool,
}

/// Why sockets that were passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// One of them is not there.
    #[error(
        "LISTEN_FDS tells of a file descriptor {0} that is not open: {1}; whoever starts Keyferry must leave it open"
    )]
    Closed(RawFd, #[source] io::Error),
    /// One of them is something else.
    #[error(
        "the socket `{0}` that was passed is not one that listens for connections: in the .socket unit write \
         `ListenStream=`, and `Accept=no`"
    )]
    NoListener(String),
    /// The kernel does not tell.
    #[error("cannot use the socket `{0}` that was passed: {1}")]
    Io(String, #[source] io::Error),
    /// Nobody asked for them.
    #[error(
        "no listener in the config is for {0}, which the service manager passed; add it to `listen`, as the address or \
         as `systemd:NAME`, or take it out of the .socket unit"
    )]
    Unknown(String),
}

/// The first descriptor that a service manager passes (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// A descriptor has one owner, so they are taken once in a process' life.
static TAKEN: AtomicBool = AtomicBool::new(false);

impl Inherited {
    /// Takes the sockets that the service manager passed: one for each of `names`, in order. Must come before this process
    /// opens anything by itself.
    ///
    /// # Errors
    /// When one is not open, or no stream socket that listens.
    pub fn passed(names: &[String]) -> Result<Self, Unfit> {
        if names.is_empty() || TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(Self::default());
        }
        let mut held = Vec::with_capacity(names.len());
        for (name, number) in names.iter().zip(FIRST..) {
            let socket = own(number).map_err(|error| Unfit::Closed(number, error))?;
            let listens = matches!(
                (socket_type(&socket), socket_acceptconn(&socket)),
                (Ok(SocketType::STREAM), Ok(true))
            );
            if !listens {
                return Err(Unfit::NoListener(name.clone()));
            }
            let local = local(&socket).map_err(|error| Unfit::Io(name.clone(), error))?;
            held.push(Held {
                name: Bind::Passed(name.clone()).to_string(),
                local,
                socket,
                file: None,
                ours: false,
            });
        }
        Ok(Self(held))
    }

    pub(super) fn push(&mut self, held: Held) {
        self.0.push(held);
    }

    /// The socket for `bind`: the one with its name or its address, else one that is bound now. `mode` is that of a unix
    /// socket's file.
    ///
    /// # Errors
    /// When it cannot be bound, or others may connect to it than `mode` says.
    pub fn bind(&mut self, bind: &Bind, mode: Option<u32>) -> Result<Bound, Error> {
        let named = bind.to_string();
        let by_name = self.0.iter().position(|held| held.name == named);
        let found = by_name.or_else(|| self.0.iter().position(|held| is_at(&held.local, bind)));
        let Some(found) = found else {
            return Bound::bind(bind, mode);
        };
        let held = self.0.remove(found);
        if let Local::Unix(path) = &held.local {
            // Of a file that a service manager made, its unit says who may connect, unless the config does too.
            match mode {
                Some(mode) => set_mode(path, mode)?,
                None if held.ours && held.file.is_some() => set_mode(path, PRIVATE)?,
                None => {}
            }
        }
        held.adopt(bind.clone()).map_err(|error| Error::Io(named, error))
    }

    /// What nobody took: listeners of the process before that this one's config has no more. What a service manager
    /// passes is meant, so there it is a mistake.
    ///
    /// # Errors
    /// When a service manager passed it, or the kernel refuses.
    pub fn rest(self) -> Result<Vec<Bound>, Unfit> {
        let rest = self.0.into_iter().map(|held| {
            let name = held.name.clone();
            if !held.ours {
                return Err(Unfit::Unknown(format!("{} (`{name}`)", held.local)));
            }
            held.adopt(Bind::Passed(name.clone()))
                .map_err(|error| Unfit::Io(name, error))
        });
        rest.collect()
    }
}

/// Permission bits of a unix socket that the config gives none.
const PRIVATE: u32 = 0o600;

impl Held {
    fn adopt(self, bind: Bind) -> io::Result<Bound> {
        let socket = match self.local {
            Local::Tcp(_) => {
                let listener = TcpListener::from(self.socket);
                listener.set_nonblocking(true)?;
                Socket::Tcp(listener.try_into()?)
            }
            Local::Unix(_) => {
                let listener = UnixListener::from(self.socket);
                listener.set_nonblocking(true)?;
                Socket::Unix(listener.try_into()?)
            }
            Local::Vsock(_) => Socket::Vsock(VsockListener::from(self.socket)),
        };
        let bound = Bound::new(socket, bind, self.local, self.file);
        if self.ours {
            bound.is_elsewhere();
        }
        Ok(bound)
    }
}

/// Takes a descriptor that this process was started with.
#[expect(unsafe_code, reason = "a number becomes an owner here, and nowhere else")]
fn own(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only looked at. Were it closed, the call would say so.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    // SAFETY: it is open, and whoever started this process passed it for this process to own. `TAKEN` holds that nobody
    // comes here twice, and the caller that nothing was opened before which could have this number.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // The programs that secrets come from must not have it.
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// Where a socket is bound, as the kernel has it.
pub(super) fn local(socket: &OwnedFd) -> io::Result<Local> {
    let address = SockRef::from(socket).local_addr()?;
    let local = match (address.as_socket(), address.as_vsock_address(), address.as_pathname()) {
        (Some(address), _, _) => Some(Local::Tcp(address)),
        (_, Some((_, port)), _) => Some(Local::Vsock(port)),
        (_, _, path) => path.map(|path| Local::Unix(path.to_owned())),
    };
    local.ok_or_else(|| io::Error::other("it is none of TCP, vsock and a unix socket with a path"))
}

fn is_at(local: &Local, bind: &Bind) -> bool {
    match (local, bind) {
        (Local::Tcp(local), Bind::Tcp(asked)) => local == asked,
        (Local::Unix(local), Bind::Unix(asked)) => local == asked,
        (Local::Vsock(local), Bind::Vsock(asked)) => local == asked,
        _ => false,
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    let named = || format!("unix:{}", path.display());
    let found = std::fs::symlink_metadata(path).map_err(|error| Error::Io(named(), error))?;
    let found = found.permissions().mode() & 0o777;
    if found == mode {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| Error::Mode(path.to_owned(), found, mode, error))
}
