//! Files of the host's, packed into a machine's first file system: for a machine that is shown no directory of the host's.
//! They are a copy in its memory, so nothing that is written there comes back.

use super::super::{Plan, User};
use super::cpio::{Archive, Entry};
use super::{Error, failed};
use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Packs the root file system, and what the plan shows with its masks, where a machine has its exports otherwise.
///
/// # Errors
/// When a file cannot be read, or all of it takes more than half of the machine's memory.
pub(super) fn files(archive: &mut Archive, plan: &Plan, rootfs: &Path, owner: User) -> Result<(), Error> {
    let mut pack = Pack {
        archive,
        plan,
        // These are among the first of every machine.
        made: ["system", "shared"].map(PathBuf::from).into(),
        left: plan.most.memory / 2,
    };
    // Whoever unpacked an image, inside its files are root's.
    pack.tree(rootfs, Path::new("system"), User { uid: 0, gid: 0 })?;
    pack.shown(&plan.dir, owner)?;
    for one in plan.shared() {
        pack.shown(&one.path, owner)?;
    }
    Ok(())
}

struct Pack<'p> {
    archive: &'p mut Archive,
    plan: &'p Plan,
    /// Directories that are in the archive.
    made: BTreeSet<PathBuf>,
    left: u64,
}

impl Pack<'_> {
    /// Packs what is shown at a path, with the directories above it.
    fn shown(&mut self, path: &Path, owner: User) -> Result<(), Error> {
        let inside = Path::new("shared").join(path.strip_prefix("/").unwrap_or(path));
        let mut above: Vec<&Path> = inside.ancestors().skip(1).collect();
        above.reverse();
        for dir in above.into_iter().filter(|dir| *dir != Path::new("")) {
            if self.made.insert(dir.to_owned()) {
                self.entry(dir, Entry::directory(0o755, (0, 0)), &[])?;
            }
        }
        self.tree(path, &inside, owner)
    }

    fn tree(&mut self, from: &Path, to: &Path, owner: User) -> Result<(), Error> {
        let mut left = vec![(from.to_owned(), to.to_owned())];
        while let Some((from, to)) = left.pop() {
            let unreadable = |error| failed(format!("cannot pack {}: {error}", from.display()));
            let meta = fs::symlink_metadata(&from).map_err(unreadable)?;
            let masked = self.plan.masked.iter().any(|masked| masked.path == from);
            if meta.is_dir() {
                if self.made.insert(to.clone()) {
                    self.entry(&to, Entry::directory(meta.mode() & 0o7777, ids(owner)), &[])?;
                }
                let within = if masked {
                    None
                } else {
                    Some(fs::read_dir(&from).map_err(unreadable)?)
                };
                let within = within.into_iter().flatten().flatten();
                left.extend(within.map(|entry| (entry.path(), to.join(entry.file_name()))));
            } else {
                self.file(&from, &to, &meta, masked, owner)?;
            }
        }
        Ok(())
    }

    /// A file or a link; what is neither is not packed.
    fn file(&mut self, from: &Path, to: &Path, meta: &Metadata, masked: bool, owner: User) -> Result<(), Error> {
        let unreadable = |error| failed(format!("cannot pack {}: {error}", from.display()));
        let mode = meta.mode() & 0o7777;
        if meta.is_symlink() {
            let target = fs::read_link(from).map_err(unreadable)?;
            self.entry(to, Entry::link(ids(owner)), target.as_os_str().as_bytes())
        } else if meta.is_file() {
            let bytes = if masked {
                Vec::new()
            } else {
                fs::read(from).map_err(unreadable)?
            };
            self.entry(to, Entry::file(mode, ids(owner)), &bytes)
        } else {
            Ok(())
        }
    }

    fn entry(&mut self, to: &Path, entry: Entry, content: &[u8]) -> Result<(), Error> {
        let length = u64::try_from(content.len()).unwrap_or(u64::MAX).saturating_add(256);
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            failed("what is to be packed takes more than half of the machine's memory; show less, or give it more with `--memory`")
        })?;
        let added = self.archive.add(to.as_os_str().as_bytes(), entry, content);
        added.map_err(|error| failed(error.to_string()))
    }
}

fn ids(owner: User) -> (u32, u32) {
    (owner.uid, owner.gid)
}
