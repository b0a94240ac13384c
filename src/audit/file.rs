//! Where lines end up: nowhere, standard output, or a file that is turned over by size.

use super::Error;
use crate::config::model::AuditSink;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// A file that is turned over when it reaches a size.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    rotate_at: u64,
    keep: u32,
    file: File,
    size: u64,
    /// Only a regular file can be cut back or turned over; `/dev/stderr` and pipes cannot.
    regular: bool,
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
        if let Self::File(file) = self {
            *file = Rotating::open(&file.path, file.rotate_at, file.keep)?;
        }
        Ok(())
    }

    /// Whether `more` bytes want a new file first.
    pub(super) fn is_full_for(&self, more: usize) -> bool {
        match self {
            Self::File(file) => {
                let limit = file.regular && file.rotate_at > 0;
                limit && file.size.saturating_add(more as u64) > file.rotate_at
            }
            Self::None | Self::Stream(_) => false,
        }
    }

    /// Turns the file over, if there is anything in it.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) if file.size > 0 => file.rotate(),
            Self::File(_) | Self::None | Self::Stream(_) => Ok(()),
        }
    }

    /// Writes whole lines. Says how many bytes are behind us, even when an error stopped it: those
    /// must not be written again, and in a file they end with a line's end.
    pub(super) fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let file = match self {
            Self::None => return (lines.len(), Ok(())),
            Self::Stream(file) => return write_some(file, lines),
            Self::File(rotating) => rotating,
        };
        let (mut done, result) = write_some(&mut file.file, lines);
        if result.is_err() && file.regular {
            // A full disk takes a part of a line; it is taken back, or a reader would choke on it.
            let whole = lines.get(..done).and_then(|part| memchr::memrchr(b'\n', part));
            let whole = whole.map_or(0, |at| at + 1);
            if file.file.set_len(file.size.saturating_add(whole as u64)).is_ok() {
                done = whole;
            }
        }
        file.size = file.size.saturating_add(done as u64);
        (done, result)
    }
}

impl Rotating {
    fn open(path: &Path, rotate_at: u64, keep: u32) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut file = open_append(path)?;
        let found = file.metadata()?;
        let regular = found.is_file();
        let mut size = if regular { found.len() } else { 0 };
        // What a crash left unfinished gets its line end, so that our first line stands alone.
        if regular && size > 0 && !ends_with_newline(&mut file)? {
            file.write_all(b"\n")?;
            size += 1;
        }
        Ok(Self {
            path: path.to_owned(),
            rotate_at,
            keep,
            file,
            size,
            regular,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            self.file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        for number in (1..self.keep).rev() {
            let from = self.numbered(number);
            if from.exists() {
                std::fs::rename(from, self.numbered(number + 1))?;
            }
        }
        std::fs::rename(&self.path, self.numbered(1))?;
        *self = Self::open(&self.path, self.rotate_at, self.keep)?;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.append(true).create(true).mode(0o600);
    // Reading is only for the look at the last byte; a sink that cannot be read is still a sink.
    how.clone().read(true).open(path).or_else(|_| how.open(path))
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    match file.read_exact(&mut last) {
        Ok(()) => Ok(last == *b"\n"),
        // Opened without the right to read: an empty line does no harm.
        Err(_) => Ok(false),
    }
}

fn write_some(file: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
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
