//! `keyferry secret`: what is in the encrypted store. Values come from standard input, a prompt or
//! a file; never from arguments, which every user of the machine can read.

use super::settings;
use crate::app::secrets;
use crate::base::secret::Secret;
use crate::store::{EncryptedFile, KeySource};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use zeroize::Zeroizing;

/// `keyferry secret …`.
#[derive(Debug, Args)]
#[command(after_help = "\
The store is opened with a key beside it, made on first use; or with the passphrase in the file that
KEYFERRY_PASSPHRASE_FILE names; or, with KEYFERRY_STORE_KEY=keyring, with a key in the system's keyring.")]
pub struct SecretArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Store a value, in place of what was there; read from standard input or a prompt
    Set {
        /// The entry's name, as `store: NAME` in the config names it
        name: String,
        /// Read the value from this file instead
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List the names; values are never shown
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Try each secret of the config: read it, run its program, ask its service; values are never shown
    Check,
    /// Remove an entry
    Rm {
        /// The entry's name
        name: String,
    },
}

/// Runs the verb on the store in `data_dir`.
///
/// # Errors
/// When the store cannot be opened or written, or no value can be read.
pub fn run(args: SecretArgs, data_dir: &Path, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let store = EncryptedFile::new(data_dir, KeySource::from_env());
    match args.verb {
        Verb::Set { name, from_file } => {
            let bytes = match &from_file {
                Some(path) => {
                    let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
                    read_all(file).with_context(|| format!("cannot read `{}`", path.display()))?
                }
                None if isatty(io::stdin()) => prompt(&name)?,
                None => read_all(io::stdin().lock()).context("cannot read standard input")?,
            };
            store.set(&name, secret(bytes).with_context(|| format!("the value for `{name}`"))?)?;
            writeln!(io::stderr(), "stored `{name}` in `{}`", store.path().display())?;
        }
        Verb::List { json } => list(&store, json)?,
        Verb::Check => return check(data_dir, config),
        Verb::Rm { name } => {
            if !store.remove(&name)? {
                bail!("the store has no `{name}`; `keyferry secret list` shows what it has");
            }
            writeln!(io::stderr(), "removed `{name}`")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What works is told on standard output, what does not on standard error.
fn check(data_dir: &Path, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (config, _) = settings::need_config(config)?;
    let names: Vec<_> = config.secrets.iter().map(|spec| Arc::clone(&spec.name)).collect();
    let failing = settings::block_on(secrets::failing(config, data_dir))?;
    for error in &failing {
        settings::say(&error.to_string());
    }
    if failing.is_empty() {
        writeln!(io::stdout().lock(), "ok: {}", names.join(", "))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

fn list(store: &EncryptedFile, json: bool) -> anyhow::Result<()> {
    let names = store.list()?;
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &names)?;
        writeln!(out)?;
        return Ok(());
    }
    for name in names {
        writeln!(out, "{name}")?;
    }
    Ok(())
}

fn secret(mut bytes: Zeroizing<Vec<u8>>) -> anyhow::Result<Secret> {
    // Moved out of one wrapper that wipes into another.
    Ok(Secret::new(std::mem::take(&mut *bytes))?)
}

fn read_all(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    from.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
        return Err(io::Error::other(format!("a secret has at most {LONGEST} bytes")));
    }
    Ok(bytes)
}

/// Bytes of a value at most.
const LONGEST: usize = 64 * 1024;

/// Asks at the terminal, without echo.
fn prompt(name: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut err = io::stderr().lock();
    write!(err, "value for `{name}` (not shown): ")?;
    err.flush()?;
    let typed = {
        let _quiet = Quiet::new().context("cannot turn off the terminal's echo")?;
        typed(&mut io::stdin().lock())
    };
    writeln!(err)?;
    match typed? {
        Some(line) => Ok(line),
        None => bail!("nothing was stored"),
    }
}

/// One line as typed, with the usual keys to correct it; nothing when it was given up.
fn typed(keys: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut key = [0];
    while keys.read(&mut key)? == 1 {
        match key[0] {
            b'\r' | b'\n' => break,
            INTERRUPT | END => return Ok(None),
            BACKSPACE | DELETE => {
                // A whole character, as it was one key.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            KILL => line.clear(),
            byte if line.len() < LONGEST => line.push(byte),
            _ => return Err(io::Error::other(format!("a secret has at most {LONGEST} bytes"))),
        }
    }
    Ok(Some(line))
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// A terminal that shows nothing and sends each key by itself, Ctrl-C too, until this is dropped: a
/// signal in between would leave the user's terminal without echo.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SecretArgs,
    }

    fn call(dir: &Path, words: &[&str]) -> anyhow::Result<ExitCode> {
        let line = Line::try_parse_from([&["secret"], words].concat())?;
        run(line.args, dir, None)
    }

    #[test]
    fn a_value_goes_in_from_a_file_and_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let value = dir.path().join("value");
        std::fs::write(&value, "s3cret-value\n").unwrap();
        call(dir.path(), &["set", "github", "--from-file", value.to_str().unwrap()]).unwrap();
        let store = EncryptedFile::new(dir.path(), KeySource::File);
        assert!(store.get("github").unwrap().unwrap().matches(b"s3cret-value"));
        call(dir.path(), &["rm", "github"]).unwrap();
        assert!(store.list().unwrap().is_empty());
        let error = call(dir.path(), &["rm", "github"]).unwrap_err();
        assert!(error.to_string().contains("secret list"), "{error}");
    }

    #[test]
    fn a_value_is_never_taken_from_the_arguments() {
        let dir = tempfile::tempdir().unwrap();
        assert!(call(dir.path(), &["set", "github", "s3cret-value"]).is_err());
    }

    #[test]
    fn what_is_no_credential_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let value = dir.path().join("value");
        std::fs::write(&value, "s3cret\nX-Forged: yes\n").unwrap();
        let error = call(dir.path(), &["set", "k", "--from-file", value.to_str().unwrap()]).unwrap_err();
        assert!(!format!("{error:#} {error:?}").contains("s3cret"));
        assert!(!dir.path().join("secrets.age").exists());
    }

    #[test]
    fn typing_can_be_corrected_and_given_up() {
        let line = |keys: &str| typed(&mut keys.as_bytes()).unwrap().map(|line| line.to_vec());
        assert_eq!(line("abd\u{7f}c\rrest"), Some(b"abc".to_vec()));
        assert_eq!(line("né\u{8}e\n"), Some(b"ne".to_vec()));
        assert_eq!(line("wrong\u{15}right\n"), Some(b"right".to_vec()));
        assert_eq!(line("ab\u{3}"), None);
    }
}
