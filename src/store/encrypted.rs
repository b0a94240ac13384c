//! Keyferry's own encrypted file: names and values as JSON, in the age format (age-encryption.org/v1),
//! so that the `age` tool opens it too.

use super::key::{Key, KeySource};
use crate::base::secret::{BadSecret, Secret};
use crate::base::turn::{NoTurn, Turn};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient};
use serde::ser::{Error as _, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::iter;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// Why the encrypted file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("`{}`: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        reason: io::Error,
    },
    /// There is no key, and a file that wants one.
    #[error("`{}` does not exist; bring it back, or name the file with `KEYFERRY_PASSPHRASE_FILE`", .0.display())]
    NoKey(PathBuf),
    /// The key's file holds no key.
    #[error("`{}` holds no key or passphrase; bring the right one back", .0.display())]
    BadKey(PathBuf),
    /// Others could have read the key.
    #[error("other users may read the key in `{}`; run `chmod 600` on it", .0.display())]
    KeyOpen(PathBuf),
    /// The keyring holds no key for this directory.
    #[error(
        "the system's keyring holds no key for this store (Linux empties it at each boot); remove `secrets.age` and set the secrets again, or use a passphrase"
    )]
    KeyringEmpty,
    /// The keyring cannot be used.
    #[error("the system's keyring cannot be used: {0}; unset `KEYFERRY_STORE_KEY` to use a key file")]
    Keyring(String),
    /// The key does not fit.
    #[error("{key} does not open `{}`; bring back the one it was written with", path.display())]
    WrongKey {
        /// Which file.
        path: PathBuf,
        /// Which key was tried.
        key: String,
    },
    /// It was written with the other kind of key.
    #[error("`{}` was written with {}; {}", path.display(),
        if *.passphrase { "a passphrase" } else { "a key" },
        if *.passphrase { "name its file with `KEYFERRY_PASSPHRASE_FILE`" } else { "unset `KEYFERRY_PASSPHRASE_FILE`" })]
    OtherKind {
        /// Which file.
        path: PathBuf,
        /// Whether a passphrase is wanted.
        passphrase: bool,
    },
    /// The file is damaged.
    #[error("`{}` is damaged: {reason}; bring it back from a backup, or remove it and set the secrets again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        reason: &'static str,
    },
    /// Someone else holds the lock.
    #[error("another keyferry is writing to `{}`; try again once it is done", .0.display())]
    Busy(PathBuf),
    /// No name for an entry.
    #[error("`{0}` is no name for a secret; use up to 128 letters, digits, `-`, `_`, `.` and `/`")]
    Name(String),
    /// The value is not text.
    #[error("the value of `{0}` is not UTF-8 text; keep it in a file and use `file:` in the config")]
    NotText(String),
    /// A stored value is no credential.
    #[error("the stored value of `{name}` is no credential: {reason}; set it again")]
    Value {
        /// Which entry.
        name: String,
        /// What is wrong with it.
        reason: BadSecret,
    },
}

impl Error {
    pub(super) fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason,
        }
    }
}

/// The encrypted file of one directory. Nothing is read or made before it is used.
#[derive(Debug, Clone)]
pub struct EncryptedFile {
    dir: PathBuf,
    path: PathBuf,
    key: KeySource,
}

/// What tells one state of the file from the next: inode, time of change, length.
pub type Stamp = (u64, Option<SystemTime>, u64);

impl EncryptedFile {
    /// The encrypted file in `dir`, opened with `key`.
    pub fn new(dir: &Path, key: KeySource) -> Self {
        Self {
            dir: dir.to_owned(),
            path: dir.join("secrets.age"),
            key,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores `value` under `name`, in place of what was there. The directory, the key and the file
    /// are made when they do not exist.
    ///
    /// # Errors
    /// When the name or value will not do, the lock is held, or the file cannot be opened or written.
    pub fn set(&self, name: &str, value: Secret) -> Result<(), Error> {
        check_name(name)?;
        if !value.expose(|bytes| std::str::from_utf8(bytes).is_ok()) {
            return Err(Error::NotText(name.to_owned()));
        }
        self.change(|all| {
            all.insert(name.to_owned(), value);
            true
        })?;
        Ok(())
    }

    /// The same with a value that its caller keeps.
    pub(super) fn set_shared(&self, name: &str, value: &Secret) -> Result<(), Error> {
        let copy = value.expose(|bytes| Secret::either(bytes.to_vec()));
        let copy = copy.map_err(|reason| Error::Value {
            name: name.to_owned(),
            reason,
        })?;
        self.set(name, copy)
    }

    /// Removes the entry of that name. False when there was none.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        if !self.path.exists() {
            return Ok(false);
        }
        self.change(|all| all.remove(name).is_some())
    }

    /// Stores some entries and removes those that are `gone`, in one writing.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn exchange(&self, put: Vec<(String, Secret)>, gone: impl Fn(&str, &Secret) -> bool) -> Result<(), Error> {
        for (name, _) in &put {
            check_name(name)?;
        }
        self.change(|all| {
            let before = all.len();
            all.retain(|name, value| !gone(name, value));
            let changed = all.len() < before || !put.is_empty();
            all.extend(put);
            changed
        })?;
        Ok(())
    }

    /// The value under `name`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn get(&self, name: &str) -> Result<Option<Secret>, Error> {
        Ok(self.all()?.remove(name))
    }

    /// The names there are, sorted.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        Ok(self.all()?.into_keys().collect())
    }

    /// Every entry. Without a file there are none.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn all(&self) -> Result<BTreeMap<String, Secret>, Error> {
        let sealed = match std::fs::read(&self.path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(Error::io(&self.path, error)),
        };
        let key = self.key.find(&self.dir)?;
        self.read(&self.open(&sealed, &key)?)
    }

    /// The state it is in; `None` while there is none.
    pub fn stamp(&self) -> Option<Stamp> {
        let found = std::fs::metadata(&self.path).ok()?;
        Some((found.ino(), found.modified().ok(), found.len()))
    }

    /// Reads, changes and writes under the lock, so that no writer undoes another's work.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Secret>) -> bool) -> Result<bool, Error> {
        let mut how = std::fs::DirBuilder::new();
        how.recursive(true).mode(0o700);
        how.create(&self.dir).map_err(|error| Error::io(&self.dir, error))?;
        let _lock = self.lock()?;
        let mut all = self.all()?;
        // A key is made only where there is no file yet: a new one would not open it.
        let key = if self.path.exists() {
            self.key.find(&self.dir)?
        } else {
            self.key.find_or_make(&self.dir)?
        };
        if !change(&mut all) {
            return Ok(false);
        }
        self.replace(&seal(&write(&all)?, &key).map_err(|error| Error::io(&self.path, error))?)?;
        Ok(true)
    }

    /// Held until dropped, and given up by the system when its holder dies.
    fn lock(&self) -> Result<Turn, Error> {
        let path = self.dir.join("secrets.lock");
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(false).mode(0o600);
        let file = how.open(&path).map_err(|error| Error::io(&path, error))?;
        Turn::take(&Arc::new(file), PATIENCE).map_err(|none| match none {
            NoTurn::Held => Error::Busy(path),
            NoTurn::Io(error) => Error::io(&path, error),
        })
    }

    /// The old file or the new one, never a half: written beside it, synced, and renamed over it.
    fn replace(&self, sealed: &[u8]) -> Result<(), Error> {
        let failed = |error| Error::io(&self.path, error);
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(failed)?;
        file.write_all(sealed).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    fn open(&self, sealed: &[u8], key: &Key) -> Result<Zeroizing<Vec<u8>>, Error> {
        let decryptor = Decryptor::new_buffered(sealed).map_err(|error| self.refused(&error))?;
        let passphrase = decryptor.is_scrypt();
        let scrypt;
        let identity: &dyn Identity = match key {
            Key::Pair(pair) if !passphrase => pair,
            Key::Passphrase(words) if passphrase => {
                let mut identity = age::scrypt::Identity::new(words.clone());
                identity.set_max_work_factor(MOST_WORK);
                scrypt = identity;
                &scrypt
            }
            _ => {
                return Err(Error::OtherKind {
                    path: self.path.clone(),
                    passphrase,
                });
            }
        };
        // As long as what is sealed, so that it never grows and leaves copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len() + 64));
        let mut reader = decryptor
            .decrypt(iter::once(identity))
            .map_err(|error| self.refused(&error))?;
        reader
            .read_to_end(&mut plain)
            .map_err(|_| self.damaged("its end is missing or was changed"))?;
        Ok(plain)
    }

    fn read(&self, plain: &[u8]) -> Result<BTreeMap<String, Secret>, Error> {
        let all: BTreeMap<String, String> =
            serde_json::from_slice(plain).map_err(|_| self.damaged("there is no list of secrets in it"))?;
        let entry = |(name, value): (String, String)| match Secret::either(value.into_bytes()) {
            Ok(secret) => Ok((name, secret)),
            Err(reason) => Err(Error::Value { name, reason }),
        };
        all.into_iter().map(entry).collect()
    }

    fn refused(&self, error: &DecryptError) -> Error {
        match error {
            DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed | DecryptError::DecryptionFailed => {
                Error::WrongKey {
                    path: self.path.clone(),
                    key: self.key.described(&self.dir),
                }
            }
            DecryptError::ExcessiveWork { .. } => self.damaged("its passphrase would take too long to check"),
            _ => self.damaged("it is no age file, or its head was changed"),
        }
    }

    fn damaged(&self, reason: &'static str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            reason,
        }
    }
}

/// How long to wait for another writer.
const PATIENCE: Duration = Duration::from_secs(10);

/// scrypt's N as a power of two: about half a second and 128 MiB for each guess.
const WORK: u8 = 17;

/// The most work a file may ask for, so that a planted one cannot hold us up for hours.
const MOST_WORK: u8 = 20;

fn check_name(name: &str) -> Result<(), Error> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if name.is_empty() || name.len() > 128 || !name.bytes().all(good) {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(())
}

fn seal(plain: &[u8], key: &Key) -> io::Result<Vec<u8>> {
    let scrypt;
    let pair;
    let recipient: &dyn Recipient = match key {
        Key::Pair(identity) => {
            pair = identity.to_public();
            &pair
        }
        Key::Passphrase(words) => {
            let mut recipient = age::scrypt::Recipient::new(words.clone());
            recipient.set_work_factor(WORK);
            scrypt = recipient;
            &scrypt
        }
    };
    let encryptor = Encryptor::with_recipients(iter::once(recipient)).map_err(io::Error::other)?;
    let mut sealed = Vec::with_capacity(plain.len() + 512);
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(plain)?;
    writer.finish()?;
    Ok(sealed)
}

/// The entries as JSON: here alone in this room values are opened, to be sealed at once.
fn write(all: &BTreeMap<String, Secret>) -> Result<Zeroizing<Vec<u8>>, Error> {
    // A byte takes six at most (`\u0000`): room for all, so that it never grows and leaves copies.
    let room: usize = all.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 8).sum();
    let mut plain = Zeroizing::new(Vec::with_capacity(room + 8));
    let mut json = serde_json::Serializer::new(&mut *plain);
    let written = json.serialize_map(Some(all.len())).and_then(|mut map| {
        for (name, value) in all {
            value.expose(|bytes| {
                let text = std::str::from_utf8(bytes).map_err(serde_json::Error::custom)?;
                map.serialize_entry(name, text)
            })?;
        }
        map.end()
    });
    written.map_err(|error| Error::Io {
        path: PathBuf::from("secrets.age"),
        reason: io::Error::other(error),
    })?;
    Ok(plain)
}

#[cfg(test)]
mod tests;
