//! Where made-up stand-ins come from: a random seed, kept so that they stay the same from one start
//! to the next, for agents keep them in their own settings.

use anyhow::{Context, Result};
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Bytes of a seed.
const LENGTH: usize = 32;

/// A seed for this run only.
pub fn fresh() -> Result<Vec<u8>> {
    let mut seed = vec![0; LENGTH];
    aws_lc_rs::rand::fill(&mut seed).context("the system gives no randomness")?;
    Ok(seed)
}

/// 128 random bits in hex: letters and digits only, for a proxy URL is decoded by some clients and not by others.
pub fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).context("the system gives no randomness")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The seed kept in `dir`, made on first use.
pub fn kept(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join("placeholder-seed");
    if let Ok(seed) = fs::read(&path)
        && seed.len() == LENGTH
    {
        return Ok(seed);
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let seed = fresh()?;
    // Temporary files are made readable by their owner only.
    let mut file =
        tempfile::NamedTempFile::new_in(dir).with_context(|| format!("cannot write in {}", dir.display()))?;
    file.write_all(&seed)?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(seed),
        // Another Keyferry was first: its seed counts.
        Err(_) => fs::read(&path).with_context(|| format!("cannot read {}", path.display())),
    }
}
