//! An engine's image, unpacked for a machine to have as its root.

use super::super::engine::{Caller, Engine};
use super::{Error, failed, find};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

/// An image and the engine that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    engine: Engine,
    name: String,
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (engine, name) = match text.split_once(':') {
            Some(("docker", name)) => (Engine::Docker, name),
            Some(("podman", name)) => (Engine::Podman, name),
            _ => {
                return Err("write `docker:IMAGE` or `podman:IMAGE`; a directory is given to `--rootfs` as it is");
            }
        };
        if name.is_empty() {
            return Err("an image is missing, as in `docker:debian:12`");
        }
        let name = name.to_owned();
        Ok(Self { engine, name })
    }
}

/// Unpacks an image into a directory that is not there yet, for its owner alone: an image may hold programs that would run
/// as that owner for whoever starts them.
///
/// # Errors
/// When the directory is there, the engine has no such image, or it cannot be unpacked.
pub fn unpack(from: &Source, to: &Path, caller: &Caller) -> Result<(), Error> {
    let cannot = |error: io::Error| failed(format!("cannot unpack into {}: {error}", to.display()));
    if fs::symlink_metadata(to).is_ok() {
        return Err(failed(format!(
            "{} is there already; remove it, or name another",
            to.display()
        )));
    }
    // Whatever it is told to start, it is never started.
    let made = from
        .engine
        .ask(caller, &["create", "--network", "none", "--", &from.name, "nothing"])?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(failed(format!("no container of {}: {}", from.name, said.trim())));
    }
    let container = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let parent = to
        .parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."));
    let unpacked = fs::create_dir_all(parent)
        .and_then(|()| tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent))
        .map_err(cannot)
        .and_then(|part| {
            export(from.engine, &container, part.path(), caller)?;
            // The archive has permissions for it too.
            fs::set_permissions(part.path(), fs::Permissions::from_mode(0o700)).map_err(cannot)?;
            // Whole or not at all.
            fs::rename(part.path(), to).map_err(cannot)
        });
    from.engine.ask(caller, &["rm", "--force", "--", &container])?;
    unpacked
}

/// From the engine to `tar`, without devices and without owners: inside, all is root's.
fn export(engine: Engine, container: &str, to: &Path, caller: &Caller) -> Result<(), Error> {
    let tar = find("tar", &["/bin".into()]).ok_or_else(|| failed("there is no `tar`; install it"))?;
    let broken = |error: io::Error| failed(format!("cannot unpack the image: {error}"));
    let mut exported = Command::new(engine.client()?)
        .args(["export", "--", container])
        .env_clear()
        .envs(caller.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(broken)?;
    let archive = exported
        .stdout
        .take()
        .ok_or_else(|| failed("the engine says nothing"))?;
    let unpacked = Command::new(tar)
        .args(["--extract", "--no-same-owner", "--exclude=dev/*", "--directory"])
        .arg(to)
        .stdin(archive)
        .status()
        .map_err(broken)?;
    if exported.wait().map_err(broken)?.success() && unpacked.success() {
        return Ok(());
    }
    Err(failed(
        "the image could not be unpacked; what `tar` or the engine said is above",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_image_is_named_with_its_engine() {
        let from: Source = "docker:registry.example:5000/a/b:1".parse().unwrap();
        assert_eq!(from.name, "registry.example:5000/a/b:1");
        assert_eq!("podman:x".parse::<Source>().unwrap().engine, Engine::Podman);
        for text in ["/some/dir", "debian:12", "docker:", "podman"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
