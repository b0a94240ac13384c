//! `keyferry bridge`: from loopback inside a sandbox to the proxy's socket outside it.

use super::settings::{self, Failed};
use crate::base::tasks::Tasks;
use crate::launch::bridge::{Bridge, To};
use crate::launch::{self, Tether};
use anyhow::Result;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// What `bridge` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a command, the bridge stands before the command begins, and ends with it; the exit code is the command's own.
Set HTTPS_PROXY and its like to the address, as `http://ADDRESS`.")]
pub struct BridgeArgs {
    /// Where programs inside connect
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3128")]
    listen: SocketAddr,
    /// Where the proxy is: `unix:/PATH`
    #[arg(long, value_name = "PLACE")]
    to: To,
    /// A command to run beside it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Bridges until the command ends, or for ever.
///
/// # Errors
/// When the address cannot be had, or the command not be started.
pub fn run(args: BridgeArgs) -> Result<ExitCode> {
    settings::log("warn");
    settings::block_on(async move {
        let bridge = Bridge::listen(args.listen, args.to).await;
        let bridge = bridge.map_err(|error| Failed::NotStarted(error.to_string()))?;
        let tasks = Tasks::new();
        if args.command.is_empty() {
            bridge.serve(tasks).await;
            return Ok(ExitCode::SUCCESS);
        }
        tasks.spawn(bridge.serve(tasks.clone()));
        let env = std::env::vars_os().collect();
        let exit = launch::child::run(&args.command, env, &Tether::own_program()).await;
        tasks.finish(Duration::ZERO).await;
        Ok(ExitCode::from(exit.map_err(Failed::Start)?.0))
    })
}
