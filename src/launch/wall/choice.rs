//! Which walls can be had on this machine, found out by trying.

use super::super::Error;
use super::engine::{Caller, Engine, output, refusal};
use super::{Kind, bwrap, gvisor};
use std::path::Path;
use std::process::Command;

/// The first of these that can be had, and why those before it cannot.
///
/// # Errors
/// With why each of them cannot be had.
pub fn first(kinds: &[Kind], caller: &Caller, data_dir: &Path) -> Result<(Kind, Vec<String>), Error> {
    let mut not = Vec::new();
    for kind in kinds {
        match works(*kind, caller, data_dir) {
            Ok(()) => return Ok((*kind, not)),
            Err(why) => not.push(format!("{}: {why}", kind.name())),
        }
    }
    Err(Error::Engine(format!(
        "no wall can be had here; `--sandbox none` does without\n  {}",
        not.join("\n  ")
    )))
}

/// Whether a wall of this kind can be had, without an image's being there.
fn works(kind: Kind, caller: &Caller, data_dir: &Path) -> Result<(), Error> {
    match kind {
        Kind::Bwrap => namespaces(),
        Kind::Container(engine) => answers(engine, caller),
        // It takes long to start, so only who asks for it by name gets it.
        Kind::Machine | Kind::Seatbelt => Err(Error::Engine("it is not tried".into())),
        Kind::Gvisor => gvisor::platform(caller, &data_dir.join(gvisor::KNOWN)).map(drop),
    }
}

fn namespaces() -> Result<(), Error> {
    let program = bwrap::find().ok_or(Error::NoWall("bubblewrap", "install the package `bubblewrap`"))?;
    let mut command = Command::new(program);
    command.args([
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--ro-bind",
        "/",
        "/",
    ]);
    command
        .args(["--proc", "/proc", "--dev", "/dev", "--", "/bin/true"])
        .env_clear();
    let tried = output(&mut command, None).map_err(|e| Error::Engine(e.to_string()))?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    Err(Error::Engine(format!(
        "this machine lets it make no namespaces: {said}"
    )))
}

fn answers(engine: Engine, caller: &Caller) -> Result<(), Error> {
    let words: &[&str] = match engine {
        Engine::Docker | Engine::DockerGvisor => &["version", "--format", "{{.Server.Version}}"],
        // It has no server.
        Engine::Podman => &["info", "--format", "{{.Version.Version}}"],
    };
    let told = engine.ask(caller, words)?;
    if told.status.success() {
        Ok(())
    } else {
        Err(refusal(engine, "", &told))
    }
}
