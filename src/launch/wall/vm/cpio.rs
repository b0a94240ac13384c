//! The archive that a kernel unpacks as its first file system (`newc`, in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// An archive being written.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// What a name in an archive is, and whose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    mode: u32,
    owner: (u32, u32),
}

impl Entry {
    /// A directory with these permissions.
    pub(super) fn directory(permissions: u32, owner: (u32, u32)) -> Self {
        let mode = 0o040_000 | permissions;
        Self { mode, owner }
    }

    /// A file with these permissions.
    pub(super) fn file(permissions: u32, owner: (u32, u32)) -> Self {
        let mode = 0o100_000 | permissions;
        Self { mode, owner }
    }

    /// A symbolic link; its content is where it leads.
    pub(super) fn link(owner: (u32, u32)) -> Self {
        let mode = 0o120_777;
        Self { mode, owner }
    }
}

const LAST: &[u8] = b"TRAILER!!!";

impl Archive {
    /// Adds an entry. What it lies in must be there already.
    ///
    /// # Errors
    /// When it is longer than 4 GiB, which the format cannot say.
    pub(super) fn add(&mut self, path: &[u8], entry: Entry, content: &[u8]) -> Result<(), TooLong> {
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| TooLong);
        self.entries += 1;
        // Number, mode, user, group, links, time, length, device, special device, length of the name, sum.
        let fields = [
            self.entries,
            entry.mode,
            entry.owner.0,
            entry.owner.1,
            1,
            0,
            length(content.len())?,
            0,
            0,
            0,
            0,
            length(path.len() + 1)?,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path);
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    /// The whole archive.
    ///
    /// # Errors
    /// Never; the last name is short.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, TooLong> {
        let last = Entry { mode: 0, owner: (0, 0) };
        self.add(LAST, last, &[])?;
        Ok(self.bytes)
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A file that the format cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a file is longer than 4 GiB")]
pub(super) struct TooLong;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    #[test]
    fn what_is_packed_is_what_cpio_unpacks() {
        let mut archive = Archive::default();
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        archive.add(b"a", Entry::directory(0o750, own), b"").unwrap();
        archive.add(b"a/odd", Entry::file(0o640, own), b"12345").unwrap();
        archive.add(b"empty", Entry::file(0o755, own), b"").unwrap();
        archive.add(b"lib64", Entry::link(own), b"lib").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("archive"), archive.finish().unwrap()).unwrap();
        let unpacked = Command::new("cpio")
            .args(["-i", "--quiet", "-F", "archive"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .status();
        assert!(
            unpacked
                .expect("cpio is not installed; scripts/test installs it")
                .success()
        );
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!((read("a/odd"), read("empty")), (b"12345".to_vec(), Vec::new()));
        let mode = |name: &str| dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("a/odd")), (0o750, 0o640));
        assert_eq!(
            std::fs::read_link(dir.path().join("lib64")).unwrap(),
            std::path::Path::new("lib")
        );
    }
}
