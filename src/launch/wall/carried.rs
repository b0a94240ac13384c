//! Keyferry's own program, as it is carried into an image that holds nothing it could need.
//!
//! A static one is a file that runs anywhere. One that is linked against a C library brings that along, and is started by
//! the library's own loader: so nothing has to be built, fetched or set up by hand for `run` to work with any image.

use super::super::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is shown inside of Keyferry's program, and how it is started there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Files of the machine's, and their names in [`DIR`].
    pub files: Vec<(PathBuf, String)>,
    /// Program and first arguments.
    pub words: Vec<String>,
}

/// Where they are, inside.
pub const DIR: &str = "/run/keyferry/bin";

impl Carried {
    /// The program alone: for where the machine's own libraries are shown too.
    pub fn alone(program: &Path) -> Self {
        Self {
            files: vec![(program.to_owned(), "keyferry".into())],
            words: vec![format!("{DIR}/keyferry")],
        }
    }

    /// The program, with what it needs to run where there is nothing else.
    ///
    /// # Errors
    /// When it cannot be read, or a library that it is linked against is not found.
    pub fn whole(program: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::File {
            what: "cannot read",
            path: program.to_owned(),
            cause,
        };
        let mut carried = Self::alone(program);
        let Some(loader) = loader(program).map_err(failed)? else {
            return Ok(carried);
        };
        let maps = fs::read_to_string("/proc/self/maps").map_err(failed)?;
        let libraries = libraries(&maps);
        if libraries.is_empty() {
            return Err(Error::NotStatic(program.to_owned()));
        }
        carried.files.push((loader, "loader".into()));
        carried.files.extend(libraries);
        carried.words = [
            &format!("{DIR}/loader"),
            "--library-path",
            DIR,
            &format!("{DIR}/keyferry"),
        ]
        .map(ToOwned::to_owned)
        .into();
        Ok(carried)
    }
}

/// The program that an ELF file names to load it (`PT_INTERP`); a static one names none.
fn loader(program: &Path) -> io::Result<Option<PathBuf>> {
    let mut file = fs::File::open(program)?;
    let mut head = [0; 64];
    file.read_exact(&mut head)?;
    if !head.starts_with(b"\x7fELF\x02") {
        return Err(io::Error::other("it is no 64-bit ELF file"));
    }
    let (at, size, count) = (word(&head, 32, 8), word(&head, 54, 2), word(&head, 56, 2));
    let mut table = vec![0; usize::try_from(size.saturating_mul(count).min(1 << 16)).unwrap_or_default()];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut table)?;
    let entries = table.chunks_exact(usize::try_from(size.max(1)).unwrap_or(1));
    let Some(named) = entries.into_iter().find(|entry| word(entry, 0, 4) == PT_INTERP) else {
        return Ok(None);
    };
    let mut name = Vec::new();
    file.seek(SeekFrom::Start(word(named, 8, 8)))?;
    file.take(word(named, 32, 8).min(4096)).read_to_end(&mut name)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    fs::canonicalize(OsStr::from_bytes(name)).map(Some)
}

/// A number of so many bytes, in the machine's order; 0 beyond the end.
fn word(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut whole = [0; 8];
    let found = bytes.get(at..at + size).unwrap_or_default();
    for (to, from) in whole.iter_mut().zip(found) {
        *to = *from;
    }
    u64::from_le_bytes(whole)
}

/// The libraries that this process runs on: those of its list that lie where one is mapped.
fn libraries(maps: &str) -> Vec<(PathBuf, String)> {
    let mapped = maps.lines().filter_map(|line| line.splitn(6, ' ').nth(5));
    let mut dirs: Vec<&Path> = mapped
        .map(|path| Path::new(path.trim()))
        .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"lib")))
        .filter_map(Path::parent)
        .collect();
    dirs.dedup();
    let find = |name: &&str| dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    let found = LIBRARIES
        .iter()
        .filter_map(|name| Some((find(name)?, (*name).to_owned())));
    found.collect()
}

/// What a Rust program is linked against, with C libraries old and new.
const LIBRARIES: &[&str] = &[
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
];

const PT_INTERP: u64 = 3;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[test]
    fn what_is_carried_runs_where_nothing_else_is() {
        // This test's own program is linked as Keyferry is.
        let carried = Carried::whole(&std::env::current_exe().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (from, name) in &carried.files {
            fs::copy(from, dir.path().join(name)).unwrap();
        }
        let words: Vec<String> = carried
            .words
            .iter()
            .map(|word| word.replace(DIR, dir.path().to_str().unwrap()))
            .collect();
        let (program, arguments) = words.split_first().unwrap();
        let output = Command::new(program)
            .args(arguments)
            .args(["--list", "no such test"])
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        if words.len() > 1 {
            let shown = Command::new(dir.path().join("loader"))
                .args(["--library-path", dir.path().to_str().unwrap(), "--list"])
                .arg(dir.path().join("keyferry"))
                .output()
                .unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            for line in shown.lines().filter(|line| line.contains("=> ")) {
                assert!(line.contains(dir.path().to_str().unwrap()), "from elsewhere: {shown}");
            }
        }
    }

    #[test]
    fn what_is_no_program_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "#!/bin/sh\n".repeat(20)).unwrap();
        assert!(Carried::whole(file.path()).unwrap_err().to_string().contains("ELF"));
    }
}
