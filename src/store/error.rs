//! Why a secret cannot be had, for the operator. No message here can hold a value: none is at hand
//! where they are made.

use super::encrypted;
use crate::base::secret::BadSecret;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a secret cannot be had: which one, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("secret `{name}`: {cause}")]
pub struct Error {
    /// As the config names it.
    pub name: Arc<str>,
    /// Why.
    pub cause: Cause,
}

/// Why a secret cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// The variable is not there.
    #[error("the environment variable `{0}` is not set; set it where keyferry is started, or name another source")]
    EnvUnset(String),
    /// The variable's value is no credential.
    #[error("the environment variable `{0}`: {1}")]
    EnvValue(String, BadSecret),
    /// The file cannot be read.
    #[error("cannot read `{}`: {reason}; put the value there, readable by keyferry's user", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
    /// The file is far longer than a credential.
    #[error("`{}` is longer than {LONGEST} bytes; a secret's file holds the value and nothing else", .0.display())]
    FileLong(PathBuf),
    /// The file's content is no credential.
    #[error("`{}`: {reason}", path.display())]
    FileValue {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: BadSecret,
    },
    /// No service manager passed credentials.
    #[error(
        "systemd passes no credentials (`CREDENTIALS_DIRECTORY` is not set); add `LoadCredential={0}:PATH` to the unit, or name \
         another source"
    )]
    NoCredentials(String),
    /// The program cannot be started.
    #[error("cannot start `{program}`: {reason}; check that it is installed and in PATH")]
    ExecStart {
        /// Which program.
        program: String,
        /// The system's word.
        reason: String,
    },
    /// The program said that it failed.
    #[error("`{program}` ended with {status}; run it by hand to see why, as its messages are not kept")]
    ExecFailed {
        /// Which program.
        program: String,
        /// Exit code or signal.
        status: String,
    },
    /// The program, or something it started, still held its output when its time was up.
    #[error("`{program}` did not close its output within {after:?} and was killed; raise `timeout` if it needs longer")]
    ExecTimeout {
        /// Which program.
        program: String,
        /// How long it had.
        after: Duration,
    },
    /// The program wrote far more than a credential.
    #[error("`{program}` wrote more than {LONGEST} bytes; it must print the value and nothing else")]
    ExecLong {
        /// Which program.
        program: String,
    },
    /// What the program wrote is no credential.
    #[error("what `{program}` printed is no credential: {reason}")]
    ExecValue {
        /// Which program.
        program: String,
        /// What is wrong with it.
        reason: BadSecret,
    },
    /// What the program answered for a request is of no use.
    #[error("what `{program}` answered cannot be used: {reason}")]
    ExecAnswer {
        /// Which program.
        program: String,
        /// What is wrong with it; nothing of the answer.
        reason: String,
    },
    /// The encrypted file has no such entry.
    #[error("the encrypted store has no `{0}`; run `keyferry secret set {0}`")]
    NotStored(String),
    /// The encrypted file cannot be used.
    #[error(transparent)]
    Encrypted(Arc<encrypted::Error>),
    /// AWS does not tell this machine where its credentials are.
    #[error(
        "the environment variable `{0}` is not set, as AWS sets it where a role is given; is Keyferry's task or pod given one?"
    )]
    NotOnAws(&'static str),
    /// There is no way to a token service, or it broke off.
    #[error("cannot ask {at}: {source}")]
    Remote {
        /// Which.
        at: String,
        /// What came between.
        #[source]
        source: Arc<crate::net::Error>,
    },
    /// It did not answer in time.
    #[error("{at} did not answer within {after:?}; raise `timeout` if it needs longer")]
    RemoteTimeout {
        /// Which.
        at: String,
        /// How long it had.
        after: Duration,
    },
    /// It refused, or answered what is of no use.
    #[error("{at} answered {status}: {reason}")]
    RemoteAnswer {
        /// Which.
        at: String,
        /// The status of its answer.
        status: u16,
        /// What is wrong with it; nothing of the answer but words that a standard knows.
        reason: String,
    },
    /// The kernel has no such key, or does not give it.
    #[error(
        "the kernel's keyring under `{description}`: {reason}; put it there with `keyctl padd user DESCRIPTION @u`, in the session \
         that keyferry is started from"
    )]
    Keyring {
        /// Which key.
        description: String,
        /// Why there is none.
        reason: String,
    },
    /// The desktop's Secret Service has no such item, or does not give it.
    #[error("the Secret Service under {attributes}: {reason}")]
    SecretService {
        /// What it is looked for by.
        attributes: String,
        /// Why there is none.
        reason: &'static str,
    },
    /// What is kept there is no credential.
    #[error("what {at} keeps is no credential: {reason}")]
    NoCredential {
        /// Where.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret that it is made with cannot be had.
    #[error("it is made with secret `{name}`: {cause}")]
    MadeWith {
        /// Which.
        name: Arc<str>,
        /// Why.
        cause: Box<Cause>,
    },
    /// A secret that it is made with is not what it should be.
    #[error("it is made with secret `{name}`: {reason}")]
    MadeOf {
        /// Which.
        name: Arc<str>,
        /// What is wrong with it.
        reason: String,
    },
    /// It is at hand, and not what it is used as.
    #[error("{0}")]
    Unfit(String),
    /// The program is being stopped.
    #[error("keyferry is stopping")]
    Stopping,
    /// No secret has that id; a mistake of ours.
    #[error("no secret has this id")]
    Unknown,
}

/// Bytes of a credential at most.
pub(super) const LONGEST: usize = 64 * 1024;
