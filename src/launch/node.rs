//! `NODE_OPTIONS`, and the preload for a Node that reads no proxy variable.

use super::environment::Vars;
use super::files::Files;
use std::ffi::{OsStr, OsString};

/// Run before any program of Node.
pub(super) const PRELOAD: &str = include_str!("preload.cjs");

/// The caller's options, and the preload after any of its own.
pub(super) fn options(vars: &Vars, files: &Files) -> OsString {
    // Node splits at spaces, honours double quotes, and a backslash inside them.
    let path = files
        .preload
        .to_string_lossy()
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    let mut all = vars.get(OsStr::new("NODE_OPTIONS")).cloned().unwrap_or_default();
    if !all.is_empty() {
        all.push(" ");
    }
    all.push(format!("--require=\"{path}\""));
    all
}
