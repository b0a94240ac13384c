//! `keyferry bridge`: a TCP port inside a sandbox that leads to Keyferry's socket outside.

use super::settings::{self, Failed};
use crate::app::bridge::{Bridge, Far, told};
use crate::base::tasks::Tasks;
use crate::config::model::Bind;
use crate::launch::{self, Tether};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::net::SocketAddr;
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
    /// Where clients inside connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3128")]
    listen: SocketAddr,
    /// Where Keyferry listens: `unix:/run/keyferry/proxy.sock` or `vsock:2:8080` (the host is 2)
    #[arg(long, value_name = "SOCKET")]
    to: Far,
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
    let bridge = Bridge::bind(&Bind::Tcp(args.listen), args.to.clone());
    let tasks = Tasks::new();
    if args.command.is_empty() {
        let bridge = bridge?;
        let mut stop = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        settings::say(&format!("listening on {} (bridge to {})", bridge.local(), args.to));
        bridge.open(args.connections.into(), &tasks);
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
    let bridge = bridge.map_err(|error| Failed::NotStarted(format!("{error:#}")))?;
    if let Err(error) = args.to.reach().await {
        let told = format!("no connection to {}: {}", args.to, told(&error));
        return Err(Failed::NotStarted(told).into());
    }
    let proxy = launch::Proxy::parse(&format!("http://{}", bridge.local())).map_err(Failed::Start)?;
    bridge.open(args.connections.into(), &tasks);
    let vars = launch::behind(std::env::vars_os(), &proxy);
    // As the first process of a machine there may be no /proc to start ourselves from.
    let tether = if std::fs::exists("/proc/self/exe").unwrap_or(false) {
        Tether::own_program()
    } else {
        Tether::Loose
    };
    let exit = launch::child::run(&args.command, vars, &tether).await;
    Ok(ExitCode::from(exit.map_err(Failed::Start)?.0))
}
