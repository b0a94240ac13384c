//! `keyferry run -- COMMAND`: one command behind a proxy of its own.

use super::settings::{self, Failed};
use super::wall::WallArgs;
use crate::app::run::{Command, Report, prepare};
use crate::audit::Totals;
use crate::base::glob::HostPattern;
use crate::config::model::{Action, Rule, RuleLimits, Strays};
use crate::config::parent::Via;
use crate::config::{Config, presets};
use anyhow::Result;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// What `run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a config, rules come from the presets whose variables are set; whatever else is denied.
The exit code is the command's own, or 125: nothing was started, 126: it cannot be executed, 127: there is none.")]
pub struct RunArgs {
    /// Let the command reach this host, without a credential (repeatable; `*.example.com` works)
    #[arg(long, value_name = "HOST")]
    allow: Vec<String>,
    /// Which agent of the config the command is
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Leave a variable that looks like a credential in the command's environment (repeatable)
    #[arg(long, value_name = "NAME")]
    keep_env: Vec<String>,
    /// A host that the command may reach past the proxy, besides loopback (repeatable)
    #[arg(long, value_name = "HOST")]
    no_proxy: Vec<String>,
    /// Hand the command base URLs too (ANTHROPIC_BASE_URL and the like), for programs that use no proxy
    #[arg(long)]
    gateway: bool,
    #[command(flatten)]
    wall: WallArgs,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
    /// The command; an image may have one of its own
    #[arg(last = true, required_unless_present = "image", value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command and passes its exit code on.
///
/// # Errors
/// When the config has mistakes, or the command cannot be started.
pub fn run(args: RunArgs, explicit: Option<&Path>) -> Result<ExitCode> {
    settings::log("warn");
    let allowed = allowed(&args.allow)?;
    let config = match settings::find_config(explicit)? {
        Some((mut config, _)) => {
            // After the config's own rules: `--allow` adds, it does not overrule a denial.
            config.rules.extend((!allowed.is_empty()).then(|| allow_rule(allowed)));
            config
        }
        None => from_environment(&allowed)?,
    };
    let quiet = args.quiet;
    let wall = args.wall.read()?;
    let command = Command {
        wall,
        words: args.command,
        environment: std::env::vars_os().collect(),
        keep: args.keep_env,
        no_proxy: args.no_proxy,
        data_dir: settings::data_dir()?,
        agent: args.agent,
        gateway: args.gateway,
    };
    settings::block_on(async move {
        let prepared = prepare(config, command).await.map_err(unstartable)?;
        if !quiet {
            introduce(&prepared);
        }
        let report = prepared.run().await.map_err(Failed::Start)?;
        if !quiet {
            settings::say(&summary(&report.totals));
        }
        Ok(code(&report))
    })
}

/// Nothing was started: 125, whatever the cause.
fn unstartable(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<crate::launch::Error>() {
        Ok(launch) => Failed::Start(launch).into(),
        Err(error) => Failed::NotStarted(format!("{error:#}")).into(),
    }
}

fn allowed(hosts: &[String]) -> Result<Vec<HostPattern>> {
    let read = |host: &String| {
        HostPattern::parse(host)
            .map_err(|e| Failed::Usage(format!("`--allow {host}`: {e}; give a host, such as example.com")))
    };
    Ok(hosts.iter().map(read).collect::<Result<_, _>>()?)
}

fn allow_rule(hosts: Vec<HostPattern>) -> Rule {
    let action = Action::Intercept {
        inject: Vec::new(),
        plaintext: false,
        strays: Strays::Block,
        capture: None,
    };
    Rule {
        name: "--allow".into(),
        hosts,
        agents: None,
        allow: None,
        action,
        via: Via::Default,
        limits: RuleLimits::default(),
        mount: None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "which presets apply is read from the caller's environment"
)]
fn from_environment(allowed: &[HostPattern]) -> Result<Config> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let chosen = presets::for_environment(is_set);
    Ok(Config::from_presets(&chosen, allowed).map_err(|m| Failed::Config(m.render(settings::colour())))?)
}

fn introduce(prepared: &crate::app::run::Prepared) {
    let live = prepared.app.proxy.live();
    let names: Vec<&str> = live.config.rules.iter().map(|rule| &*rule.name).collect();
    let rules = if names.is_empty() {
        "none: everything is denied".to_owned()
    } else {
        names.join(", ")
    };
    settings::say(&format!("keyferry: rules: {rules}"));
    for (name, _) in &prepared.placeholders {
        settings::say(&format!("keyferry: {name} holds a placeholder"));
    }
    if let Some(wall) = prepared.around.wall() {
        settings::say(&format!("keyferry: wall: {wall}"));
    }
    if let Some(dir) = prepared.around.unwritable() {
        settings::say(&format!(
            "keyferry: the command may not write to {}: it is root's, and in a container nobody is; `chown 1000:1000` it, or \
             start Keyferry as an ordinary user",
            dir.display()
        ));
    }
    if let Some(what) = prepared.around.unbounded() {
        settings::say(&format!(
            "keyferry: the command's {what} not bounded: no control group can be made here"
        ));
    }
    super::wall::tell(&prepared.around.masked, prepared.withheld(), &prepared.placeholders);
}

/// The closing line: how many requests went, how many were denied, and why the first was.
fn summary(totals: &Totals) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let mut text = format!("keyferry: {} request{} went", totals.allowed, plural(totals.allowed));
    if totals.failed > 0 {
        text.push_str(&format!(", {} failed", totals.failed));
    }
    text.push_str(&format!(", {} denied", totals.denied));
    if let Some(first) = &totals.first_denial {
        let host = first.host.as_ref().map(ToString::to_string).unwrap_or_default();
        let reason = first.reason.as_deref().unwrap_or(first.code);
        text.push_str(&format!("; the first to {host}: {reason}"));
    }
    text
}

fn code(report: &Report) -> ExitCode {
    ExitCode::from(report.exit.0)
}
