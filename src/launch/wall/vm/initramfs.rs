//! The first file system of a machine: this program, and the modules that it loads.

use super::super::carried::Carried;
use super::cpio::{Archive, Entry};
use super::kernel::Module;
use super::{Error, failed};
use std::fs;
use std::path::Path;

/// This program, inside.
pub const PROGRAM: &str = "keyferry";
/// Where the modules are, in the order of their names.
pub const MODULES: &str = "modules";
/// Where what is needed first is mounted.
pub const PLACES: [&str; 5] = ["dev", "proc", "system", "shared", "root"];

/// The loader of a program that is not static, where such a program has it.
const LOADER: &str = "lib/ld-linux-x86-64.so.2";

/// Packs this program with what it is linked to, and the modules.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn pack(program: &Path, modules: &[Module]) -> Result<Archive, Error> {
    let root = (0, 0);
    let mut archive = Archive::default();
    let mut add = |path: &str, entry: Entry, content: &[u8]| {
        let added = archive.add(path.as_bytes(), entry, content);
        added.map_err(|error| failed(error.to_string()))
    };
    for name in PLACES.into_iter().chain([MODULES, "lib"]) {
        add(name, Entry::directory(0o755, root), &[])?;
    }
    add("lib64", Entry::link(root), b"lib")?;
    for (from, name) in &Carried::whole(program)?.files {
        let unreadable = |error| failed(format!("cannot read {}: {error}", from.display()));
        let bytes = fs::read(from).map_err(unreadable)?;
        let path = match name.as_str() {
            "keyferry" => PROGRAM.to_owned(),
            "loader" => LOADER.to_owned(),
            library => format!("lib/{library}"),
        };
        add(&path, Entry::file(0o755, root), loaded(&bytes))?;
    }
    for (at, module) in modules.iter().enumerate() {
        let path = format!("{MODULES}/{at:02}-{}", module.name);
        add(&path, Entry::file(0o644, root), &module.bytes)?;
    }
    Ok(archive)
}

/// What of a program is loaded to run it: in a build for tests, far less than its file holds.
fn loaded(elf: &[u8]) -> &[u8] {
    end_of_segments(elf).and_then(|end| elf.get(..end)).unwrap_or(elf)
}

/// Where the last loadable segment of a 64-bit ELF file ends (`Elf64_Ehdr`, `Elf64_Phdr` in elf(5)).
fn end_of_segments(elf: &[u8]) -> Option<usize> {
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = elf.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    let mut end = 0;
    for at in 0..count {
        let header = usize::try_from(table.checked_add(at * size)?).ok()?;
        if number(header, 4)? == 1 {
            end = end.max(number(header + 8, 8)?.checked_add(number(header + 0x20, 8)?)?);
        }
    }
    usize::try_from(end).ok().filter(|end| *end > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_runs_without_what_is_not_loaded_of_it() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(loaded(&own).len() < own.len(), "nothing was left out");
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        fs::write(&copy, loaded(&own)).unwrap();
        fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&copy).arg("--list").output().unwrap();
        assert!(output.status.success());
        assert_eq!(loaded(b"#!/bin/sh"), b"#!/bin/sh");
    }
}
