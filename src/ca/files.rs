//! Reading and writing the CA's files: whole or not at all, with the permissions they need.

use super::Error;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// Far more than any key or bundle; a path that leads to a device must not fill the memory.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Makes the folder, and the missing ones above it, with these permission bits.
pub(super) fn folder(dir: &Path, mode: u32) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(dir);
    made.map_err(|source| Error::Write {
        path: dir.into(),
        source,
    })
}

/// Reads a file, or `None` when there is none.
pub(super) fn read(what: &'static str, path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let content = File::open(path).and_then(|file| all_of(&file));
    content_or_none(what, path, content)
}

/// Reads a private key, or `None` when there is none; refuses one on which any bit of `forbidden`
/// is set. The bits are asked of the open file, so it cannot be exchanged in between.
pub(super) fn read_key(path: &Path, forbidden: u32) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let what = "the CA key";
    let opened = File::open(path).and_then(|file| {
        let mode = file.metadata()?.mode() & 0o7777;
        Ok((file, mode))
    });
    let Some((file, mode)) = content_or_none(what, path, opened)? else {
        return Ok(None);
    };
    if mode & forbidden != 0 {
        return Err(Error::KeyOpenToOthers {
            path: path.into(),
            mode,
        });
    }
    let content = content_or_none(what, path, all_of(&file))?;
    Ok(content.map(Zeroizing::new))
}

fn all_of(file: &File) -> io::Result<Vec<u8>> {
    // Sized at once: growing would leave copies of a key behind in freed memory.
    let size = usize::try_from(file.metadata()?.len().min(LARGEST)).unwrap_or(0);
    let mut content = Vec::with_capacity(size + 1);
    file.take(LARGEST).read_to_end(&mut content)?;
    Ok(content)
}

fn content_or_none<T>(what: &'static str, path: &Path, read: io::Result<T>) -> Result<Option<T>, Error> {
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            what,
            path: path.into(),
            source,
        }),
    }
}

/// Writes a file so that every reader sees the old content or the new, never a part.
pub(super) fn replace(path: &Path, mode: u32, content: &[u8]) -> Result<(), Error> {
    let written = staged(path, mode, content).and_then(|file| file.persist(path).map_err(|e| e.error));
    written.map(drop).map_err(|source| Error::Write {
        path: path.into(),
        source,
    })
}

/// Writes a file unless there is one by then; `false` says that there was. Of several processes
/// that try at once exactly one succeeds, and all others find its file whole.
pub(super) fn create(path: &Path, mode: u32, content: &[u8]) -> Result<bool, Error> {
    let written = staged(path, mode, content).and_then(|file| file.persist_noclobber(path).map_err(|e| e.error));
    match written {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(Error::Write {
            path: path.into(),
            source,
        }),
    }
}

/// The content under a passing name beside `path`, readable by nobody else until its mode is set.
fn staged(path: &Path, mode: u32, content: &[u8]) -> io::Result<NamedTempFile> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::with_prefix_in(".keyferry-", dir)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}
