//! From a file to a checked config.

use super::check;
use super::mistakes::Mistakes;
use super::model::Config;
use super::raw::RawConfig;
use super::read::{Findings, Read};
use super::tree;
use std::path::Path;

/// A config that loaded, and what is odd about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What loads but is hardly meant.
    pub warnings: Mistakes,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or holds one mistake or more: all of them are told.
    pub fn load(path: &Path) -> Result<Loaded, Mistakes> {
        let unreadable = |why: &dyn std::fmt::Display| {
            let message = format!("cannot read `{}`: {why}", path.display());
            Mistakes::whole(path, message, "`keyferry init` writes a config to start from")
        };
        let size = std::fs::metadata(path).map_err(|e| unreadable(&e))?.len();
        if size > LARGEST {
            return Err(unreadable(&format_args!("it is larger than {} MiB", LARGEST >> 20)));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(&e))?;
        Self::parse(&text, path)
    }

    /// Checks `text`; relative paths in it start from the directory of `origin`.
    ///
    /// # Errors
    /// When it holds one mistake or more: all of them are told.
    pub fn parse(text: &str, origin: &Path) -> Result<Loaded, Mistakes> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let tree = tree::read(text).map_err(|m| Mistakes::errors(vec![m], origin, text))?;
        let mut found = Findings::new(text);
        let base = origin.parent().unwrap_or_else(|| Path::new(""));
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let config = RawConfig::read(&tree, &mut found).and_then(|raw| check::config(&raw, &base, &mut found));
        match config {
            Some(config) if found.errors.is_empty() => Ok(Loaded {
                config,
                warnings: Mistakes::warnings(found.warnings, origin, text),
            }),
            _ => Err(Mistakes::errors(found.errors, origin, text)),
        }
    }
}

/// No config comes near; a larger file is not one.
const LARGEST: u64 = 16 << 20;
