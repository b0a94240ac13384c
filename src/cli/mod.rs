//! The command line: one file per verb. Results go to stdout, the rest to stderr; exit 0 done,
//! 1 failed, 2 usage or config.

pub mod bridge;
pub mod ca;
pub mod check;
pub mod child;
pub mod completions;
pub mod demo;
pub mod explain;
pub mod firewall;
pub mod health;
pub mod init;
pub mod reload;
pub mod run;
pub mod sandbox;
pub mod schema;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod wall;

use clap::{CommandFactory, Parser, Subcommand};
use settings::Failed;
use std::path::PathBuf;
use std::process::ExitCode;

/// Stands between an AI agent and the internet, and holds its credentials for it.
#[derive(Debug, Parser)]
#[command(
    name = "keyferry",
    version,
    max_term_width = 100,
    after_help = "KEYFERRY_LOG sets the levels of the log on stderr, such as `debug` or `warn,keyferry::net=trace`."
)]
struct Cli {
    /// The config; without it ./keyferry.yaml, else the one in your config directory
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run one command behind a proxy of its own
    Run(run::RunArgs),
    /// Walls around a command: print one, to take away
    Sandbox(sandbox::SandboxArgs),
    /// Run the proxy of the config until told to stop
    Serve(serve::ServeArgs),
    /// From a TCP port inside a sandbox to Keyferry's unix or vsock socket outside
    Bridge(bridge::BridgeArgs),
    /// Check the config: every mistake at once, each with its line
    Check(check::CheckArgs),
    /// Say which rule decides over a request, and what is injected
    Explain(explain::ExplainArgs),
    /// Find the credentials on this machine, and write a config that keeps them from the agent
    Init(init::InitArgs),
    /// Show it working, with a local service that demands a credential
    Demo(demo::DemoArgs),
    /// Firewall rules that send agents that know of no proxy to Keyferry: print, apply, remove
    Firewall(firewall::FirewallArgs),
    /// The certificate authority: where it is, export it, have the system trust it
    Ca(ca::CaArgs),
    /// The encrypted store: set, list and remove secrets
    Secret(secret::SecretArgs),
    /// Print the JSON schema of the config, for editors
    Schema,
    /// Have a running `serve` read its config again, or a new process take its place
    Reload(reload::ReloadArgs),
    /// Ask the running `serve` whether it is ready, for health checks
    Health,
    /// Print what a shell needs to complete these commands
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    #[command(name = demo::AGENT_VERB, hide = true)]
    DemoAgent,
}

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    if let Some(code) = child::become_if_asked() {
        return code;
    }
    match dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            let (text, code) = match error.downcast_ref::<Failed>() {
                Some(failed) => (failed.to_string(), failed.exit_code()),
                None => (format!("{error:#}"), 1),
            };
            settings::complain(&text);
            ExitCode::from(code)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = cli.config.as_deref();
    match cli.verb {
        Verb::Run(args) => run::run(args, config),
        Verb::Sandbox(args) => sandbox::run(args, config),
        Verb::Serve(args) => serve::run(&args, config),
        Verb::Bridge(args) => bridge::run(args),
        Verb::Check(args) => check::run(&args, config),
        Verb::Explain(args) => explain::run(&args, config),
        Verb::Init(args) => init::run(&args, &settings::data_dir()?),
        Verb::Demo(args) => demo::run(&args),
        Verb::DemoAgent => demo::agent(),
        Verb::Firewall(args) => firewall::run(args, config),
        Verb::Ca(args) => ca::run(args, &settings::ca_source(config)?),
        Verb::Secret(args) => secret::run(args, &settings::data_dir()?, config),
        Verb::Schema => schema::run(),
        Verb::Health => health::run(config),
        Verb::Reload(args) => reload::run(&args, config),
        Verb::Completions { shell } => {
            completions::run(shell, &mut Cli::command())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
