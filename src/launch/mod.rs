//! What a command is started with so that it goes through Keyferry: its environment, the few files
//! that clients read instead of variables, and the process itself.
//!
//! The environment is the whole of the agreement with the agent's tools: which proxy, which CA,
//! a stand-in for each credential, and none of the caller's own credentials.

pub mod child;
pub mod confine;
pub mod environment;
mod files;
pub mod found;
mod java;
mod node;
pub mod proxy;
pub mod service;
pub mod trust;
pub mod wall;
mod withheld;

pub use child::{Exit, Tether};
pub use environment::{Environment, Given, agent_environment, behind};
pub use proxy::Proxy;
pub use withheld::{Reason, Withheld};

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// Why a command could not be given its surroundings, or not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy's address makes no sense.
    #[error("`{url}` is no proxy address: {why}; write `http://127.0.0.1:8080`")]
    Proxy {
        /// As given, without credentials.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file the command needs could not be read or written.
    #[error("{what} {}: {cause}", path.display())]
    File {
        /// `cannot read` or `cannot write`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The directory's name would have to be quoted in a way some client does not understand.
    #[error(
        "the directory {} has a quote, a backslash, a line break or non-UTF-8 bytes in its name, or is not absolute; \
         set TMPDIR to a plain absolute path",
        .0.display()
    )]
    Directory(PathBuf),
    /// A wall that this machine has not got.
    #[error("{0} is not on this machine; {1}, or choose another with `--sandbox`")]
    NoWall(&'static str, &'static str),
    /// What an engine of containers says, or that it does not.
    #[error("{0}")]
    Engine(String),
    /// A path that would give the machine away.
    #[error(
        "{} cannot be shared: through {} a command is as good as root of this machine; share what it needs beside that",
        .0.display(), .1.display()
    )]
    EngineSocket(PathBuf, PathBuf),
    /// Keyferry's own program would not run in an image.
    #[error(
        "{} needs libraries that are not found, so it runs in no image: build it for a musl target \
         (`cargo build --release --target x86_64-unknown-linux-musl`), or leave `--image` out",
        .0.display()
    )]
    NotStatic(PathBuf),
    /// A variable that an engine of containers cannot take.
    #[error(
        "the variable {} has several lines or is no UTF-8, which a container's cannot; \
         leave it out, or put it into a file and share that with `--mount`",
        .0.display()
    )]
    Variable(OsString),
    /// A virtual machine that could not be made, or did not do as it should.
    #[error("no virtual machine: {0}")]
    Machine(String),
    /// No command was given.
    #[error("no command to run; write `keyferry run -- COMMAND …`")]
    NoCommand,
    /// Nothing of that name.
    #[error("{}: no such command; is it installed, and on PATH?", .0.display())]
    NotFound(PathBuf),
    /// It is there, but may not be run.
    #[error("{}: found, but it cannot be executed; check its permissions and format", .0.display())]
    NotExecutable(PathBuf),
    /// The system would not start it.
    #[error("could not start {}: {cause}", .command.display())]
    Start {
        /// Which.
        command: OsString,
        /// What the system said.
        cause: io::Error,
    },
}

impl Error {
    /// The exit code `keyferry run` gives for it: 125, 126 or 127, as `env` and `timeout` do.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable(_) => 126,
            _ => 125,
        }
    }
}
