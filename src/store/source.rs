//! Sources that are read in one go: the environment and files.

use super::error::{Cause, LONGEST};
use crate::base::secret::{BadSecret, Secret};
use crate::config::model::SecretSpec;
use crate::sign::picked;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is to be made of the bytes that a source gives.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Whether it may be a document of several lines.
    pub(super) document: bool,
    /// Which text of it is wanted, where it is JSON.
    pub(super) field: Option<Arc<str>>,
}

impl Shape {
    pub(super) fn of(spec: &SecretSpec) -> Self {
        Self {
            document: spec.document,
            field: spec.field.clone(),
        }
    }

    /// All of it, whatever it is.
    pub(super) fn whole() -> Self {
        Self {
            document: true,
            field: None,
        }
    }

    /// The part that is wanted of what was read.
    pub(super) fn part(&self, read: &Secret) -> Option<Result<Secret, BadSecret>> {
        let field = self.field.as_deref()?;
        let part = picked::field(read, field).ok_or(BadSecret::Field);
        Some(part.and_then(|part| match part.is_line() {
            Err(why) if !self.document => Err(why),
            _ => Ok(part),
        }))
    }
}

/// One line of text, or, where that is wanted, a document of several; or the field that is wanted of it.
pub(super) fn shaped(bytes: Vec<u8>, shape: &Shape) -> Result<Secret, BadSecret> {
    match (&shape.field, shape.document) {
        (Some(_), _) => {
            let whole = Secret::either(bytes)?;
            shape.part(&whole).unwrap_or(Ok(whole))
        }
        (None, true) => Secret::either(bytes),
        (None, false) => Secret::new(bytes),
    }
}

/// Reads a variable of Keyferry's own environment.
pub(super) fn env(variable: &str, shape: &Shape) -> Result<Secret, Cause> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads a secret from the environment"
    )]
    let value = std::env::var_os(variable).ok_or_else(|| Cause::EnvUnset(variable.to_owned()))?;
    shaped(value.into_vec(), shape).map_err(|reason| Cause::EnvValue(variable.to_owned(), reason))
}

/// Reads a file that holds a value and nothing else. A pipe is waited for.
pub(super) fn file(path: &Path, shape: &Shape) -> Result<Secret, Cause> {
    value(path, File::open(path), shape)
}

/// Reads such a file where nobody may be kept waiting, as by a pipe that nobody writes to.
pub(super) fn regular(path: &Path, shape: &Shape) -> Result<Secret, Cause> {
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let opened = File::options().read(true).custom_flags(nonblock).open(path);
    let regular = opened.and_then(|file| match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is no regular file")),
    });
    value(path, regular, shape)
}

fn value(path: &Path, opened: std::io::Result<File>, shape: &Shape) -> Result<Secret, Cause> {
    let failed = |error: std::io::Error| Cause::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let file = opened.map_err(failed)?;
    // Room for all of it from the start: growing would leave copies behind that nobody wipes.
    let mut bytes = Vec::with_capacity(LONGEST + 1);
    let read = file.take(LONGEST as u64 + 1).read_to_end(&mut bytes);
    if let Err(error) = read {
        return Err(failed(error));
    }
    if bytes.len() > LONGEST {
        drop(zeroize::Zeroizing::new(bytes));
        return Err(Cause::FileLong(path.to_owned()));
    }
    shaped(bytes, shape).map_err(|reason| Cause::FileValue {
        path: path.to_owned(),
        reason,
    })
}

/// The file of a credential that systemd passes.
pub(super) fn credential(name: &str) -> Result<PathBuf, Cause> {
    #[expect(
        clippy::disallowed_methods,
        reason = "systemd tells in the environment where its credentials are"
    )]
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
    let directory = directory.filter(|path| !path.is_empty());
    Ok(Path::new(&directory.ok_or_else(|| Cause::NoCredentials(name.to_owned()))?).join(name))
}

/// Whether more than its owner may read it.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o044 != 0)
}

/// Whether it can be read again: a pipe gives its value only once.
pub(super) fn is_regular(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file())
}
