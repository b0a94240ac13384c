//! `keyferry serve`: the proxy until SIGTERM or SIGINT. A changed config file is read again, and so it
//! is on SIGHUP, which also opens the audit file anew.

use super::settings::{self, Failed};
use crate::app::{App, Options, descriptors, seed};
use crate::config::Config;
use crate::config::places::FILE_NAME;
use crate::config::watch::{Changes, watch};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The config is read again when it changes, on SIGHUP, and on `keyferry reload`. SIGTERM lets exchanges finish first.")]
pub struct ServeArgs {}

/// Serves until told to stop.
///
/// # Errors
/// When the config has mistakes, or the start fails.
pub fn run(_args: &ServeArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    settings::log("info");
    let (config, path) = settings::need_config(explicit)?;
    if config.listen.is_empty() {
        let told = format!(
            "{} has no `listen`: say where agents connect, as in `listen: [127.0.0.1:8080]`",
            path.display()
        );
        return Err(Failed::Config(told).into());
    }
    settings::block_on(serve(config, path))
}

async fn serve(config: Config, path: PathBuf) -> Result<ExitCode> {
    descriptors::raise();
    let data_dir = settings::data_dir()?;
    let options = Options {
        seed: seed::kept(&data_dir)?,
        data_dir,
        own: None,
    };
    let mut stop = Stop::watch()?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let app = App::build(config, options).await?;
    let _mark = super::reload::Mark::leave(&path)?;
    let admin = app.admin_local();
    app.start().await?;
    for (local, spoken) in app.locals() {
        settings::say(&format!("listening on {local} ({spoken})"));
    }
    if let Some(local) = admin {
        settings::say(&format!("listening on {local} (admin)"));
    }
    // A config found in the working directory may be the agent's to write: that one is read again on SIGHUP only.
    let watched = path != Path::new(FILE_NAME);
    let mut changes = watched
        .then(|| watch(&path).inspect_err(|error| tracing::warn!("{error}")).ok())
        .flatten();
    loop {
        tokio::select! {
            () = stop.asked() => break,
            _ = hang_up.recv() => {
                app.proxy.log.reopen();
                reload(&app, &path).await;
            }
            Some(()) = next(&mut changes) => reload(&app, &path).await,
        }
    }
    settings::say("stopping: no new connections; exchanges may finish");
    let cut = tokio::select! {
        cut = app.finish() => cut,
        () = stop.asked() => {
            settings::say("stopped without waiting");
            return Ok(ExitCode::FAILURE);
        }
    };
    if cut > 0 {
        settings::say(&format!("{cut} connections were ended before they finished"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn next(changes: &mut Option<Changes>) -> Option<()> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

async fn reload(app: &App, path: &Path) {
    let config = match Config::load(path) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => {
            app.proxy.metrics.reload_failures.inc();
            settings::complain(&mistakes.render(settings::colour()));
            return settings::say("the config was not reloaded: the old one stays in force");
        }
    };
    match app.reload(config).await {
        Ok(restarts) if restarts.is_empty() => settings::say("the config was reloaded"),
        Ok(restarts) => {
            let sections = restarts.join(", ");
            settings::say(&format!(
                "the config was reloaded; changes in {sections} take effect at the next start"
            ));
        }
        Err(error) => {
            settings::complain(&format!("{error:#}"));
            settings::say("the config was not reloaded: the old one stays in force");
        }
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn watch() -> Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
