//! Where files are: the config itself, Keyferry's own directory, and the paths a config names.

use etcetera::BaseStrategy as _;
use std::path::{Path, PathBuf};

/// The config's name, in the working directory and in the user's.
pub const FILE_NAME: &str = "keyferry.yaml";

/// The config to use: the one named, else the one in the working directory, else the user's own.
/// A file that was named is returned even if it is not there, so that loading it tells.
pub fn find(explicit: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = explicit {
        return Some(path.to_owned());
    }
    [Some(PathBuf::from(FILE_NAME)), users_own()]
        .into_iter()
        .flatten()
        .find(|path| path.is_file())
}

/// Where the user's own config is looked for. `None` when the user has no home.
pub fn users_own() -> Option<PathBuf> {
    let dirs = etcetera::choose_base_strategy().ok()?;
    Some(dirs.config_dir().join("keyferry").join(FILE_NAME))
}

/// Keyferry's own directory, where the CA and the encrypted store live: `keyferry` below
/// `$XDG_DATA_HOME` or `~/.local/share`. `None` when the user has no home.
pub fn data_dir() -> Option<PathBuf> {
    let dirs = etcetera::choose_base_strategy().ok()?;
    Some(dirs.data_dir().join("keyferry"))
}

/// A path as a config names it: `~` is the user's home, and a relative path starts from the
/// directory the config is in, so that it means the same from wherever Keyferry is started.
pub(super) fn resolve(written: &str, base: &Path) -> Option<PathBuf> {
    let rest = match written.strip_prefix('~') {
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('/'),
        None => None,
    };
    match rest {
        Some(rest) => Some(etcetera::home_dir().ok()?.join(rest)),
        None if written.starts_with('~') => None,
        None => Some(base.join(written)),
    }
}
