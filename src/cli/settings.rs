//! What every verb needs: the config, Keyferry's own directory, the runtime, and one way to complain.

use crate::config::model::CaSource;
use crate::config::{self, Config, Loaded, Mistakes};
use anyhow::{Context, Result};
use std::future::Future;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The config has mistakes; all of them are in the text.
    #[error("{0}")]
    Config(String),
    /// There is no config, and the verb needs one.
    #[error(
        "there is no keyferry.yaml here{}; `keyferry init` writes one, `--config FILE` names one",
        nor_there()
    )]
    NoConfig,
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The proxy for a command could not be built, so it was not started: 125.
    #[error("{0}")]
    NotStarted(String),
    /// A command could not be started: 125, 126 or 127.
    #[error("{0}")]
    Start(#[from] crate::launch::Error),
}

impl Failed {
    /// 2 for usage and config, 125 to 127 for a command that could not be started.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NoConfig | Self::Usage(_) => 2,
            Self::NotStarted(_) => 125,
            Self::Start(error) => error.exit_code(),
        }
    }
}

fn nor_there() -> String {
    config::users_own().map_or_else(String::new, |path| format!(", nor at {}", path.display()))
}

/// Writes an error to stderr, in red where that is seen.
#[expect(clippy::print_stderr, reason = "errors are for the person at the terminal")]
pub fn complain(text: &str) {
    if text.starts_with("error") {
        eprintln!("{text}");
        return;
    }
    let style = anstyle::Style::new()
        .bold()
        .fg_color(Some(anstyle::AnsiColor::Red.into()));
    anstream::eprintln!("{style}error{style:#}: {text}");
}

/// Writes a line to stderr.
pub fn say(text: &str) {
    anstream::eprintln!("{text}");
}

/// Whether colour is wanted on stderr.
pub fn colour() -> bool {
    std::io::stderr().is_terminal() && anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// The config to use and where it is, if there is one.
///
/// # Errors
/// When it has mistakes.
pub fn find_config(explicit: Option<&Path>) -> Result<Option<(Config, PathBuf)>> {
    let Some(path) = config::find(explicit) else {
        return Ok(None);
    };
    let Loaded { config, warnings } = Config::load(&path).map_err(|m: Mistakes| Failed::Config(m.render(colour())))?;
    if !warnings.is_empty() {
        say(warnings.render(colour()).trim_end());
    }
    Ok(Some((config, path)))
}

/// The config, which must be there.
///
/// # Errors
/// When there is none, or it has mistakes.
pub fn need_config(explicit: Option<&Path>) -> Result<(Config, PathBuf)> {
    Ok(find_config(explicit)?.ok_or(Failed::NoConfig)?)
}

/// Keyferry's own directory.
///
/// # Errors
/// When the user has no home.
pub fn data_dir() -> Result<PathBuf> {
    config::data_dir().context("there is no home directory to keep Keyferry's files in; set HOME or XDG_DATA_HOME")
}

/// The CA of the config, or the default one.
///
/// # Errors
/// When the config has mistakes, or the user has no home.
pub fn ca_source(explicit: Option<&Path>) -> Result<CaSource> {
    match find_config(explicit)? {
        Some((config, _)) => Ok(config.ca),
        None => Ok(CaSource::Dir(data_dir()?.join("ca"))),
    }
}

/// Runs async work on as many threads as there are cores.
///
/// # Errors
/// Those of the work, or when the system gives no threads.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    // A core dump would hold every secret.
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    // Nor may another process of this user, an agent's among them, read our memory or environment.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// Sends the program's own log to stderr. `KEYFERRY_LOG` chooses levels, as in `debug` or `keyferry::net=trace`.
pub fn log(default: &str) {
    let filter = tracing_subscriber::EnvFilter::builder().with_env_var("KEYFERRY_LOG");
    let filter = filter
        .with_default_directive(default.parse().unwrap_or_default())
        .from_env_lossy();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour())
        .with_target(false)
        .try_init();
}
