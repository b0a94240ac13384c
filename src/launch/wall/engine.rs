//! Docker and Podman, asked by their own client: whether they are there, what an image is, and what is left to remove.

use super::super::Error;
use super::daemon::Daemon;
use super::mark::Mark;
use super::skeleton;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// An engine that runs containers, and whose kernel they run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Docker, on the machine's kernel.
    Docker,
    /// Podman, on the machine's kernel.
    Podman,
    /// Docker, with gVisor's runtime.
    DockerGvisor,
}

/// An image, as its engine has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// What it is called.
    pub name: String,
    /// What it starts, before a command's own words.
    pub entrypoint: Vec<String>,
    /// The words where none are given.
    pub command: Vec<String>,
    /// Where it would have places of its own on the disk.
    pub volumes: Vec<String>,
}

/// Variables of whoever asks: an engine's client finds its daemon by them.
pub type Caller = Vec<(OsString, OsString)>;

/// What a container is marked with.
pub const LABEL: &str = "keyferry.run";
/// How long an engine may think.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

impl Engine {
    /// Its client's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker | Self::DockerGvisor => "docker",
            Self::Podman => "podman",
        }
    }

    /// The wall's name.
    pub fn wall(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::DockerGvisor => "gvisor",
        }
    }

    /// Where its client is, on a path that no caller's `PATH` leads astray.
    ///
    /// # Errors
    /// When it is not there.
    pub fn client(self) -> Result<PathBuf, Error> {
        let found = find(self.program());
        found.ok_or(match self {
            Self::Docker | Self::DockerGvisor => Error::NoWall("Docker", "install the package `docker.io`"),
            Self::Podman => Error::NoWall("Podman", "install the package `podman`"),
        })
    }

    pub(super) fn ask(self, caller: &Caller, words: &[&str]) -> Result<Output, Error> {
        let mut command = Command::new(self.client()?);
        command
            .args(words)
            .env_clear()
            .envs(caller.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        output(&mut command, None).map_err(|cause| self.silent(&cause))
    }

    /// What its daemon answers by itself, where it has one that can be asked.
    pub(super) fn told<T: DeserializeOwned>(self, caller: &Caller, path: &str) -> Option<T> {
        match self {
            Self::Docker | Self::DockerGvisor => Daemon::of(caller)?.get(path),
            Self::Podman => None,
        }
    }

    fn silent(self, cause: &io::Error) -> Error {
        Error::Engine(format!("`{}` does not answer: {cause}", self.program()))
    }
}

/// A question that is answered while something else is done.
#[derive(Debug)]
pub struct Looking(JoinHandle<Result<Found, Error>>);

/// What a wall needs to know before it is built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// An engine's image.
    pub image: Option<Image>,
    /// gVisor's platform.
    pub platform: &'static str,
}

impl Looking {
    /// Asks an engine for an image, or for one to show the machine's own programs in, which is made if need be.
    pub fn image(engine: Engine, image: Option<String>, caller: Caller) -> Self {
        Self(thread::spawn(move || {
            if engine == Engine::DockerGvisor {
                super::gvisor::registered(&caller)?;
            }
            let found = look(engine, image.as_deref(), &caller)?;
            Ok(Found {
                image: image.map(|_| found),
                platform: "",
            })
        }))
    }

    /// Finds out which of gVisor's platforms works; `known` is the file that keeps the answer.
    pub fn platform(caller: Caller, known: PathBuf) -> Self {
        Self(thread::spawn(move || {
            Ok(Found {
                image: None,
                platform: super::gvisor::platform(&caller, &known)?,
            })
        }))
    }

    /// The answer.
    ///
    /// # Errors
    /// When the engine does not answer, or has no such image; or gVisor does not run here.
    pub fn end(self) -> Result<Found, Error> {
        let lost = || Err(Error::Engine("the thread that asks the engine ended".into()));
        self.0.join().unwrap_or_else(|_| lost())
    }
}

/// Finds the image; its own configuration is JSON of the same form with both engines.
fn look(engine: Engine, image: Option<&str>, caller: &Caller) -> Result<Image, Error> {
    let own = skeleton::tag();
    let name = image.unwrap_or(&own);
    if let Some(told) = engine.told::<Inspected>(caller, &format!("/images/{name}/json")) {
        return Ok(told.config.unwrap_or_default().of(name));
    }
    let mut inspected = engine.ask(
        caller,
        &["image", "inspect", "--format", "{{json .Config}}", "--", name],
    )?;
    if image.is_none() && is_absent(&inspected) {
        import(engine, &own, caller)?;
        inspected = engine.ask(
            caller,
            &["image", "inspect", "--format", "{{json .Config}}", "--", name],
        )?;
    }
    if !inspected.status.success() {
        return Err(refusal(engine, name, &inspected));
    }
    let config: Option<ImageConfig> = serde_json::from_slice(&inspected.stdout)
        .map_err(|e| Error::Engine(format!("`{} image inspect {name}`: {e}", engine.program())))?;
    Ok(config.unwrap_or_default().of(name))
}

/// What Docker's daemon says of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    config: Option<ImageConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

impl ImageConfig {
    fn of(self, name: &str) -> Image {
        Image {
            name: name.to_owned(),
            entrypoint: self.entrypoint.unwrap_or_default(),
            command: self.cmd.unwrap_or_default(),
            volumes: self.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

fn import(engine: Engine, tag: &str, caller: &Caller) -> Result<(), Error> {
    let mut command = Command::new(engine.client()?);
    command
        .args(["import", "-", tag])
        .env_clear()
        .envs(caller.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped());
    let imported = output(&mut command, Some(skeleton::tar())).map_err(|cause| engine.silent(&cause))?;
    if imported.status.success() {
        return Ok(());
    }
    Err(refusal(engine, tag, &imported))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn is_absent(output: &Output) -> bool {
    let said = said(output).to_ascii_lowercase();
    !output.status.success() && (said.contains("no such image") || said.contains("image not known"))
}

/// What an engine's refusal means, and what to do about it.
pub(super) fn refusal(engine: Engine, image: &str, output: &Output) -> Error {
    let said = said(output);
    let lower = said.to_ascii_lowercase();
    let program = engine.program();
    Error::Engine(if is_absent(output) {
        format!(
            "there is no image `{image}` here; fetch it with `{program} pull {image}`, or name another with `--image`"
        )
    } else if lower.contains("permission denied") {
        format!(
            "you may not use {program}'s daemon; have root add you to its group (whoever is in it is as good as root), or \
             choose another wall, such as `--sandbox bwrap`"
        )
    } else if lower.contains("cannot connect") || lower.contains("is the docker daemon running") {
        format!(
            "{program}'s daemon does not answer; start it (`systemctl start {program}`), or say where it is with \
             DOCKER_HOST: {}",
            said.lines().next().unwrap_or_default()
        )
    } else {
        format!("{program} refuses: {}", said.lines().next_back().unwrap_or_default())
    })
}

/// Removes a container, if it is there.
pub fn remove(engine: Engine, name: &str, caller: &Caller) {
    let _ = engine.ask(caller, &["rm", "--force", "--volumes", "--", name]);
}

/// Removes the containers of Keyferrys that were killed. It takes as long as the engine does, so it is nobody's to wait for.
pub fn sweep(engine: Engine, caller: &Caller) {
    for (id, mark) in marked(engine, caller) {
        if mark.trim().parse::<Mark>().is_ok_and(|mark| mark.is_gone()) {
            remove(engine, &id, caller);
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    labels: BTreeMap<String, String>,
}

/// Each container with a mark, and the mark.
fn marked(engine: Engine, caller: &Caller) -> Vec<(String, String)> {
    // `{"label":["…"]}`, percent-encoded.
    let path = format!("/containers/json?all=true&filters=%7B%22label%22%3A%5B%22{LABEL}%22%5D%7D");
    if let Some(listed) = engine.told::<Vec<Listed>>(caller, &path) {
        let of = |mut one: Listed| Some((one.id, one.labels.remove(LABEL)?));
        return listed.into_iter().filter_map(of).collect();
    }
    let label = format!("label={LABEL}");
    let written = match engine {
        Engine::Docker | Engine::DockerGvisor => ".Label",
        Engine::Podman => "index .Labels",
    };
    let format = format!("{{{{.ID}}}} {{{{{written} \"{LABEL}\"}}}}");
    let words = ["ps", "--all", "--no-trunc", "--filter", &label, "--format", &format];
    let listed = engine
        .ask(caller, &words)
        .map(|listed| listed.stdout)
        .unwrap_or_default();
    let lines = String::from_utf8_lossy(&listed);
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(id, mark)| (id.to_owned(), mark.to_owned())).collect()
}

/// Where an administrator's program is.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let dirs = [
        "/usr/bin",
        "/usr/local/bin",
        "/bin",
        "/run/current-system/sw/bin",
        "/snap/bin",
    ];
    dirs.iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.is_file())
}

/// Runs it to its end, and no longer than an engine may think.
pub(super) fn output(command: &mut Command, input: Option<Vec<u8>>) -> io::Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_child(&child);
    let stdin = child.stdin.take();
    let (sent, received) = mpsc::channel();
    thread::spawn(move || {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            let _ = stdin.write_all(&input);
        }
        let _ = sent.send(Child::wait_with_output(child));
    });
    received.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"))
    })
}
