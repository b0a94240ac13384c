//! Where lines end up: nowhere, standard output, or a file.

use super::Error;
use super::rotating::Rotating;
use crate::config::model::AuditSink;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// An open sink.
#[derive(Debug)]
pub(super) enum Sink {
    /// Lines are dropped.
    None,
    /// A pipe, a terminal: no way back.
    Stream(File),
    /// A file of our own.
    File(Rotating),
}

impl Sink {
    pub(super) fn open(spec: &AuditSink) -> Result<Self, Error> {
        match spec {
            AuditSink::None => Ok(Self::None),
            AuditSink::Stdout => {
                let owned = io::stdout().as_fd().try_clone_to_owned().map_err(Error::Stdout)?;
                Ok(Self::Stream(File::from(owned)))
            }
            AuditSink::File { path, rotate_at, keep } => Rotating::open(path, *rotate_at, *keep)
                .map(Self::File)
                .map_err(|cause| Error::Open {
                    path: path.clone(),
                    cause,
                }),
        }
    }

    /// Opens the file's path again, as after another program moved the file away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.reopen(),
            Self::None | Self::Stream(_) => Ok(()),
        }
    }

    /// Whether `more` bytes want a new file first.
    pub(super) fn is_full_for(&self, more: usize) -> bool {
        match self {
            Self::File(file) => file.is_full_for(more),
            Self::None | Self::Stream(_) => false,
        }
    }

    /// Turns the file over, if there is anything in it.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.rotate(),
            Self::None | Self::Stream(_) => Ok(()),
        }
    }

    /// Writes whole lines. Says how many bytes are behind us, even when an error stopped it: those
    /// must not be written again, and in a file they end with a line's end.
    pub(super) fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        match self {
            Self::None => (lines.len(), Ok(())),
            Self::Stream(file) => write_some(file, lines),
            Self::File(file) => file.append(lines),
        }
    }

    /// How many half lines were found and taken away since this was last asked: records that a crash kept from
    /// being written.
    pub(super) fn torn(&mut self) -> u64 {
        match self {
            Self::File(file) => std::mem::take(&mut file.torn),
            Self::None | Self::Stream(_) => 0,
        }
    }
}

/// Writes until all is written or an error stops it; how many bytes were.
pub(super) fn write_some(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}
