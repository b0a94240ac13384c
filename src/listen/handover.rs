//! Listening sockets handed from a process to the one that follows it, over a pair of sockets between the two (unix(7),
//! `SCM_RIGHTS`). Both then listen on the same sockets, so that at no time nobody does; the old one goes on until the new one
//! says that it serves, and for good when it does not.

use super::bound::{Bound, Local};
use super::inherited::{Held, Inherited, local};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the new process may take to build all it needs, secrets included.
pub const TIME: Duration = Duration::from_secs(60);
/// How long one message may wait for the other side to read it, or to write it.
const MESSAGE: Duration = Duration::from_secs(10);
/// What the old process sends after the last socket, and the new one once it serves.
const ALL: &[u8] = b"all";
const READY: &[u8] = b"ready";
/// The longest message: a name, and the path of a unix socket, each perhaps escaped.
const LONGEST: usize = 4096;

/// What is told beside a socket.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// The listener's `bind`.
    name: String,
    /// A unix socket's own path: the kernel knows the one it was made at.
    path: Option<PathBuf>,
    /// Device and inode of its file, where that is to be removed in the end.
    file: Option<(u64, u64)>,
}

/// Why no other process took over.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It ended.
    #[error("it ended before it served")]
    Ended,
    /// It took too long.
    #[error("it did not serve within {} seconds", TIME.as_secs())]
    Late,
    /// The sockets could not be handed over.
    #[error("the sockets could not be handed to it: {0}")]
    Io(io::Error),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET => Self::Ended,
            Errno::AGAIN => Self::Late,
            other => Self::Io(other.into()),
        }
    }
}

/// The old process' side.
#[derive(Debug)]
pub struct Offer(OwnedFd);

impl Offer {
    /// A pair of sockets: the second is for the new process, as its standard input.
    ///
    /// # Errors
    /// When there is no room for one.
    pub fn make() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&ours, Timeout::Send, Some(MESSAGE))?;
        set_socket_timeout(&ours, Timeout::Recv, Some(TIME))?;
        Ok((Self(ours), theirs))
    }

    /// Hands the sockets over and waits until the new process serves. Blocks, up to [`TIME`].
    ///
    /// # Errors
    /// When it does not.
    pub fn complete(&self, sockets: &[Arc<Bound>]) -> Result<(), Refused> {
        for socket in sockets {
            self.hand_over(socket)?;
        }
        send(&self.0, ALL, SendFlags::NOSIGNAL)?;
        let mut word = [0; READY.len()];
        recv(&self.0, &mut word[..], RecvFlags::empty())?;
        if word == READY { Ok(()) } else { Err(Refused::Ended) }
    }

    fn hand_over(&self, bound: &Bound) -> Result<(), Refused> {
        let told = Told {
            name: bound.bind.to_string(),
            path: match &bound.local {
                Local::Unix(path) => Some(path.clone()),
                Local::Tcp(_) | Local::Vsock(_) => None,
            },
            file: bound.file,
        };
        let told = serde_json::to_vec(&told).map_err(|error| Refused::Io(error.into()))?;
        let sockets = [bound.socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(&sockets));
        sendmsg(&self.0, &[IoSlice::new(&told)], &mut rights, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// The new process' side, once it has the sockets.
#[derive(Debug)]
pub struct Before(OwnedFd);

/// Takes what the old process hands over, from standard input, which leads nowhere from then on.
///
/// # Errors
/// When it hands nothing over.
pub fn take() -> io::Result<(Inherited, Before)> {
    let from = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    set_socket_timeout(&from, Timeout::Recv, Some(MESSAGE))?;
    let mut inherited = Inherited::default();
    loop {
        let mut text = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &from,
            &mut [IoSliceMut::new(&mut text)],
            &mut rights,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let text = text.get(..received.bytes).unwrap_or_default();
        if text == ALL {
            return Ok((inherited, Before(from)));
        }
        let sockets = rights.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        let Some(socket) = sockets.flatten().next() else {
            return Err(io::Error::other(
                "the process before broke off while it handed its sockets over",
            ));
        };
        inherited.push(held(serde_json::from_slice(text)?, socket)?);
    }
}

fn held(told: Told, socket: OwnedFd) -> io::Result<Held> {
    Ok(Held {
        name: told.name,
        local: match told.path {
            Some(path) => Local::Unix(path),
            None => local(&socket)?,
        },
        socket,
        file: told.file,
        ours: true,
    })
}

impl Before {
    /// Tells the old process that this one serves, and waits until it has let go of all that only one can have. Blocks for
    /// a moment.
    ///
    /// # Errors
    /// When the old process has given this one up.
    pub fn ready(self) -> io::Result<()> {
        send(&self.0, READY, SendFlags::NOSIGNAL)?;
        // It says no more; it closes, however it goes on.
        let _ = recv(&self.0, &mut [0; 1][..], RecvFlags::empty());
        Ok(())
    }
}
