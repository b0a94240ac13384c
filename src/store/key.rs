//! What opens the encrypted file: a key in a file beside it, a passphrase, or the system's keyring.

use super::encrypted::Error;
use age::secrecy::{ExposeSecret, SecretString};
use keyring_core::api::CredentialStoreApi;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What opens the encrypted file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A key in `secrets.key` beside it, made on first use, readable by its owner alone. It keeps
    /// secrets out of backups and commits of the one file, not from who can read the directory.
    File,
    /// A passphrase, read from this file.
    Passphrase(PathBuf),
    /// A key in the system's keyring, made on first use. Linux empties its keyring at each boot.
    Keyring,
}

/// A key at hand.
pub(super) enum Key {
    Pair(age::x25519::Identity),
    Passphrase(SecretString),
}

impl KeySource {
    /// `KEYFERRY_PASSPHRASE_FILE` names a passphrase's file; `KEYFERRY_STORE_KEY=keyring` chooses the
    /// keyring; otherwise it is a key file.
    pub fn from_env() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that chooses the store's key")]
        let (passphrase, key) = (
            std::env::var_os("KEYFERRY_PASSPHRASE_FILE"),
            std::env::var_os("KEYFERRY_STORE_KEY"),
        );
        match passphrase {
            Some(path) if !path.is_empty() => Self::Passphrase(path.into()),
            _ if key.is_some_and(|key| key == "keyring") => Self::Keyring,
            _ => Self::File,
        }
    }

    /// The key that is there.
    pub(super) fn find(&self, dir: &Path) -> Result<Key, Error> {
        match self {
            Self::File => key_file(&dir.join(KEY_FILE)),
            Self::Passphrase(path) => passphrase(path),
            Self::Keyring => {
                let missing = |error| match error {
                    keyring_core::Error::NoEntry => Error::KeyringEmpty,
                    other => Error::Keyring(other.to_string()),
                };
                let text = Zeroizing::new(keyring_entry(dir)?.get_password().map_err(missing)?);
                parse(&text).ok_or(Error::KeyringEmpty)
            }
        }
    }

    /// The key that is there, or one made now. Only to be called under the store's lock.
    pub(super) fn find_or_make(&self, dir: &Path) -> Result<Key, Error> {
        match self.find(dir) {
            Err(Error::NoKey(path)) => {
                let made = age::x25519::Identity::generate();
                write_key(&path, &made)?;
                Ok(Key::Pair(made))
            }
            Err(Error::KeyringEmpty) => {
                let made = age::x25519::Identity::generate();
                let text = made.to_string();
                keyring_entry(dir)?
                    .set_password(text.expose_secret())
                    .map_err(|error| Error::Keyring(error.to_string()))?;
                Ok(Key::Pair(made))
            }
            found => found,
        }
    }

    /// What the message says to look at when the key does not fit.
    pub(super) fn described(&self, dir: &Path) -> String {
        match self {
            Self::File => format!("the key in `{}`", dir.join(KEY_FILE).display()),
            Self::Passphrase(path) => format!("the passphrase in `{}`", path.display()),
            Self::Keyring => "the key in the system's keyring".to_owned(),
        }
    }
}

/// The file name of the key.
const KEY_FILE: &str = "secrets.key";

/// Bytes of a key or passphrase at most.
const LONGEST: u64 = 4096;

fn key_file(path: &Path) -> Result<Key, Error> {
    let text = read(path)?;
    let mode = std::fs::metadata(path)
        .map_err(|error| Error::io(path, error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Error::KeyOpen(path.to_owned()));
    }
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    line.and_then(parse).ok_or_else(|| Error::BadKey(path.to_owned()))
}

fn parse(text: &str) -> Option<Key> {
    text.trim().parse().ok().map(Key::Pair)
}

fn passphrase(path: &Path) -> Result<Key, Error> {
    let text = read(path)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Error::BadKey(path.to_owned()));
    }
    Ok(Key::Passphrase(SecretString::from(line.to_owned())))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NoKey(path.to_owned()),
        _ => Error::io(path, error),
    })?;
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(LONGEST).unwrap_or(0) + 1));
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(path, error))?;
    Ok(text)
}

fn write_key(path: &Path, key: &age::x25519::Identity) -> Result<(), Error> {
    let failed = |error| Error::io(path, error);
    let dir = path.parent().unwrap_or(Path::new("."));
    // Readable by its owner alone from the first byte on.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(key.to_string().expose_secret().as_bytes())
        .map_err(failed)?;
    file.write_all(b"\n").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// One key for each directory.
fn keyring_entry(dir: &Path) -> Result<keyring_core::Entry, Error> {
    let failed = |error: keyring_core::Error| Error::Keyring(error.to_string());
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let store = linux_keyutils_keyring_store::Store::new().map_err(failed)?;
    store.build("keyferry", &dir.to_string_lossy(), None).map_err(failed)
}

/// Takes the key for `dir` out of the keyring, as a boot does.
#[cfg(test)]
pub(super) fn forget(dir: &Path) {
    let entry = keyring_entry(dir).and_then(|e| e.delete_credential().map_err(|e| Error::Keyring(e.to_string())));
    assert!(entry.is_ok(), "{entry:?}");
}
