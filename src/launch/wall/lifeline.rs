//! A socket that is there as long as Keyferry. The bridge behind a wall holds on to it: that it ends says that Keyferry is
//! gone, and each byte on it is a signal for the command. So a signal reaches the command alone, and not the program that
//! keeps its wall up.

use super::LIFELINE;
use parking_lot::Mutex;
use rustix::process::Signal;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Our end of it.
#[derive(Debug)]
pub struct Lifeline {
    listener: UnixListener,
    bridge: Mutex<Option<UnixStream>>,
}

impl Lifeline {
    /// Opens it in the directory with the proxy's sockets.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(LIFELINE);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            bridge: Mutex::new(None),
        })
    }

    /// Sends the command a signal. Only the first to hold on is told: the bridge does before it starts the command.
    ///
    /// # Errors
    /// When no bridge is there, or it does not listen.
    pub fn say(&self, signal: Signal) -> io::Result<()> {
        let number = u8::try_from(signal.as_raw()).map_err(io::Error::other)?;
        let mut bridge = self.bridge.lock();
        let stream = match bridge.as_mut() {
            Some(stream) => stream,
            None => {
                let (stream, _) = self.listener.accept()?;
                stream.set_nonblocking(true)?;
                bridge.insert(stream)
            }
        };
        stream.write_all(&[number])
    }
}
