//! The two programs of a machine, behind the wall around them: its vsock device, and QEMU once that is there.

use super::{Error, failed};
use crate::launch::child::Exit;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden first argument for it.
pub const VERB: &str = "__machine";
/// For the device to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// `SOCKET COUNT DEVICE… QEMU…`: starts the device, and QEMU when the device's socket is there; ends with QEMU. Whatever
/// is left then ends with the namespace.
///
/// # Errors
/// When one of them cannot be started.
pub fn run(arguments: &[OsString]) -> Result<Exit, Error> {
    let unknown = || failed("no machine was described");
    let (socket, rest) = arguments.split_first().ok_or_else(unknown)?;
    let (count, rest) = rest.split_first().ok_or_else(unknown)?;
    let count = count
        .to_str()
        .and_then(|count| count.parse().ok())
        .ok_or_else(unknown)?;
    let (device, qemu) = rest.split_at_checked(count).ok_or_else(unknown)?;
    let mut device = start(device)?;
    let end = Instant::now() + PATIENCE;
    while !Path::new(socket).exists() {
        let gone = device.try_wait().ok().flatten();
        if let Some(status) = gone {
            return Err(failed(format!("its vsock device ended ({status})")));
        }
        if Instant::now() > end {
            return Err(failed("its vsock device does not begin"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let ended = start(qemu)?.wait();
    ended.map(Exit::from).map_err(|error| failed(error.to_string()))
}

fn start(words: &[OsString]) -> Result<std::process::Child, Error> {
    let (program, arguments) = words.split_first().ok_or_else(|| failed("a program is missing"))?;
    let started = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
    started.map_err(|error| failed(format!("cannot start {}: {error}", program.display())))
}
