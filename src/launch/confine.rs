//! Landlock: the kernel's own word on where a command may write, which holds even where a wall's mounts should not.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use std::path::PathBuf;

/// What is asked of the kernel; an older one does what it can of it.
const KNOWN: ABI = ABI::V6;

/// From now on this thread, and what it starts, writes and makes files only in those places, reaches no abstract unix
/// socket of others and signals no process of theirs. What it may read and start, it still may.
///
/// Says whether the kernel does: it takes Linux 5.19, before which nothing could be moved between directories.
///
/// # Errors
/// When the kernel refuses.
pub fn confine(writable: &[PathBuf]) -> Result<bool, RulesetError> {
    let moves = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer);
    let Ok(ruleset) = moves else { return Ok(false) };
    let restricted = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(KNOWN)))?
        .add_rules(path_beneath_rules(["/dev"], AccessFs::WriteFile | AccessFs::IoctlDev))?
        // What is a process's own there; what is the machine's is mounted read-only.
        .add_rules(path_beneath_rules(["/proc"], AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(KNOWN)))?
        .restrict_self()?;
    Ok(restricted.ruleset != RulesetStatus::NotEnforced)
}
