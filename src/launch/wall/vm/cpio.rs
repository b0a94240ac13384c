//! The archive that a kernel unpacks as its first file system (`newc`, in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// An archive being written.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const LAST: &str = "TRAILER!!!";

impl Archive {
    /// A directory of root's. What it lies in must be there already.
    pub(super) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// A file of root's that may be executed.
    ///
    /// # Errors
    /// When it is longer than 4 GiB, which the format cannot say.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<(), TooLong> {
        u32::try_from(content.len()).map_err(|_| TooLong)?;
        self.entry(path, FILE | 0o755, content);
        Ok(())
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, target.as_bytes());
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(LAST, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        // Number, mode, user, group, links, time, length, device, special device, length of the name, sum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            length(content.len()),
            0,
            0,
            0,
            0,
            length(path.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
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
    use std::process::{Command, Stdio};

    #[test]
    fn what_is_packed_is_what_cpio_unpacks() {
        let mut archive = Archive::default();
        archive.directory("a");
        archive.file("a/odd", b"12345").unwrap();
        archive.file("empty", b"").unwrap();
        archive.link("lib64", "lib");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("archive"), archive.finish()).unwrap();
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
        assert_eq!(
            std::fs::read_link(dir.path().join("lib64")).unwrap(),
            std::path::Path::new("lib")
        );
    }
}
