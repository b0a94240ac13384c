//! The credentials lying about where an agent could read them: in variables, in the files of tools,
//! in `.env` files.
//!
//! Looking reads values, since only they tell a token from an empty line, but what is found carries
//! them as [`Secret`]s and nothing here writes one down.

mod accounts;
mod registries;
mod standing;
mod variables;
mod written;

pub use written::Plan;

use crate::base::secret::Secret;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where to look.
#[derive(Debug, Clone)]
pub struct Around {
    /// The user's home.
    pub home: PathBuf,
    /// The current directory.
    pub here: PathBuf,
    /// The caller's variables.
    pub vars: BTreeMap<OsString, OsString>,
}

impl Around {
    /// The caller's own home, directory and variables; `None` when it has no home or no directory.
    pub fn caller() -> Option<Self> {
        let vars: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let home = vars.get(OsStr::new("HOME")).filter(|home| !home.is_empty())?;
        Some(Self {
            home: home.into(),
            here: std::env::current_dir().ok()?,
            vars,
        })
    }
}

/// One credential, or one file that holds some.
#[derive(Debug)]
pub struct Found {
    /// Where it lies.
    pub place: Place,
    /// What can be done about it.
    pub fate: Fate,
}

/// Where a credential lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a variable of the caller.
    Variable(String),
    /// In a file; `entry` says where in it, and may be empty.
    File {
        /// Which.
        path: PathBuf,
        /// The part of it, such as a host or a key.
        entry: String,
    },
}

/// What can be done about a credential.
#[derive(Debug)]
pub enum Fate {
    /// Keyferry can put it into requests, so the agent need not have it.
    Moves(Box<Move>),
    /// The user has to see to it, in these words.
    Stays(&'static str),
}

/// How a credential is moved out of the agent's reach.
#[derive(Debug)]
pub struct Move {
    /// What the config calls it.
    pub name: String,
    /// Its value.
    pub value: Secret,
    /// Where Keyferry can read it as it lies.
    pub source: Origin,
    /// What it is for.
    pub rule: Use,
    /// The variables in which a tool expects it, for the stand-in.
    pub variables: Vec<String>,
}

/// Where Keyferry reads a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In its own environment.
    Variable(String),
    /// In a file that holds nothing else.
    File(PathBuf),
    /// Nowhere: it stands among other text, and has to be copied into the encrypted file.
    Copied,
}

/// What a credential is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// A service Keyferry has a preset for.
    Preset(String),
    /// One host.
    Host {
        /// Which, with a port if it is not a usual one.
        host: String,
        /// How it is shown there.
        shown: Shown,
    },
}

/// How a credential is shown to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `Authorization: Basic …` with this user.
    Basic(String),
    /// `Authorization: Basic …` with the pair already encoded.
    Encoded,
}

/// Looks everywhere; variables first, as the first one found for a service is the one used.
pub fn look(around: &Around) -> Vec<Found> {
    let mut found = variables::of_caller(around);
    found.extend(variables::of_env_files(around));
    found.extend(accounts::look(around));
    found.extend(registries::look(around));
    found.extend(standing::look(around));
    found
}

impl Found {
    fn stays(path: &Path, entry: impl Into<String>, advice: &'static str) -> Self {
        Self {
            place: Place::File {
                path: path.into(),
                entry: entry.into(),
            },
            fate: Fate::Stays(advice),
        }
    }

    /// One in a file among other text; nothing when the value is empty or refers to a variable.
    fn copied(path: &Path, entry: &str, value: &str, rule: Use) -> Option<Self> {
        let name = match &rule {
            Use::Preset(name) => name.clone(),
            Use::Host { host, .. } => slug(host),
        };
        let variables = match &rule {
            Use::Preset(name) => variables::of_preset(name),
            Use::Host { .. } => Vec::new(),
        };
        let fate = Fate::Moves(Box::new(Move {
            name,
            value: secret(value)?,
            source: Origin::Copied,
            rule,
            variables,
        }));
        let place = Place::File {
            path: path.into(),
            entry: entry.to_owned(),
        };
        Some(Self { place, fate })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "${name}"),
            Self::File { path, entry } if entry.is_empty() => write!(f, "{}", path.display()),
            Self::File { path, entry } => write!(f, "{} ({entry})", path.display()),
        }
    }
}

/// A value that is one, and not a reference such as `${TOKEN}`.
fn secret(value: &str) -> Option<Secret> {
    let value = value.trim();
    let reference =
        value.starts_with("${") || value.starts_with("$(") || (value.starts_with('<') && value.ends_with('>'));
    if reference {
        return None;
    }
    Secret::new(value.as_bytes().to_vec()).ok()
}

/// A file's text, if it is a readable file of a sensible size.
fn text(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
    if size > LARGEST {
        return None;
    }
    std::fs::read(path)
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Lower-case letters, digits and dashes.
fn slug(name: &str) -> String {
    let dashed: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    dashed.trim_matches('-').to_owned()
}

/// A path from a variable, or a default below the home.
fn path_from(around: &Around, variable: &str, default: &str) -> PathBuf {
    let set = around.vars.get(OsStr::new(variable)).filter(|value| !value.is_empty());
    set.map_or_else(|| around.home.join(default), PathBuf::from)
}

/// No file of a tool's credentials comes near this.
const LARGEST: u64 = 1 << 20;
