//! Directories in which files are put, watched for what comes of that.
//!
//! Who waits hears of each file that was written to its end, put in place or taken away, and of no single write: a log
//! beside a secret or a config would wake us with each of its lines.

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// By device and inode: a directory that was replaced under its name is another.
pub type Identity = (u64, u64);

/// Which directory this is.
///
/// # Errors
/// When there is none to be looked at.
pub fn identity(directory: &Path) -> io::Result<Identity> {
    let found = std::fs::metadata(directory)?;
    Ok((found.dev(), found.ino()))
}

/// The directory that a file is in.
pub fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The directories that are watched now.
pub struct Directories {
    events: EventStream<Vec<u8>>,
    watched: BTreeMap<PathBuf, (Identity, WatchDescriptor)>,
}

/// Bytes of events taken at a time: a hundred or more, by the length of their names.
const EVENTS: usize = 4_096;

impl Directories {
    /// Watches none yet.
    ///
    /// # Errors
    /// When the system's watches are used up. It must be called where tokio runs.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            events: Inotify::init()?.into_event_stream(vec![0; EVENTS])?,
            watched: BTreeMap::new(),
        })
    }

    /// Watches these from now on, and no others. Each that cannot be is told to `failed`.
    pub fn follow(&mut self, wanted: BTreeMap<PathBuf, Identity>, mut failed: impl FnMut(&Path, io::Error)) {
        let mut watches = self.events.watches();
        self.watched.retain(|path, (identity, watch)| {
            let stays = wanted.get(path) == Some(identity);
            if !stays {
                // The system drops the watch of a removed directory by itself.
                let _ = watches.remove(watch.clone());
            }
            stays
        });
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        for (path, identity) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watches.add(&path, mask) {
                Ok(watch) => drop(self.watched.insert(path, (identity, watch))),
                Err(error) => failed(&path, error),
            }
        }
    }

    /// Waits for the next change, and says in what file; `None` where that is not known.
    pub async fn changed(&mut self) -> Option<OsString> {
        match self.events.next().await {
            Some(Ok(event)) => event.name,
            // Something may have been missed.
            Some(Err(_)) => None,
            None => std::future::pending().await,
        }
    }

    /// Passes over what is known by now.
    pub fn forget(&mut self) {
        while let Some(Some(Ok(_))) = self.events.next().now_or_never() {}
    }
}

impl fmt::Debug for Directories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directories")
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}
