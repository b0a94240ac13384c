//! `keyferry bridge`: a TCP port inside a sandbox that leads to Keyferry's socket outside.

use super::settings::{self, Failed};
use crate::app::bridge::{Bridge, Far, told};
use crate::base::tasks::Tasks;
use crate::base::wire::Wire;
use crate::config::model::Bind;
use crate::launch::child::Signals;
use crate::launch::{self, Tether};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What `bridge` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a COMMAND, the command is started once the proxy answers, with the proxy variables set, and its exit code is passed
on: 125: nothing was started, 126: it cannot be executed, 127: there is none. Without one, it runs until SIGTERM.
It needs no config, no CA and no file but its own.")]
pub struct BridgeArgs {
    /// Where clients inside connect (repeatable: the second leads to the second `--to`)
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3128")]
    listen: Vec<SocketAddr>,
    /// Where Keyferry listens: `unix:/run/keyferry/proxy.sock` or `vsock:2:8080` (the host is 2)
    #[arg(long, value_name = "SOCKET", required = true)]
    to: Vec<Far>,
    /// End, and the command with it, when whoever holds this socket does; each byte there is a signal for the command
    #[arg(long, value_name = "SOCKET", hide = true)]
    lifeline: Option<Far>,
    /// The command is at a terminal, and its keys' signals reach it by themselves, though whoever starts the bridge ignores
    /// them
    #[arg(long, hide = true, requires = "lifeline")]
    foreground: bool,
    /// Processes and threads that the command and whatever it starts may have
    #[arg(long, value_name = "N", hide = true)]
    tasks: Option<u64>,
    /// Where the command may write, if not everywhere (repeatable)
    #[arg(long, value_name = "PATH", hide = true)]
    writable: Vec<PathBuf>,
    /// Connections at one time; further ones wait
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// A command to run behind the bridge
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How long connections may last once told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Bridges until told to stop, or until the command ends.
///
/// # Errors
/// When the port is taken, the proxy is not there, or the command cannot be started.
pub fn run(args: BridgeArgs) -> Result<ExitCode> {
    settings::log("warn");
    // One thread does: it only passes bytes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(bridge(args))
}

async fn bridge(args: BridgeArgs) -> Result<ExitCode> {
    if args.listen.len() != args.to.len() {
        let told = "each `--listen` leads to one `--to`: give as many of one as of the other";
        return Err(Failed::Usage(told.to_owned()).into());
    }
    let ways = args.listen.iter().zip(&args.to);
    let bridges: Result<Vec<Bridge>> = ways
        .map(|(listen, to)| Bridge::bind(&Bind::Tcp(*listen), to.clone()))
        .collect();
    let tasks = Tasks::new();
    let open = |bridges: Vec<Bridge>| {
        for bridge in bridges {
            bridge.open(args.connections.into(), &tasks);
        }
    };
    if args.command.is_empty() {
        let bridges = bridges?;
        let mut stop = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        for (bridge, to) in bridges.iter().zip(&args.to) {
            settings::say(&format!("listening on {} (bridge to {to})", bridge.local()));
        }
        open(bridges);
        let [Ok(terminate), Ok(interrupt)] = &mut stop else {
            anyhow::bail!("cannot watch for signals");
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tasks.finish(DRAIN_TIME).await;
        return Ok(ExitCode::SUCCESS);
    }
    let bridges = bridges.map_err(|error| Failed::NotStarted(format!("{error:#}")))?;
    for to in &args.to {
        reached(to).await?;
    }
    let near = bridges
        .first()
        .map(|bridge| bridge.local().to_string())
        .unwrap_or_default();
    let proxy = launch::Proxy::parse(&format!("http://{near}")).map_err(Failed::Start)?;
    open(bridges);
    let vars = launch::behind(std::env::vars_os(), &proxy);
    let tether = tether();
    let mut lifeline = held(args.lifeline.as_ref()).await?;
    bounded(&args)?;
    let signals = match &mut lifeline {
        None => Signals::Own,
        Some(lifeline) => Signals::Heard {
            lifeline,
            typed: args.foreground,
        },
    };
    let exit = launch::child::run(&args.command, vars, &tether, signals).await;
    Ok(ExitCode::from(exit.map_err(Failed::Start)?.0))
}

/// Takes from this process, and so from the command, what its wall does not leave it.
fn bounded(args: &BridgeArgs) -> Result<()> {
    args.tasks
        .map_or(Ok(()), launch::child::bound_tasks)
        .map_err(Failed::Start)?;
    if !args.writable.is_empty() {
        // On this thread, as the one that starts the command comes from it.
        launch::confine::confine(&args.writable).context("cannot say where the command may write")?;
    }
    Ok(())
}

async fn held(lifeline: Option<&Far>) -> Result<Option<Wire>, Failed> {
    match lifeline {
        Some(far) => reached(far).await.map(Some),
        None => Ok(None),
    }
}

async fn reached(far: &Far) -> Result<Wire, Failed> {
    let reached = far.reach().await;
    reached.map_err(|error| Failed::NotStarted(format!("no connection to {far}: {}", told(&error))))
}

/// The first process of a machine or a container takes all others with it when it ends, and there may be no `/proc` to
/// start ourselves from, or another program in our place there, which has loaded us.
fn tether() -> Tether {
    let first = std::process::id() == 1;
    if first || !std::fs::exists("/proc/self/exe").unwrap_or(false) {
        Tether::Loose
    } else {
        Tether::own_program()
    }
}
