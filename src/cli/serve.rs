//! `keyferry serve`: the proxy until SIGTERM or SIGINT. A changed config file is read again, and so it
//! is on SIGHUP, which also opens the audit file anew. SIGUSR2 has a new process take its place.

use super::reload::Mark;
use super::settings::{self, Failed};
use crate::app::{App, Options, descriptors, seed};
use crate::base::tasks::Tasks;
use crate::config::Config;
use crate::config::places::FILE_NAME;
use crate::config::watch::{Changes, watch};
use crate::launch::service::Service;
use crate::listen::Inherited;
use crate::listen::handover::{self, Before};
use anyhow::{Context, Result};
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The config is read again when it changes, on SIGHUP, and on `keyferry reload`. SIGTERM lets exchanges finish first.
SIGUSR2 or `keyferry reload --upgrade` has a new process take over the listeners, and this one finish what it has begun.
It may be started by systemd with its sockets (`config/systemd/`).")]
pub struct ServeArgs {}

/// Serves until told to stop.
///
/// # Errors
/// When the config has mistakes, or the start fails.
pub fn run(_args: &ServeArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    settings::log("info");
    // Before anything is opened here: a descriptor that was passed must not be taken for it.
    let start = Start::read()?;
    let (config, path) = settings::need_config(explicit)?;
    if config.listen.is_empty() {
        let told = format!(
            "{} has no `listen`: say where agents connect, as in `listen: [127.0.0.1:8080]`",
            path.display()
        );
        return Err(Failed::Config(told).into());
    }
    settings::block_on(serve(config, path, start))
}

/// What this process was started with.
struct Start {
    service: Service,
    inherited: Inherited,
    /// The process that this one follows.
    before: Option<Before>,
}

impl Start {
    fn read() -> Result<Self> {
        let service = Service::from_env()?;
        let (inherited, before) = if service.follows {
            let taken = handover::take().context("cannot take over from the process before")?;
            (taken.0, Some(taken.1))
        } else {
            (Inherited::passed(&service.sockets)?, None)
        };
        Ok(Self {
            service,
            inherited,
            before,
        })
    }
}

async fn serve(config: Config, path: PathBuf, start: Start) -> Result<ExitCode> {
    descriptors::raise();
    let data_dir = settings::data_dir()?;
    let options = Options {
        seed: seed::kept(&data_dir)?,
        data_dir,
        own: None,
        inherited: start.inherited,
    };
    let mut stop = Stop::watch()?;
    let mut hang_up = heed(SignalKind::hangup())?;
    let mut upgrade = heed(SignalKind::user_defined2())?;
    let app = App::build(config, options).await?;
    let mut serving = Serving {
        service: Arc::new(start.service),
        mark: None,
        app,
        path,
    };
    serving.begin(start.before).await?;
    let background = Tasks::new();
    if let Some(period) = serving.service.watchdog {
        background.spawn(watchdog(Arc::clone(&serving.service), period));
    }
    // A config found in the working directory may be the agent's to write: that one is read again on SIGHUP only.
    let watched = serving.path != Path::new(FILE_NAME);
    let watched = watched.then(|| watch(&serving.path).inspect_err(|error| tracing::warn!("{error}")));
    let mut changes = watched.and_then(Result::ok);
    // How many more times it must be told to stop until it does not wait.
    let insistence = loop {
        tokio::select! {
            () = stop.asked() => {
                serving.service.notify.stopping();
                settings::say("stopping: no new connections; exchanges may finish");
                break 1;
            }
            _ = hang_up.recv() => {
                serving.app.proxy.log.reopen();
                serving.reload().await;
            }
            () = next(&mut changes) => serving.reload().await,
            _ = upgrade.recv() => if let Break(insistence) = serving.hand_over(&mut stop).await {
                break insistence;
            },
        }
    };
    let cut = tokio::select! {
        cut = serving.app.finish() => cut,
        () = stop.insisted(insistence) => {
            settings::say("stopped without waiting");
            return Ok(ExitCode::FAILURE);
        }
    };
    if cut > 0 {
        settings::say(&format!("{cut} connections were ended before they finished"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn next(changes: &mut Option<Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Tells the service manager that this process runs its tasks, for as long as it does.
async fn watchdog(service: Arc<Service>, period: Duration) {
    loop {
        service.notify.alive();
        tokio::time::sleep(period).await;
    }
}

/// A running `serve`.
struct Serving {
    app: App,
    path: PathBuf,
    service: Arc<Service>,
    mark: Option<Mark>,
}

impl Serving {
    /// Begins to serve, and tells all who want to know.
    async fn begin(&mut self, before: Option<Before>) -> Result<()> {
        let admin = self.app.admin_local();
        if before.is_none() {
            self.mark = Mark::leave(&self.path)?;
        }
        self.app.start().await?;
        if let Some(before) = before {
            let taken = tokio::task::spawn_blocking(|| before.ready()).await?;
            taken.context("the process before does not wait for this one any more")?;
            self.app.taken_over();
            // From here on nobody else serves, so this is no reason to end.
            let left = Mark::leave(&self.path);
            self.mark = left
                .inspect_err(|error| tracing::warn!("`keyferry reload`: {error:#}"))
                .ok()
                .flatten();
        }
        for (local, spoken) in self.app.locals() {
            settings::say(&format!("listening on {local} ({spoken})"));
        }
        if let Some(local) = admin {
            settings::say(&format!("listening on {local} (admin)"));
        }
        self.service.notify.ready();
        Ok(())
    }

    async fn reload(&self) {
        self.service.notify.reloading();
        self.read_again().await;
        self.service.notify.ready();
    }

    async fn read_again(&self) {
        let config = match Config::load(&self.path) {
            Ok(loaded) => loaded.config,
            Err(mistakes) => {
                self.app.proxy.metrics.reload_failures.inc();
                settings::complain(&mistakes.render(settings::colour()));
                return settings::say("the config was not reloaded: the old one stays in force");
            }
        };
        match self.app.reload(config).await {
            Ok(restarts) if restarts.is_empty() => settings::say("the config was reloaded"),
            Ok(restarts) => {
                let sections = restarts.join(", ");
                settings::say(&format!(
                    "the config was reloaded; changes in {sections} take effect at the next start, or with \
                     `keyferry reload --upgrade`"
                ));
            }
            Err(error) => {
                settings::complain(&format!("{error:#}"));
                settings::say("the config was not reloaded: the old one stays in force");
            }
        }
    }

    /// Has a new process take over, if one comes to serve.
    async fn hand_over(&mut self, stop: &mut Stop) -> ControlFlow<u32> {
        settings::say("a new process is started, to take over the listeners");
        let handed = tokio::select! {
            handed = self.app.hand_over() => handed,
            () = stop.asked() => {
                self.service.notify.stopping();
                settings::say("stopping, and the new process with it; exchanges may finish");
                return Break(1);
            }
        };
        match handed {
            Ok((successor, offer)) => {
                let pid = successor.pid();
                successor.let_go();
                self.service.notify.succeeded_by(pid);
                self.mark = None;
                // It goes on only now: what one process alone can have is free.
                drop(offer);
                settings::say(&format!("process {pid} serves now; here exchanges may finish"));
                // A stop is meant for the one that serves, and comes to all of a service's processes.
                Break(2)
            }
            Err(error) => {
                let told = format!("no new process took over: {error:#}");
                settings::complain(&told);
                settings::say("this one goes on as before");
                if let Some(mark) = &mut self.mark {
                    mark.note(&told);
                }
                Continue(())
            }
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
        Ok(Self {
            terminate: heed(SignalKind::terminate())?,
            interrupt: heed(SignalKind::interrupt())?,
        })
    }

    async fn insisted(&mut self, times: u32) {
        for _ in 0..times {
            self.asked().await;
        }
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn heed(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot watch for signals")
}
