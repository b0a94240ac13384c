//! A machine that runs, as a process of the host's.

use super::super::super::child::{Ended, Tether, lost, refused, start, tethered};
use super::{Error, Machine};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, PipeReader, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;

/// A machine that was started. It ends with us, and when [`kill`](Self::kill) says so.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    ended: Option<Ended>,
    console: Arc<Mutex<VecDeque<u8>>>,
}

/// Bytes of what it writes to its console that are kept, the last ones.
const KEPT: usize = 4096;

impl Running {
    /// Starts a machine with one of its command lines.
    ///
    /// # Errors
    /// When the system does not let it.
    pub async fn start(machine: &Machine, words: &[OsString]) -> Result<Self, Error> {
        let vars = vec![(OsString::from("PATH"), OsString::from("/usr/bin:/bin"))];
        let (program, mut spawn) = tethered(words, vars, &Tether::own_program())?;
        let failed = |cause| refused(&program, cause);
        // A machine that did not begin has left it at its end.
        (&machine.filter).rewind().map_err(failed)?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let also = writer.try_clone().map_err(failed)?;
        // Keys at the terminal are for the command inside, not for QEMU.
        spawn.process_group(0).stdin(Stdio::null()).stdout(writer).stderr(also);
        let (pid, ended) = start(spawn).map_err(failed)?;
        let pid = pid.await.unwrap_or_else(|_| Err(lost())).map_err(failed)?;
        let console = Arc::default();
        keep(reader, Arc::clone(&console)).map_err(failed)?;
        Ok(Self {
            pid,
            ended: Some(ended),
            console,
        })
    }

    /// Resolves when it has ended.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            let _ = ended.await;
            self.ended = None;
        }
    }

    /// Ends it at once, with all that is in it.
    pub async fn kill(mut self) {
        // Once it was waited for, its number may be another's.
        if self.ended.is_some() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        self.ended().await;
    }

    /// The last that it wrote to its console, without what would draw on ours.
    pub fn console(&self) -> String {
        let bytes: Vec<u8> = self.console.lock().iter().copied().collect();
        super::talk::printable(&bytes)
    }
}

/// Reads whatever a machine writes, so that it never waits, and keeps the last of it.
fn keep(mut reader: PipeReader, console: Arc<Mutex<VecDeque<u8>>>) -> io::Result<()> {
    let work = move || {
        let mut piece = [0; KEPT];
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            let mut console = console.lock();
            console.extend(piece.iter().take(count));
            let over = console.len().saturating_sub(KEPT);
            console.drain(..over);
        }
    };
    std::thread::Builder::new().name("console".into()).spawn(work)?;
    Ok(())
}
