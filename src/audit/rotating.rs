//! A file of lines that is turned over when it reaches a size. Several processes may share it, as those of
//! `keyferry run` with one config do, and any of them may be killed at any time; lines stay whole all the same.

use super::file::write_some;
use crate::base::turn::Turn;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A file that is turned over when it reaches a size.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    rotate_at: u64,
    keep: u32,
    file: Arc<File>,
    /// As we left it; another process may have written since.
    size: u64,
    /// Only a regular file can be cut back or turned over; `/dev/stderr` and pipes cannot.
    regular: bool,
    /// Half lines that were taken away.
    pub(super) torn: u64,
}

/// How every line of ours begins.
const BEGINNING: &[u8] = b"{\"time\":";

/// No line of ours is longer.
const LONGEST: u64 = 64 * 1024;

impl Rotating {
    pub(super) fn open(path: &Path, rotate_at: u64, keep: u32) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let file = Arc::new(open_append(path)?);
        let regular = file.metadata()?.is_file();
        let mut rotating = Self {
            path: path.to_owned(),
            rotate_at,
            keep,
            file,
            size: 0,
            regular,
            torn: 0,
        };
        if regular {
            // If it cannot be done now, as on a full disk, it is before the first line.
            let turn = rotating.turn();
            let _ = rotating.mend(turn.is_some());
        }
        Ok(rotating)
    }

    pub(super) fn is_full_for(&self, more: usize) -> bool {
        self.regular && self.rotate_at > 0 && self.size.saturating_add(more as u64) > self.rotate_at
    }

    /// Opens the path again. The old file stays in use when that fails.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let torn = self.torn;
        *self = Self::open(&self.path, self.rotate_at, self.keep)?;
        self.torn += torn;
        Ok(())
    }

    /// As [`super::file::Sink::write`].
    pub(super) fn append(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if !self.regular {
            return write_some(&self.file, lines);
        }
        let mut turn = self.turn();
        if self.is_abandoned() && self.reopen().is_ok() {
            turn = self.turn();
        }
        if let Err(error) = self.mend(turn.is_some()) {
            return (0, Err(error));
        }
        let (mut done, result) = write_some(&self.file, lines);
        if result.is_err() {
            // A full disk takes a part of a line; it is taken back, or a reader would choke on it. What cannot be
            // is mended before the next.
            let whole = lines.get(..done).and_then(|part| memchr::memrchr(b'\n', part));
            done = whole.map_or(0, |at| at + 1);
            if turn.is_some() {
                let _ = self.file.set_len(self.size.saturating_add(done as u64));
            }
        }
        self.size = self.size.saturating_add(done as u64);
        (done, result)
    }

    /// Sees to it that the file ends where a line ends: half a line is left where a writer was killed.
    fn mend(&mut self, alone: bool) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        if size == self.size {
            return Ok(());
        }
        self.size = size;
        // Opened without the right to read, it gets an empty line, which does no harm.
        let half = half_line(&self.file, size).unwrap_or_else(|_| b"?".to_vec());
        if half.is_empty() {
            return Ok(());
        }
        let known = half.get(..BEGINNING.len()).unwrap_or(&half);
        if alone && BEGINNING.starts_with(known) {
            self.size = size.saturating_sub(half.len() as u64);
            self.file.set_len(self.size)?;
            self.torn += 1;
        } else {
            // Nobody's that we know: it is kept, and our own lines stand by themselves.
            (&*self.file).write_all(b"\n")?;
            self.size = size.saturating_add(1);
        }
        Ok(())
    }

    /// Turns the file over, if there is anything in it, unless another process has done so.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        if self.size == 0 {
            return Ok(());
        }
        let turn = self.turn();
        if self.is_current()? {
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
        }
        drop(turn);
        // Should this fail, the old file goes on under its new name until the path can be opened.
        self.reopen()
    }

    /// Nobody else writes or cuts while it lasts.
    fn turn(&self) -> Option<Turn> {
        Turn::take(&self.file, PATIENCE).ok()
    }

    /// Whether the path leads to the file we write to.
    fn is_current(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether nobody would look for lines in the file we write to: it was removed, or there is another in its place.
    /// One that was only moved away is written to until we are told (SIGHUP).
    fn is_abandoned(&self) -> bool {
        let removed = self.file.metadata().is_ok_and(|found| found.nlink() == 0);
        removed || self.path.exists() && self.is_current().is_ok_and(|current| !current)
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
    // Reading is only for the look at its end; a sink that cannot be read is still a sink.
    how.clone().read(true).open(path).or_else(|_| how.open(path))
}

/// What stands behind the last line's end.
fn half_line(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last == *b"\n" {
        return Ok(Vec::new());
    }
    let begins = size.saturating_sub(LONGEST);
    let mut end = vec![0; usize::try_from(size - begins).unwrap_or(0)];
    file.read_exact_at(&mut end, begins)?;
    let half = memchr::memrchr(b'\n', &end).map_or(0, |at| at + 1);
    Ok(end.split_off(half))
}

/// For how long another may write: no longer than a write takes. One that holds on, or a file system without locks, must
/// not keep records from being written; without a turn only nothing is cut.
const PATIENCE: Duration = Duration::from_millis(100);
